"""Figures of schedules, costs, searches and choices, in the house style of `prunecast.plotting.style`."""

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prunecast.plotting.style import BLUE, GREEN, GREY, ORANGE, VARIANTS, draw_level, grid_of_panels, legend_above
from prunecast.pruning import schedules

SCHEDULES: dict[schedules.ScheduleName, dict[str, Any]] = {
    "one_shot": {"color": BLUE, "linestyle": "-"},
    "iterative": {"color": ORANGE, "linestyle": "--"},
    "gradual": {"color": "#bbbbbb", "linestyle": "-"},
    "regrow": {"color": GREEN, "linestyle": ":"},
}
FORMS: dict[str, dict[str, Any]] = {
    "dense": {"color": "black", "marker": "*", "s": 120},
    "masked": {"color": GREY, "marker": "o", "s": 24},
    "sparse_kernel": {"color": ORANGE, "marker": "^", "s": 28},
    "removed": {"color": BLUE, "marker": "s", "s": 24},
}
LABEL = 28  # characters of a long label on one line


def draw_plans(sparsity: float) -> Figure:
    """Planned sparsity against the share of the training, a line for each schedule."""
    figure, panel = plt.subplots(figsize=(5.6, 2.8))
    progress = np.linspace(0, 1, 201)
    for (name, style), width in zip(SCHEDULES.items(), (1.8, 1.8, 4, 1.8), strict=True):
        planned = [schedules.planned(name, float(share), sparsity) for share in progress]
        panel.plot(progress, planned, label=name.replace("_", "-"), **style | {"linewidth": width})
    panel.set_xlabel("share of the training")
    panel.set_ylabel("sparsity")
    legend_above(figure)
    return figure


def draw_schedules(outcomes: pd.DataFrame) -> Figure:
    """Accuracy of every run by schedule, a panel a model, and the accuracy before pruning."""
    names = ["none", *SCHEDULES, "dense"]
    figure, panels = grid_of_panels(list(outcomes["model"].unique()), height=2.8, columns=2)
    for model, panel in panels:
        rows = outcomes[outcomes["model"] == model]
        places = rows["schedule"].map(names.index)
        panel.scatter(places, rows["accuracy"], color=BLUE, marker="o", s=26, alpha=0.7, label="a run")
        means = rows["accuracy"].groupby(places).mean()
        panel.scatter(means.index, means, color=ORANGE, marker="_", s=300, label="mean")
        draw_level(panel, rows["dense_accuracy"].iloc[0], "before pruning")
        panel.set_xticks(range(len(names)), [name.replace("_", "-") for name in names], rotation=40, ha="right")
    figure.supylabel("accuracy")
    legend_above(figure)
    return figure


def draw_costs(costs: pd.DataFrame) -> Figure:
    """Median latency of each form with its 10th and 90th percentile, over the first form's; a panel a batch size."""
    batches = sorted(costs["batch"].unique())
    height = 0.45 * costs["label"].nunique() + 0.8
    figure, panels = grid_of_panels([f"batch {batch}" for batch in batches], height=height, columns=2)
    figure.set_figwidth(7.6)
    for batch, (_, panel) in zip(batches, panels, strict=True):
        rows = costs[costs["batch"] == batch].iloc[::-1]
        rows = rows.assign(label=[textwrap.fill(label, LABEL) for label in rows["label"]])
        unit = rows["latency_ms_median"].iloc[-1]
        middle, low, high = (rows[f"latency_ms_{name}"] / unit for name in ("median", "p10", "p90"))
        panel.barh(rows["label"], middle, color=BLUE, alpha=0.6)
        panel.errorbar(middle, rows["label"], xerr=[middle - low, high - middle], fmt="none", color="black", capsize=3)
        panel.axvline(1, color=GREY, linewidth=0.8)
    figure.supxlabel("latency, share of the dense model's")
    return figure


def draw_meter(metered: pd.DataFrame) -> Figure:
    """Joules of every repeat, over the median: the same work, and the same idleness."""
    figure, panel = plt.subplots(figsize=(5.6, 2.6))
    for (work, rows), marker in zip(metered.groupby("work", sort=False), "os", strict=False):
        panel.scatter(
            rows["repeat"], rows["joules"], marker=marker, label=str(work), color={"o": BLUE, "s": GREY}[marker]
        )
    panel.set_xlabel("repeat")
    panel.set_ylabel("joules")
    panel.set_ylim(0)
    legend_above(figure)
    return figure


def draw_front(candidates: pd.DataFrame, x: str, chosen: dict[str, int], dense: float) -> Figure:
    """Accuracy of every candidate against one cost, a mark a form; the front as steps, the chosen ones by name."""
    figure, panel = plt.subplots(figsize=(7.6, 4.6))
    for form, style in FORMS.items():
        rows = candidates[candidates["form"] == form]
        for trained, alpha in ((False, 0.35), (True, 1.0)):
            part = rows[(rows["schedule"] != "none") == trained]
            label = f"{form}, trained on" if trained else form
            if len(part):
                panel.scatter(part[x], part["accuracy"], alpha=alpha, label=label.replace("_", " "), **style)
    steps = candidates.sort_values([x, "accuracy"])
    best = steps[steps["accuracy"] >= steps["accuracy"].cummax()]
    panel.step(best[x], best["accuracy"], where="post", color="black", linewidth=1, label="front")
    for index, (name, row) in enumerate(chosen.items()):
        at = (candidates[x].iloc[row], candidates["accuracy"].iloc[row])
        panel.annotate(
            name, at, (18, -24 - 16 * index), textcoords="offset points", arrowprops={"arrowstyle": "-", "color": GREY}
        )
    draw_level(panel, dense, "dense accuracy")
    panel.set_xlabel(f"{x.replace('_', ' ')}, share of the dense model's")
    panel.set_ylabel("accuracy")
    legend_above(figure)
    return figure


def draw_searches(searches: pd.DataFrame) -> Figure:
    """Hypervolume against evaluations, a panel a model: the mean over seeds of each search, and all seeds as a band."""
    figure, panels = grid_of_panels(list(searches["model"].unique()), height=2.8)
    for model, panel in panels:
        for (name, rows), style in zip(
            searches[searches["model"] == model].groupby("search"), VARIANTS[1:], strict=False
        ):
            by_count = rows.groupby("evaluations")["hypervolume"]
            panel.fill_between(by_count.min().index, by_count.min(), by_count.max(), color=style["color"], alpha=0.15)
            panel.plot(by_count.mean(), label=str(name).replace("nsga2", "NSGA-II"), **style)
    figure.supxlabel("configurations measured")
    figure.supylabel("hypervolume, share of all")
    legend_above(figure)
    return figure


def draw_claims(changes: pd.DataFrame) -> Figure:
    """Printed and own relative change of each quantity, in per cent; a row each, indexed by quantity."""
    figure, panel = plt.subplots(figsize=(6.4, 2.6))
    names = [str(row).split(":")[0].rsplit("_", 1)[0].replace("_", " ") for row in changes.index]
    panel.scatter(changes["published"], names, facecolors="none", edgecolors=ORANGE, marker="o", s=60, label="printed")
    panel.scatter(changes["ours"], names, color=BLUE, marker="D", s=36, label="measured here")
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.set_xlabel("change, per cent of the dense model's")
    legend_above(figure)
    return figure
