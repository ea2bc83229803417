"""Figure of published figures beside ours."""

from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from prunecast.plotting.style import BLUE, LEVEL, ORANGE, finish, words

ON_THEIR_AXIS = ("per cent", "correlation", "times")  # units whose figures are of one order of magnitude
SUFFIX = "_(?:pct|millions|billion|ms|joule)(?![a-z])"  # of names that end in their unit, which the axis says
RATIO = "ours over published, logarithmic"
OURS = ((BLUE, "d"), (ORANGE, "s"))  # colour and mark of each series


def draw_published(rows: pd.DataFrame) -> Figure:
    """Draw published figures as hollow circles and ours as filled marks, a row each; a panel for each quantity.

    Per cent, correlations and multiples have axes of their own, the same in all panels of that unit. Other units differ
    by orders of magnitude: there ours is divided by the published figure, on a logarithmic axis.

    Args:
        rows: One row a figure: panel (title), label, unit, published, ours, and series, the name of ours, of which
            there are one or two; rows of the same panel and label share a row. A panel has figures of one unit or
            those that are divided. The order is that of the panels and, from the top, of the rows.

    Returns:
        The figure.
    """
    marks = rows.assign(axis=rows["unit"].where(rows["unit"].isin(ON_THEIR_AXIS), RATIO))
    marks[["panel", "label"]] = marks[["panel", "label"]].replace(SUFFIX, "", regex=True)
    divided = marks["axis"] == RATIO
    marks["ours"] = marks["ours"].where(~divided, marks["ours"] / marks["published"])
    marks["published"] = marks["published"].where(~divided, 1.0)
    marks["line"] = marks.groupby("panel")["label"].transform(lambda labels: pd.factorize(labels)[0])
    lines = marks.groupby("panel", sort=False)["line"].max() + 1
    height = float(0.18 * lines.sum() + 0.6 * len(lines)) / len(lines)
    size: dict[str, Any] = {"height": height, "aspect": 6.6 / height, "gridspec_kws": {"height_ratios": lines + 2}}
    grid = sns.FacetGrid(marks, row="panel", sharex=False, sharey=False, **size)
    for name, panel in grid.axes_dict.items():
        of_panel = marks[marks["panel"] == name]
        panel.scatter("published", "line", 50, data=of_panel, color="white", ec="black", label="published")
        for (series, ours), (color, mark) in zip(of_panel.groupby("series", sort=False), OURS, strict=False):
            panel.scatter("ours", "line", 24, data=ours, color=color, marker=mark, label=series, zorder=3)
        labels = [words(label) for label in of_panel["label"].unique()]
        panel.set_yticks(range(len(labels)), labels, fontsize=8)
        panel.set_ylim(len(labels) - 0.4, -0.6)
        if of_panel["axis"].iloc[0] == RATIO:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.axvline(1, **LEVEL)
    figure = finish(grid, "", "", "{row_name}")
    axes = marks.drop_duplicates("panel").set_index("panel")["axis"]
    for axis, names in axes.groupby(axes).groups.items():
        panels = [grid.axes_dict[name] for name in names]
        ends = [end for panel in panels for end in panel.get_xlim()]
        for panel in panels:
            panel.set(xlabel=axis, xlim=(min(ends), max(ends)))
    return figure
