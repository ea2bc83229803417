"""Figures of the effective number."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from prunecast.plotting.style import GREEN, LEVEL, TALL, draw_levels, draw_series, finish, long_form
from prunecast.pruning.effective_number import preserved_at_least

ENTRIES = 1000


def draw_bound(rows: pd.DataFrame) -> Figure:
    """Draw the share of the scores that is preserved against the share of the entries kept.

    Args:
        rows: Rows of `emp.csv`: crosses, beside the bound for a thousand entries and any choice of the highest.

    Returns:
        The figure.
    """
    kept = np.arange(2, ENTRIES)
    bound = [preserved_at_least(int(count), ENTRIES) for count in kept]
    lines = pd.DataFrame({"share": kept / ENTRIES, "bound": bound, "any choice of the highest": kept / ENTRIES})
    grid = draw_series(lines.melt("share", var_name="series"), "share", "value", height=3, aspect=1.7)
    grid.ax.scatter(1 - rows["sparsity"], rows["preserved"], s=24, c=GREEN, marker="x", label="measured")
    return finish(grid, "share of the entries kept", "share of the scores preserved")


def draw_betas(rows: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Draw accuracy against beta, a panel a model: the mean over seeds, beside chance and printed accuracies.

    Args:
        rows: Rows of `emp.csv`; their mean dense accuracy is a thin line.
        published: Columns model, beta and pruned (accuracy): hollow squares.

    Returns:
        The figure.
    """
    labels = {"pruned": "as the rule keeps them, by magnitude", "random_at_same_sparsity": "as many at random"}
    means = TALL | {"estimator": "mean", "sort": True, "markers": ["o", "^"]}
    grid = draw_series(long_form(rows, labels), "beta", "value", "model", **means)
    for model, panel in grid.axes_dict.items():
        printed = published[published["model"] == model]
        panel.scatter("beta", "pruned", 60, data=printed, marker="s", fc="none", ec="black", label="printed")
    draw_levels(grid, rows.groupby("model")["dense"].mean(), "dense")
    return finish(grid, "beta", "accuracy")


def draw_recommended(rows: pd.DataFrame) -> Figure:
    """Draw what the rule prunes against the measured optimum, a mark a curve: above the diagonal it loses too much.

    Args:
        rows: Rows of `emp.csv`.

    Returns:
        The figure.
    """
    labelled = rows.assign(series=rows["granularity"] + " scope").sort_values("series", kind="stable")
    grid = draw_series(labelled, "optimum", "sparsity", kind="scatter", height=4, aspect=1.2, alpha=0.7)
    grid.set(xlim=(0, 1), ylim=(0, 1)).ax.axline((0, 0), (1, 1), **LEVEL)
    return finish(grid, "measured optimum, sparsity", "pruned by the rule, sparsity")


def draw_criteria(rows: pd.DataFrame) -> Figure:
    """Draw the accuracy lost by criterion, a mark a model, beside magnitude and chance at the same sparsity.

    Args:
        rows: Rows of `emp.csv`.

    Returns:
        The figure.
    """
    labels = {"pruned": "by the criterion", "magnitude_at_same_sparsity": "by magnitude, same sparsity"}
    marks = long_form(rows, labels | {"random_at_same_sparsity": "by random, same sparsity"})
    place, names = pd.factorize(marks["criterion"])
    marks["place"] = place + 0.22 * (pd.factorize(marks["series"])[0] - 1)
    marks["lost"] = marks["dense"] - marks["value"]
    grid = draw_series(marks, "place", "lost", kind="scatter", height=3, aspect=2, alpha=0.5, s=30)
    grid.refline(y=0, **LEVEL).ax.set_xticks(range(len(names)), names)
    return finish(grid, "criterion", "accuracy lost")


def draw_images(images: Mapping[str, np.ndarray]) -> Figure:
    """Draw photographs side by side, three a row.

    Args:
        images: Images by title, each height x width x 3.

    Returns:
        The figure.
    """
    names = pd.DataFrame({"name": list(images)})
    grid = sns.FacetGrid(names, col="name", col_wrap=min(3, len(names)), height=2.2, aspect=1.2)
    for name, panel in grid.axes_dict.items():
        panel.imshow(images[name]).axes.set_axis_off()
    return finish(grid, "", "")
