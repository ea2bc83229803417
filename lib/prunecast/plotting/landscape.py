"""Figures of the three regimes."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunecast.plotting.style import GREY, LEVEL, MARKERS, PALETTE, draw_series, finish

PANELS = {"test_error": "error after pruning", "lmc": "linear mode connectivity", "cka": "CKA of the outputs"}
COLOURS = {"test_error": "rocket_r", "lmc": "mako", "cka": "mako"}
LINE: dict[str, Any] = {"color": "black", "linewidth": 1.6}


def draw_diagram(table: pd.DataFrame, temperature: str) -> Figure:
    """Draw a grid as heat maps: error, connectivity, similarity and regime; black lines are the boundaries.

    Args:
        table: Cells of one kind, from hot to cold, with `regime`, empty where a figure is missing, and `agreement`, the
            share of resampled boundaries that give the same regime. A missing cell is hatched.
        temperature: Label of the vertical axis, with what is hot and cold.

    Returns:
        The figure.
    """
    figure, square = plt.subplots(2, 2, figsize=(7.2, 5.2), sharex=True, sharey=True, layout="constrained")
    panels = square.ravel()
    order = list(dict.fromkeys(table["temperature"]))
    regimes = _square(table, "regime", order)
    for panel, (column, title) in zip(panels, PANELS.items(), strict=False):
        _heat(panel, _square(table, column, order), COLOURS[column], title)
    shares = _square(table, "agreement", order)
    shares = shares.where(regimes != "")
    labels = regimes + "\n" + (shares * 100).map("{:.0f}".format)
    _heat(panels[3], shares, "Greys", "regime, % that agree", labels.to_numpy(), vmin=0, vmax=2)
    for panel in panels:
        _outline(panel, regimes)
        panel.set(xlabel="", ylabel="", yticklabels=[f"{value:g}" for value in order])
        panel.tick_params(axis="y", rotation=0)
    _ = figure.supxlabel("density, share of the weights left"), figure.supylabel(temperature)
    return figure


def draw_boundaries(
    table: pd.DataFrame, boundaries: tuple[float, float], resampled: Sequence[tuple[float, float]]
) -> Figure:
    """Draw cells by connectivity and similarity, by the direction in which their best temperature lies.

    Args:
        table: Cells with `lmc`, `cka` and `direction`.
        boundaries: Learned boundaries of connectivity and of similarity, drawn thick.
        resampled: The same from resampled grids, drawn thin.

    Returns:
        The figure.
    """
    marks = table.assign(series=table["direction"]).sort_values("series").dropna(subset=["lmc", "cka"])
    grid = draw_series(marks, "lmc", "cka", kind="scatter", height=3.4, aspect=1.5)
    left, right = grid.ax.get_xlim()
    for each, style in [*((each, {"color": GREY, "alpha": 0.08}) for each in resampled), (boundaries, LINE)]:
        grid.ax.axvline(each[0], **style)
        grid.ax.plot([each[0], right], [each[1], each[1]], **style)
    grid.ax.set_xlim(left, right)
    return finish(grid, "linear mode connectivity", "CKA of the outputs")


def draw_schedules(table: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Draw the error after pruning against the epochs of the dense network, a panel a density, a line a schedule.

    Args:
        table: Cells of several kinds of temperature, all counted in epochs; densities of one kind alone are left out.
        labels: Label of each kind, in the order of the legend.

    Returns:
        The figure.
    """
    known = table[table["temperature_kind"].isin(labels)].sort_values("temperature")
    known = known[known.groupby("density")["temperature_kind"].transform("nunique") > 1]
    rows = known.assign(series=known["temperature_kind"].map(labels), panel=known["density"].map("density {:g}".format))
    shown = rows.sort_values(["density", "temperature"]).sort_values(
        "series", key=lambda names: names.map(list(labels.values()).index), kind="stable"
    )
    grid = draw_series(
        shown, "temperature", "test_error", "panel", col_order=list(dict.fromkeys(rows.sort_values("density")["panel"]))
    )
    return finish(grid, "epochs of the dense network", "error after pruning")


def draw_regrets(table: pd.DataFrame, panel: str) -> Figure:
    """Draw the mean regret of rules with its interval, a mark a rule.

    Args:
        table: Columns `rule`, `regret`, `low` and `high`, in points, and the column `panel`.
        panel: Column that gives the panel of each row.

    Returns:
        The figure.
    """
    rules = list(dict.fromkeys(table["rule"]))[::-1]
    names = list(dict.fromkeys(table[panel]))
    figure, panels = plt.subplots(
        1, len(names), figsize=(8.2, 0.8 + 0.26 * len(rules)), sharey=True, layout="constrained"
    )
    for axes, name in zip(np.atleast_1d(panels), names, strict=True):
        part = table[table[panel] == name].set_index("rule").reindex(rules)
        spread = np.abs(part[["low", "high"]].to_numpy().T - part["regret"].to_numpy())
        axes.errorbar(part["regret"], range(len(rules)), xerr=spread, fmt=MARKERS[0], color=PALETTE[0], capsize=2)
        axes.axvline(0, **LEVEL)
        axes.set(title=name, yticks=range(len(rules)), yticklabels=rules)
    figure.supxlabel("mean regret, points of error")
    return figure


def _square(table: pd.DataFrame, column: str, order: list[float]) -> pd.DataFrame:
    return table.pivot_table(
        index="temperature", columns="density", values=column, aggfunc="first", dropna=False
    ).reindex(order)


def _heat(panel: Axes, values: pd.DataFrame, colours: str, title: str, labels: Any = None, **options: Any) -> None:
    panel.patch.set(hatch="////", facecolor="white", edgecolor=GREY)
    texts = (
        labels
        if labels is not None
        else values.map(
            lambda value: "" if np.isnan(value) else f"{value + 0.0:.2f}".replace("-0.00", "0.00")
        ).to_numpy()
    )
    shown = values.astype(float)
    marks = {"annot": texts, "fmt": "", "annot_kws": {"size": 7}, "cbar": False, "mask": shown.isna()}
    sns.heatmap(shown, cmap=colours, ax=panel, **marks, **options)
    panel.set_title(title, fontsize=9)


def _outline(panel: Axes, regimes: pd.DataFrame) -> None:
    """Draw a line between neighbours of different regimes."""
    names = regimes.to_numpy()
    for row, column in np.argwhere(names[:, 1:] != names[:, :-1]):
        panel.plot([column + 1, column + 1], [row, row + 1], **LINE)
    for row, column in np.argwhere(names[1:] != names[:-1]):
        panel.plot([column, column + 1], [row + 1, row + 1], **LINE)
