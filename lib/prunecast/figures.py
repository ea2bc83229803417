"""One house style for figures: opaque white ground, colours told apart by dashes and markers as well."""

import hashlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from pandas.io.formats.style import Styler

BLUE, ORANGE, GREEN, GREY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#666666",
)  # Okabe and Ito, safe for colour blindness
LINES: dict[str, dict[str, Any]] = {
    "global": {"color": BLUE, "linestyle": "-"},
    "layer": {"color": ORANGE, "linestyle": "--"},
    "random": {"color": GREEN, "linestyle": ":"},
    "lstm": {"color": BLUE, "linestyle": "-"},
    "straight_line": {"color": ORANGE, "linestyle": "--"},
    "mean_curve": {"color": GREEN, "linestyle": "-."},
    "lstm_agreement": {"color": GREEN, "linestyle": ":"},
}
VARIANTS: list[dict[str, Any]] = [
    {"color": GREY, "linestyle": "-", "linewidth": 3},
    {"color": BLUE, "linestyle": "--"},
    {"color": ORANGE, "linestyle": "-."},
    {"color": GREEN, "linestyle": ":"},
]
COLUMNS = 3


def use_house_style() -> None:
    """Set sizes, colours and file format for all figures of a page: SVG, the same bytes for the same data."""
    set_matplotlib_formats("svg", metadata={"Date": None})
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "svg.hashsalt": "prunecast",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )


def grid_of_panels(
    titles: list[str], height: float = 2.3, columns: int = COLUMNS
) -> tuple[Figure, Iterator[tuple[str, Axes]]]:
    """A figure with one titled panel each, at most `columns` in a row, axes shared; unused panels are removed."""
    columns = min(columns, len(titles))
    rows = -(-len(titles) // columns)
    size = (2.6 * columns + 0.4, height * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    panels = list(axes.flat)
    for spare in panels[len(titles) :]:
        spare.remove()
    for title, panel in zip(titles, panels, strict=False):
        panel.set_title(title, fontsize=10)
    return figure, zip(titles, panels, strict=False)


def draw_scopes(panel: Axes, curves: pd.DataFrame, x: str = "sparsity") -> None:
    """Accuracy against the column `x` in one panel: a line for magnitude in each scope, and one for random."""
    for (criterion, scope), rows in curves.groupby(["criterion", "scope"]):
        name = scope if criterion == "magnitude" else criterion
        label = f"magnitude, {scope} scope" if criterion == "magnitude" else str(criterion)
        panel.plot(rows[x], rows["accuracy"], label=label, **LINES[str(name)])


def draw_curves(models: pd.DataFrame, sweeps: pd.DataFrame) -> Figure:
    """Accuracy against sparsity, a panel for each row of `models`: both scopes, and the majority class."""
    figure, panels = grid_of_panels(list(models["model"]), height=1.9)
    majority = models.set_index("model")["majority_accuracy"]
    for name, panel in panels:
        draw_scopes(panel, sweeps[(sweeps["model"] == name) & (sweeps["axis"] == "percentile")])
        draw_level(panel, majority[name], "majority class")
    figure.supxlabel("sparsity")
    figure.supylabel("accuracy")
    legend_above(figure)
    return figure


def draw_variants(bases: pd.Series, sweeps: pd.DataFrame) -> Figure:
    """Accuracy against sparsity, magnitude pruning in global scope: a panel for each base, a line for each variant.

    `bases` gives the base of each model, by its name; a model that has no variants gets no panel.
    """
    families = [(base, members) for base, members in bases.groupby(bases, sort=False) if len(members) > 1]
    figure, panels = grid_of_panels([str(base) for base, _ in families], height=1.9)
    chosen = sweeps[(sweeps["criterion"] == "magnitude") & (sweeps["scope"] == "global")]
    for (base, panel), (_, members) in zip(panels, families, strict=True):
        for style, model in zip(VARIANTS, members.index, strict=False):
            rows = chosen[(chosen["model"] == model) & (chosen["axis"] == "percentile")]
            label = model.removeprefix(f"{base}_").replace("_", " ") if model != base else "as it is"
            panel.plot(rows["sparsity"], rows["accuracy"], label=label, **style)
    figure.supxlabel("sparsity")
    figure.supylabel("accuracy")
    legend_above(figure)
    return figure


def draw_forecasts(panel: Axes, predictions: pd.DataFrame) -> None:
    """The measured curve of one model and scope, and over it a line for each surrogate's forecast."""
    for index, (surrogate, rows) in enumerate(predictions.groupby("surrogate")):
        if index == 0:
            panel.plot(rows["threshold"], rows["accuracy"], color="#bbbbbb", linewidth=5, label="measured")
        label = str(surrogate).replace("_", " ")
        panel.plot(rows["threshold"], rows["predicted"], label=label, **LINES[str(surrogate)])


def draw_prediction(curve: pd.DataFrame, recommended: dict[str, float], dense: float) -> Figure:
    """Forecast accuracy with its interval against sparsity, a panel for each scope, and the recommended sparsity."""
    figure, panels = grid_of_panels([f"{scope} scope" for scope in recommended])
    for scope, (_, panel) in zip(recommended, panels, strict=True):
        rows = curve[curve["scope"] == scope]
        panel.fill_between(rows["sparsity"], rows["lower"], rows["upper"], color=BLUE, alpha=0.2, label="90 % interval")
        panel.plot(rows["sparsity"], rows["predicted"], color=BLUE, label="forecast")
        draw_level(panel, dense, "dense accuracy")
        panel.axvline(recommended[scope], color=ORANGE, linestyle="--", label="recommended")
    figure.supxlabel("sparsity")
    figure.supylabel("accuracy")
    legend_above(figure)
    return figure


def draw_leaderboard(board: pd.DataFrame, published: float) -> Figure:
    """Error against cost in evaluations, a mark for each protocol; `board` holds protocol, surrogate, mae and cost."""
    figure, panel = plt.subplots(figsize=(7.6, 4.6))
    for (protocol, rows), marker in zip(board.groupby("protocol", sort=False), "os^Dv", strict=False):
        panel.scatter(rows["cost"], rows["mae"], marker=marker, color=GREY, s=30, label=str(protocol).replace("_", " "))
        marks = rows.sort_values("mae").to_dict("records")
        for mark in marks:
            first = mark is marks[0] or mark["surrogate"] == "agreement"
            if first or (mark["cost"] == 0 and mark["surrogate"] in ("lstm", "straight_line")):
                name = mark["surrogate"].replace("_", " ")
                panel.annotate(name, (mark["cost"], mark["mae"]), (5, 3), textcoords="offset points", fontsize=8)
    draw_level(panel, published, "printed by the source study")
    panel.set_xscale("symlog", linthresh=0.1)
    panel.set_xlim(-0.03, 20)
    panel.set_yscale("log")
    panel.set_xlabel("cost, evaluations of the model")
    panel.set_ylabel("mean absolute error")
    legend_above(figure)
    return figure


def draw_recalibration(measured: pd.DataFrame, forecast: pd.DataFrame) -> Figure:
    """Accuracy before and after recalibration, and a forecast; a panel for each model and scope."""
    keys = ["model", "scope"]
    curves = dict(iter(measured.groupby(keys)))
    forecasts = dict(iter(forecast.groupby(keys)))
    figure, panels = grid_of_panels([f"{model}, {scope}" for model, scope in curves], columns=2)
    for key, (_, panel) in zip(curves, panels, strict=True):
        rows = curves[key]
        panel.plot(rows["threshold"], rows["accuracy"], color=GREY, linewidth=3, label="as pruned")
        panel.plot(rows["threshold"], rows["recalibrated"], color=BLUE, linestyle="--", label="recalibrated")
        if key in forecasts:
            told = forecasts[key]
            panel.plot(told["threshold"], told["predicted"], color=ORANGE, linestyle=":", label="forecast of the LSTM")
    figure.supxlabel("threshold, tens of per cent")
    figure.supylabel("accuracy")
    legend_above(figure)
    return figure


def draw_depletion(panel: Axes, curve: pd.DataFrame, signals: pd.DataFrame) -> None:
    """Accuracy of one model against sparsity, and the share that its most depleted layer has lost."""
    panel.plot(signals["sparsity"], signals["lost_max"], color=GREY, linewidth=4, alpha=0.5, label="lost by one layer")
    panel.plot(curve["sparsity"], curve["accuracy"], color=BLUE, label="accuracy")


def draw_level(panel: Axes, height: float, label: str) -> None:
    """A thin line across a panel, such as the majority class."""
    panel.axhline(height, color=GREY, linewidth=0.8, label=label)


def legend_above(figure: Figure) -> None:
    """One legend for all panels above them, each label once."""
    found: dict[str, Any] = {}
    for panel in figure.axes:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    _ = figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=min(4, len(found)))


def table(frame: pd.DataFrame, precision: int = 3) -> HTML:
    """A table for a page: names without underscores, decimals cut to `precision`, an empty cell for what is missing."""
    plain = frame.rename(columns=lambda name: str(name).replace("_", " "))
    plain.index.names = [None] * frame.index.nlevels
    plain.columns.name = None
    name = hashlib.sha256(plain.to_csv().encode()).hexdigest()[:8]  # by default a random one
    styled = Styler(plain, uuid=name, cell_ids=False).format(precision=precision, thousands=" ", na_rep="")
    return HTML(styled.format_index(precision=2, axis=0).to_html())  # a Styler would print its address


def normal_density(width: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions from -width to width and the standard normal density there."""
    positions = np.linspace(-width, width, 201)
    return positions, np.exp(-(positions**2) / 2) / np.sqrt(2 * np.pi)
