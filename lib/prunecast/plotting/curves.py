"""Figures of pruning curves and of their forecasts."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunecast.plotting.style import BLUE, GREY, LINES, ORANGE, VARIANTS, draw_level, grid_of_panels, legend_above


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
