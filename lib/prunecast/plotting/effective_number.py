"""Figures of the effective number, in the house style of `prunecast.plotting.style`."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prunecast.plotting.style import BLUE, GREEN, GREY, ORANGE, draw_level, grid_of_panels, legend_above
from prunecast.pruning.effective_number import preserved_at_least

ENTRIES = 1000
RULES: dict[str, dict[str, Any]] = {
    "pruned": {"color": BLUE, "marker": "o", "linestyle": "-", "label": "as the rule keeps them, by magnitude"},
    "random_at_same_sparsity": {"color": ORANGE, "marker": "^", "linestyle": "--", "label": "as many at random"},
}
SCOPE_STYLES: dict[str, dict[str, Any]] = {
    "global": {"color": BLUE, "marker": "o"},
    "layer": {"color": ORANGE, "marker": "^"},
}


def draw_bound(rows: pd.DataFrame) -> Figure:
    """The least share of the scores that the rule preserves, the share of any choice of as many, and rows of `emp`."""
    figure, panel = plt.subplots(figsize=(5.6, 3.4))
    kept = np.arange(2, ENTRIES)
    share = kept / ENTRIES
    panel.plot(share, [preserved_at_least(int(count), ENTRIES) for count in kept], color=BLUE, label="bound")
    panel.plot(share, share, color=GREY, linestyle="--", label="any choice of the highest")
    panel.scatter(1 - rows["sparsity"], rows["preserved"], color=ORANGE, marker="x", s=22, label="measured")
    panel.set_xlabel("share of the entries kept")
    panel.set_ylabel("share of the scores preserved")
    legend_above(figure)
    return figure


def draw_betas(rows: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Accuracy against beta, a panel a model: mean over seeds, beside chance and the accuracies that are printed.

    `published` has the columns model, beta and pruned.
    """
    figure, panels = grid_of_panels(list(rows["model"].unique()), height=2.8, columns=3)
    for model, panel in panels:
        of = rows[rows["model"] == model]
        for column, style in RULES.items():
            panel.plot(of.groupby("beta")[column].mean(), **style)
        printed = published[published["model"] == model]
        panel.scatter(
            printed["beta"], printed["pruned"], facecolors="none", edgecolors="black", marker="s", s=60, label="printed"
        )
        draw_level(panel, of["dense"].mean(), "dense")
    figure.supxlabel("beta")
    figure.supylabel("accuracy")
    legend_above(figure)
    return figure


def draw_recommended(rows: pd.DataFrame) -> Figure:
    """What the rule prunes against the measured optimum, a mark a curve: above the diagonal it loses too much."""
    figure, panel = plt.subplots(figsize=(5.2, 4.4))
    for scope, style in SCOPE_STYLES.items():
        of = rows[rows["granularity"] == scope]
        panel.scatter(of["optimum"], of["sparsity"], alpha=0.7, s=30, label=f"{scope} scope", **style)
    panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    panel.set_xlabel("measured optimum, sparsity")
    panel.set_ylabel("pruned by the rule, sparsity")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    legend_above(figure)
    return figure


def draw_criteria(rows: pd.DataFrame) -> Figure:
    """Accuracy lost by criterion, a mark a model, beside magnitude and chance at the same sparsity."""
    names = list(dict.fromkeys(rows["criterion"]))
    figure, panel = plt.subplots(figsize=(6.4, 3.4))
    columns = {
        "pruned": (BLUE, "o"),
        "magnitude_at_same_sparsity": (GREEN, "s"),
        "random_at_same_sparsity": (ORANGE, "^"),
    }
    for shift, (column, (color, marker)) in zip((-0.22, 0, 0.22), columns.items(), strict=True):
        places = rows["criterion"].map(names.index) + shift
        label = {"pruned": "by the criterion"}.get(column, f"by {column.split('_')[0]}, same sparsity")
        panel.scatter(places, rows["dense"] - rows[column], color=color, marker=marker, s=18, alpha=0.5, label=label)
    panel.axhline(0, color=GREY, linewidth=0.8)
    panel.set_xticks(range(len(names)), names)
    panel.set_ylabel("accuracy lost")
    legend_above(figure)
    return figure


def draw_images(images: Mapping[str, np.ndarray]) -> Figure:
    """Photographs side by side, three a row."""
    figure, panels = grid_of_panels(list(images), height=2.4, columns=3)
    for name, panel in panels:
        panel.imshow(images[name])
        panel.set_axis_off()
    return figure
