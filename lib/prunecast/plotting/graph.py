"""Figures of computation graphs whose edges are removed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import ArrayLike, NDArray

from prunecast.plotting.style import LEVEL, LIGHT_GREY, MARKERS, PALETTE, TALL, draw_levels, draw_series, finish, words

ANNOTATED = 20  # edges up to which each is labelled with its value
WIDTH, HEIGHT = 6.6, 0.62  # of all layers, and from one vertex to the next, in inches, about
BENDS, POINTS = [0.0, -0.15, 0.15, -0.3, 0.3, -0.45, 0.45], 25  # curvatures of an edge, points of its curve
CLEARANCE = np.array([0.2, 0.11])  # between an edge and the middle of a vertex, inches
DASHES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
THINNEST, THICKEST = 0.6, 3.6  # points
STAGES = {"zero_shot": "as pruned", "fine_tuned": "fine-tuned", "transferred": "after transfer"}
JOINED = {True: "output connected", False: "output disconnected"}


def draw_graph(vertices: Sequence[str], edges: Sequence[tuple[int, int]], values: ArrayLike, label: str) -> Figure:
    """Draw a graph in layers from input to output, with a value for each edge as colour and width.

    Args:
        vertices: Names of the vertices.
        edges: Numbers of the source and of the target of each edge; a source comes before its target.
        values: A value for each edge (edges,); negative ones are dashed.
        label: What the values are, with the unit.

    Returns:
        The figure. Up to twenty edges are labelled with their values.
    """
    places, numbers = _places(len(vertices), edges), np.asarray(values, float)
    largest = np.abs(numbers).max(initial=0) or 1.0
    signed = bool((numbers < 0).any())
    colours = ScalarMappable(Normalize(-largest if signed else 0, largest), "coolwarm" if signed else "crest")
    layers, rows = 1 + np.ptp(places, axis=0)
    unit = np.array([WIDTH / layers, HEIGHT])
    figure, axes = plt.subplots(figsize=(8.2, max(2.4, 0.8 + HEIGHT * rows)), layout="constrained")
    bends = _bends(edges, places * unit)
    for edge, value, bend in zip(edges, numbers, bends, strict=True):
        width = THINNEST + (THICKEST - THINNEST) * abs(value) / largest
        shape: dict[str, Any] = {"connectionstyle": f"arc3,rad={bend}", "shrinkA": 11, "shrinkB": 11, "zorder": 1}
        line = {"linewidth": width, "linestyle": "--" if value < 0 else "-", "color": colours.to_rgba(value)}
        start, end = places[list(edge)]
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, **shape, **line))
        if len(edges) <= ANNOTATED:
            x, y = _curve(start * unit, end * unit, bend)[POINTS // 2] / unit
            frame = {"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"}
            axes.text(x, y, f"{value:.2g}", fontsize=6.5, ha="center", va="center", bbox=frame, zorder=2)
    box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": LIGHT_GREY}
    for name, place in zip(vertices, places, strict=True):
        axes.text(place[0], place[1], words(name), fontsize=7, ha="center", va="center", bbox=box, zorder=3)
    (left, low), (right, high) = places.min(axis=0), places.max(axis=0)
    axes.set(xlim=(left - 0.6, right + 0.6), ylim=(low - 0.7, high + 0.7))
    axes.set_axis_off()
    figure.colorbar(colours, ax=axes, label=label, shrink=0.8, pad=0.01, aspect=25)
    return figure


def _places(count: int, edges: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Layer of each vertex, the longest path to it, and its height, near its neighbours: an array (vertices, 2)."""
    layer, heights = np.zeros(count, int), np.zeros(count)
    near: list[list[int]] = [[] for _ in range(count)]
    for source, target in sorted(edges, key=lambda edge: edge[1]):
        layer[target] = max(layer[target], layer[source] + 1)
        near[source].append(target)
        near[target].append(source)
    layers = [list(np.flatnonzero(layer == place)) for place in range(layer.max() + 1)]
    for step in range(8):
        for members in layers if step % 2 == 0 else reversed(layers):
            wanted = {vertex: float(np.mean(heights[near[vertex]])) if near[vertex] else 0.0 for vertex in members}
            members.sort(key=lambda vertex: wanted[vertex])
            heights[members] = np.arange(len(members)) - (len(members) - 1) / 2
    return np.column_stack([layer, heights])


def _curve(start: NDArray[np.float64], end: NDArray[np.float64], bend: float) -> NDArray[np.float64]:
    """Points of an edge, (points, 2): the quadratic curve that matplotlib's arc3 draws."""
    width, height = end - start
    control = (start + end) / 2 + bend * np.array([height, -width])
    along = np.linspace(0, 1, POINTS)[:, None]
    return (1 - along) ** 2 * start + 2 * along * (1 - along) * control + along**2 * end


def _bends(edges: Sequence[tuple[int, int]], places: NDArray[np.float64]) -> list[float]:
    """Of each edge the least bend with which it passes over no vertex and no like edge, or over as little as it can."""
    taken: set[tuple[tuple[int, int], float]] = set()
    bends = []
    for edge in edges:
        others = np.delete(places, list(edge), axis=0)
        free = [bend for bend in BENDS if (edge, bend) not in taken] or BENDS
        curves = {bend: _curve(places[edge[0]], places[edge[1]], bend) for bend in free}
        touched = {
            bend: int((np.abs(curve[:, None] - others) < CLEARANCE).all(axis=2).sum()) for bend, curve in curves.items()
        }
        bends.append(min(free, key=lambda bend: touched[bend]))
        taken.add((edge, bends[-1]))
    return bends


def draw_scatter(rows: pd.DataFrame, panel: str | None = None) -> Figure:
    """Draw the true loss of masks against its forecast, with marks by whether the output is connected.

    Args:
        rows: Columns `true` in nats, `forecast` and `connected`, a row a mask.
        panel: Column that gives the panel of each row; None: one panel for all.

    Returns:
        The figure.
    """
    marks = rows.assign(series=rows["connected"].astype(bool).map(JOINED)).sort_values("series", kind="stable")
    free = {"legend_out": False, "sharex": False, "sharey": False}
    options: dict[str, Any] = {"kind": "scatter", "s": 16, "alpha": 0.7, "linewidth": 0.3, "facet_kws": free}
    order = list(dict.fromkeys(rows[panel])) if panel else None
    grid = draw_series(marks, "forecast", "true", panel, col_order=order, **options)
    return finish(grid, "forecast", "true loss, nats")


def draw_scores_by_cost(rows: pd.DataFrame, score: str, panel: str | None = None) -> Figure:
    """Draw a score against the number of evaluations that a surrogate spent: a line a surrogate, with its interval.

    Args:
        rows: Columns `surrogate`, in the order of the legend, `evaluations`, `mean`, `low` and `high`.
        score: Label of the score.
        panel: Column that gives the panel of each row; None: one panel for all.

    Returns:
        The figure. The scale of evaluations is linear from 0 to 1 and logarithmic from there.
    """
    named = rows.assign(panel=rows[panel].astype(str) if panel else "")
    panels = list(dict.fromkeys(named["panel"]))
    grid = sns.FacetGrid(named, col="panel", col_order=panels, col_wrap=min(2, len(panels)), height=3.1, aspect=1.25)
    for name, axes in grid.axes_dict.items():
        for number, surrogate in enumerate(dict.fromkeys(rows["surrogate"])):
            part = named[(named["panel"] == name) & (named["surrogate"] == surrogate)].sort_values("evaluations")
            _line(axes, part, number, words(surrogate))
        axes.axhline(0, **LEVEL)
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return finish(grid, "evaluations of the network", score)


def _line(axes: Axes, part: pd.DataFrame, number: int, label: str) -> None:
    marks: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
    dashes: Any = DASHES[number % len(DASHES)]
    axes.plot(part["evaluations"], part["mean"], linestyle=dashes, markersize=4.5, label=label, **marks)
    if len(part) > 1:
        axes.fill_between(part["evaluations"], part["low"], part["high"], color=marks["color"], alpha=0.15, linewidth=0)
    else:
        axes.vlines(part["evaluations"], part["low"], part["high"], color=marks["color"], linewidth=1)


def draw_transfer(rows: pd.DataFrame, score: str) -> Figure:
    """Draw a score by the keep rate of the masks learned from and of those forecast: a heat map a surrogate.

    Args:
        rows: Columns `surrogate`, `train_keep_rate`, `keep_rate` and `mean`.
        score: Label of the score.

    Returns:
        The figure; a pair of keep rates without a score is empty.
    """
    names = list(dict.fromkeys(rows["surrogate"]))
    size = (max(3.2, 2.5 * len(names) + 0.9), 2.7)
    figure, panels = plt.subplots(1, len(names), figsize=size, sharey=True, layout="constrained", squeeze=False)
    lowest, highest = min(0.0, rows["mean"].min()), rows["mean"].max()
    for axes, name in zip(panels[0], names, strict=True):
        square = rows[rows["surrogate"] == name].pivot(index="train_keep_rate", columns="keep_rate", values="mean")
        texts = square.map(lambda value: "" if pd.isna(value) else f"{value:.2f}").to_numpy()
        marks = {"annot": texts, "fmt": "", "annot_kws": {"size": 7}, "cbar": False}
        sns.heatmap(square.astype(float), cmap="mako", vmin=lowest, vmax=highest, ax=axes, **marks)
        axes.set(title=words(name), xlabel="", ylabel="")
        axes.tick_params(axis="y", rotation=0)
    shared = ScalarMappable(Normalize(lowest, highest), "mako")
    figure.colorbar(shared, ax=panels[0, -1], label=score)
    _ = figure.supxlabel("keep rate of the masks forecast"), figure.supylabel("keep rate of those learned from")
    return figure


def draw_pruned(rows: pd.DataFrame, against: str, labels: Mapping[str, str]) -> Figure:
    """Draw the metric of pruned networks against what is left of them, a panel a network and stage, a line a method.

    Args:
        rows: Rows of the table `pruned_structure` with one metric; the mean over seeds is drawn.
        against: `flops`, as a share of the dense network's, or `removed`, the number of edges or blocks.
        labels: Label of each method, in the order of the legend.

    Returns:
        The figure; a thin line is the dense network.
    """
    (metric,) = set(rows["metric"])
    known = rows[rows["method"].isin(list(labels))]
    names = known["network"].map(words) + ", " + known["stage"].map(STAGES)
    shown = known.assign(
        flops=known["flops"] / known["flops_dense"], series=known["method"].map(dict(labels)), panel=names
    )
    order = list(labels.values())
    shown = shown.sort_values("series", key=lambda series: series.map(order.index), kind="stable")
    lines = {"estimator": "mean", "sort": True, "markers": MARKERS[: shown["series"].nunique()]}
    grid = draw_series(shown, against, "pruned", "panel", **TALL | lines | {"col_order": list(dict.fromkeys(names))})
    draw_levels(grid, shown.groupby("panel")["dense"].mean(), "dense")
    if metric == "perplexity":
        grid.set(yscale="log")
    return finish(grid, "operations, share of the dense network's" if against == "flops" else "removed", metric)
