"""Figures of schedules, costs, searches and choices."""

import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure

from prunecast.plotting.style import BLUE, GREY, LEVEL, ORANGE, TALL, draw_levels, draw_series, finish, long_form, words
from prunecast.pruning import schedules

SCHEDULES: list[schedules.ScheduleName] = ["gradual", "one_shot", "iterative", "regrow"]
FORMS = {"dense": ("black", "*"), "masked": (GREY, "o"), "sparse_kernel": (ORANGE, "^"), "removed": (BLUE, "s")}


def draw_plans(sparsity: float) -> Figure:
    """Draw the planned sparsity against the share of the training, a line for each schedule.

    Args:
        sparsity: Sparsity at the end.

    Returns:
        The figure.
    """
    shares = np.linspace(0, 1, 201)
    plans = {name: [schedules.planned(name, float(share), sparsity) for share in shares] for name in SCHEDULES}
    rows = long_form(pd.DataFrame({"share": shares} | plans), {name: name.replace("_", "-") for name in plans})
    grid = draw_series(rows, "share", "value", reference=True, height=2.4, aspect=2.2)
    return finish(grid, "share of the training", "sparsity")


def draw_schedules(outcomes: pd.DataFrame) -> Figure:
    """Draw the accuracy of every run by schedule and the mean over runs, a panel a model.

    Args:
        outcomes: Rows of `schedules.csv`; their accuracy before pruning is a thin line.

    Returns:
        The figure.
    """
    rows = outcomes.assign(schedule=outcomes["schedule"].str.replace("_", "-"))
    order = ["none", "one-shot", "iterative", "gradual", "regrow", "dense"]
    places = {"x": "schedule", "y": "accuracy", "order": order}
    runs = {"jitter": False, "color": BLUE, "alpha": 0.7, "label": "a run"}
    grid = sns.catplot(rows, **places, **runs, **TALL, col="model", col_wrap=min(2, rows["model"].nunique()))
    mean = {"errorbar": None, "linestyle": "none", "marker": "_", "markersize": 16, "color": ORANGE, "label": "mean"}
    grid.map_dataframe(sns.pointplot, **places, **mean).tick_params("x", rotation=40)
    draw_levels(grid, rows.groupby("model")["dense_accuracy"].first(), "before pruning")
    return finish(grid, "", "accuracy")


def draw_costs(costs: pd.DataFrame) -> Figure:
    """Draw the median latency of each form with its 10th and 90th percentile, a panel a batch size.

    The scale follows the medians: a percentile far above them is cut off.

    Args:
        costs: Rows of `costs.csv` of one model, with the column `label`; the first form's median is the unit.

    Returns:
        The figure.
    """
    labels = [textwrap.fill(words(label), width=28) for label in costs["label"]]
    rows = costs.assign(label=labels).melt(["batch", "label"], [f"latency_ms_{of}" for of in ("p10", "median", "p90")])
    units = costs.groupby("batch")["latency_ms_median"].first()
    rows["value"] /= rows["batch"].map(units)
    # of a form's three values the median is the measured median; ("pi", 100) is their range, from p10 to p90
    bars = {"kind": "bar", "x": "value", "y": "label", "estimator": "median", "errorbar": ("pi", 100), "color": BLUE}
    whiskers = {"capsize": 0.2, "err_kws": {"color": "black", "linewidth": 1.2}}
    height = 0.45 * len(set(labels)) + 0.4
    grid = sns.catplot(rows, **bars, **whiskers, alpha=0.6, col="batch", col_wrap=2, height=height, aspect=3.6 / height)
    grid.refline(x=1, **LEVEL)
    grid.set(xlim=(0, 1.3 * float((costs["latency_ms_median"] / costs["batch"].map(units)).max())))
    return finish(grid, "latency, share of the dense model's", "", "batch {col_name}")


def draw_break_even(timed: pd.DataFrame) -> Figure:
    """Draw the time of a layer with 2:4 sparsity over the dense layer's, a cell for each size and number of vectors.

    Args:
        timed: Rows of `break_even.csv`.

    Returns:
        The figure.
    """
    times = timed.set_index(["features", "vectors", "kernel"])["latency_us_median"].unstack("kernel")
    ratios = (times["2:4"] / times["dense"]).unstack("vectors")
    figure, panel = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
    scale = {"norm": LogNorm(1 / 40, 40), "cmap": "PuOr_r", "cbar_kws": {"label": "time, share of the dense layer's"}}
    sns.heatmap(ratios, annot=True, fmt=".1f", ax=panel, **scale)
    panel.tick_params("y", rotation=0)
    panel.set(xlabel="input vectors of a call", ylabel="inputs and outputs of the layer")
    return figure


def draw_meter(metered: pd.DataFrame) -> Figure:
    """Draw the joules of every repeat of the same work, and of the same time idle.

    Args:
        metered: Rows of `meter.csv`.

    Returns:
        The figure.
    """
    rows = metered.rename(columns={"work": "series"})
    grid = draw_series(rows, "repeat", "joules", kind="scatter", height=2.2, aspect=2.4, clip_on=False)
    return finish(grid.set(ylim=0), "repeat", "energy, joules")


def draw_front(candidates: pd.DataFrame, x: str, chosen: Mapping[str, int]) -> Figure:
    """Draw the accuracy of every candidate against one cost, and the front as steps, a panel a model or batch size.

    Args:
        candidates: Rows of `candidates.csv` with the column `panel`, in each of which one row is dense: its accuracy is
            a thin line. Those that were trained on after pruning are opaque.
        x: Column of the cost, as a share of the dense model's.
        chosen: Position in `candidates` of each choice that is named, by its name.

    Returns:
        The figure.
    """
    trained = candidates["schedule"] != "none"
    series = candidates["form"].map(words).mask(trained, lambda form: form + ", trained on")
    rows = candidates.assign(series=series, alpha=np.where(trained, 1, 0.35))
    kinds = rows.drop_duplicates("series")
    palette = [to_rgba(FORMS[form][0], alpha) for form, alpha in zip(kinds["form"], kinds["alpha"], strict=True)]
    markers, sizes = zip(*[(FORMS[form][1], 120 if form == "dense" else 36) for form in kinds["form"]], strict=True)
    styles: dict[str, Any] = {"palette": palette, "markers": markers, "size": "series", "sizes": list(sizes)}
    grid = draw_series(rows, x, "accuracy", "panel", kind="scatter", height=3.4, aspect=0.75, **styles)
    for name, panel in grid.axes_dict.items():
        steps = candidates[candidates["panel"] == name].sort_values([x, "accuracy"])
        best = steps[steps["accuracy"] >= steps["accuracy"].cummax()]
        panel.step(best[x], best["accuracy"], where="post", color="black", linewidth=1, label="front")
    for index, (name, row) in enumerate(chosen.items()):
        at, arrow = candidates[[x, "accuracy"]].iloc[row], {"arrowstyle": "-", "color": GREY}
        away = {"xytext": (18, -24 - 16 * index), "textcoords": "offset points", "arrowprops": arrow}
        grid.axes_dict[candidates["panel"].iloc[row]].annotate(words(name), at, **away)
    draw_levels(grid, candidates[candidates["form"] == "dense"].set_index("panel")["accuracy"], "dense accuracy")
    return finish(grid, f"{words(x)}, share of the dense model's", "accuracy")


def draw_searches(searches: pd.DataFrame) -> Figure:
    """Draw hypervolume against evaluations, a panel a model: the mean over seeds, and all seeds as a band.

    Args:
        searches: Rows of `searches.csv`.

    Returns:
        The figure.
    """
    rows = searches.assign(series=searches["search"].map(words)).sort_values("search", kind="stable")
    grid = draw_series(
        rows, "evaluations", "hypervolume", "model", estimator="mean", errorbar=("pi", 100), sort=True, **TALL
    )
    return finish(grid, "configurations measured", "hypervolume, share of all")


def draw_reproductions(changes: pd.DataFrame) -> Figure:
    """Draw the printed and the measured relative change of each quantity, a row each.

    Args:
        changes: Columns published and ours, in per cent of the dense model's; indexed by quantity.

    Returns:
        The figure.
    """
    quantities = changes.index.str.split(":").str[0].str.rsplit("_", n=1).str[0].map(words)
    rows = long_form(changes.assign(quantity=quantities), {"published": "printed", "ours": "measured here"})
    marks: dict[str, Any] = {"palette": ["white", BLUE], "markers": ["o", "d"], "edgecolor": "black", "linewidth": 1}
    grid = draw_series(rows, "value", "quantity", kind="scatter", height=2.2, aspect=2.7, **marks)
    grid.refline(x=0, **LEVEL)
    return finish(grid, "change, per cent of the dense model's", "")
