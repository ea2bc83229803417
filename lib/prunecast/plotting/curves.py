"""Figures of pruning curves and of their forecasts."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from prunecast.plotting.style import BLUE, FLAT, LEVEL, ORANGE, draw_levels, draw_series, finish, long_form, words

SPARSITY, THRESHOLD = "sparsity, share of the prunable weights", "threshold, tens of per cent"
UNITS = {"sigma": "standard deviations", "absolute": "hundredths", "percentile": "tens of per cent"}


def draw_curves(models: pd.DataFrame, sweeps: pd.DataFrame) -> Figure:
    """Draw accuracy against sparsity, a panel for each model: a line for each scope and for random pruning.

    Args:
        models: Rows of `models.csv`, in the order of the panels; a thin line is their majority class.
        sweeps: Rows of `sweeps.csv`.

    Returns:
        The figure.
    """
    rows = sweeps[(sweeps["axis"] == "percentile") & sweeps["model"].isin(models["model"])]
    grid = draw_series(_by_scope(rows), "sparsity", "accuracy", "model", col_order=list(models["model"]), **FLAT)
    draw_levels(grid, models.set_index("model")["majority_accuracy"], "majority class")
    return finish(grid, SPARSITY, "accuracy")


def draw_axes(sweeps: pd.DataFrame, majority: float) -> Figure:
    """Draw accuracy against the threshold, a panel for each axis, a line for each scope of magnitude pruning.

    Args:
        sweeps: Rows of `sweeps.csv` of one model.
        majority: Accuracy of always answering the majority class: a thin line.

    Returns:
        The figure.
    """
    rows = sweeps[sweeps["criterion"] == "magnitude"]
    rows = rows.assign(panel=rows["axis"] + ": " + rows["axis"].map(UNITS))
    grid = draw_series(_by_scope(rows), "threshold", "accuracy", "panel")
    grid.refline(y=majority, label="majority class", **LEVEL)
    return finish(grid, "threshold", "accuracy")


def draw_variants(bases: pd.Series, sweeps: pd.DataFrame) -> Figure:
    """Draw accuracy against sparsity, magnitude pruning in global scope: a panel a base, a line a variant of it.

    Args:
        bases: Base of each model, by the name of the model; a base that has no variants gets no panel.
        sweeps: Rows of `sweeps.csv`.

    Returns:
        The figure.
    """
    rows = sweeps.query("criterion == 'magnitude' and scope == 'global' and axis == 'percentile'")
    rows = rows.assign(base=rows["model"].map(bases[bases.duplicated(keep=False)])).dropna(subset="base")
    names = [model.removeprefix(base) for model, base in zip(rows["model"], rows["base"], strict=True)]
    series = [words(name).strip() or "as it is" for name in names]
    rows = rows.assign(series=series).sort_values("series", kind="stable")
    return finish(draw_series(rows, "sparsity", "accuracy", "base", reference=True, **FLAT), SPARSITY, "accuracy")


def draw_forecasts(predictions: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Draw measured curves, thick and grey, and a line for each surrogate's forecast; a panel for each model.

    Args:
        predictions: Rows of `predictions.csv` of one protocol, axis and scope.
        models: Names of the models, in the order of the panels.

    Returns:
        The figure.
    """
    measured = predictions.drop_duplicates(["model", "threshold"]).assign(series="measured")
    forecasts = predictions.assign(series=predictions["surrogate"].map(words), accuracy=predictions["predicted"])
    rows = pd.concat([measured, forecasts.sort_values("series", kind="stable")])
    grid = draw_series(rows, "threshold", "accuracy", "model", reference=True, col_order=list(models))
    return finish(grid, THRESHOLD, "accuracy")


def draw_prediction(
    curve: pd.DataFrame, recommended: Mapping[str, float], dense: float, measured: pd.DataFrame | None = None
) -> Figure:
    """Draw forecast accuracy with its interval against sparsity, a panel for each scope.

    Args:
        curve: Columns scope, sparsity, predicted, lower and upper.
        recommended: Recommended sparsity by scope, in the order of the panels: a dashed line.
        dense: Accuracy before pruning: a thin line.
        measured: Points that were measured, with the columns scope, sparsity and accuracy; None for none.

    Returns:
        The figure.
    """
    grid = draw_series(curve.assign(series="forecast"), "sparsity", "predicted", "scope", col_order=list(recommended))
    grid.map(plt.fill_between, "sparsity", "lower", "upper", color=BLUE, alpha=0.2, label="90 % interval")
    grid.refline(y=dense, label="dense accuracy", **LEVEL)
    for scope, panel in grid.axes_dict.items():
        panel.axvline(recommended[scope], color=ORANGE, linestyle="--", label="recommended")
        if measured is not None:
            points = measured[measured["scope"] == scope]
            panel.plot(points["sparsity"], points["accuracy"], "o", color="black", markersize=3.5, label="measured")
    return finish(grid, SPARSITY, "accuracy", "{col_name} scope")


def draw_safe_ratios(rows: pd.DataFrame) -> Figure:
    """Draw what methods to find a safe ratio leave unused and how often they are safe, against their cost.

    Args:
        rows: One row a method and limit, with the columns series, evaluations, unused and safe (fractions).

    Returns:
        The figure, with two panels over one scale of evaluations, which is linear below a tenth.
    """
    names = {"unused": "sparsity left unused", "safe": "share of curves that are safe"}
    panels = rows.melt(["series", "evaluations"], list(names), "quantity").replace({"quantity": names})
    facets = {"sharey": False, "legend_out": False}
    grid = draw_series(panels, "evaluations", "value", "quantity", kind="scatter", facet_kws=facets, height=3)
    for panel in grid.axes.flat:
        panel.set_xscale("symlog", linthresh=0.1)
        panel.set_xlim(-0.02, None)
    return finish(grid, "evaluations of all examples beside the dense one", "fraction")


def draw_intervals(predictions: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Draw forecasts with their intervals and the measured points, a panel for each model.

    Args:
        predictions: Rows of the table `predictions` of one surrogate, protocol, axis and scope.
        models: Names of the models, in the order of the panels.

    Returns:
        The figure.
    """
    rows = predictions.assign(series="forecast")
    grid = draw_series(rows, "threshold", "predicted", "model", col_order=list(models))
    grid.map(plt.fill_between, "threshold", "lower", "upper", color=BLUE, alpha=0.2, label="90 % interval")
    for model, panel in grid.axes_dict.items():
        points = rows[(rows["model"] == model) & rows["measured"]]
        panel.plot(points["threshold"], points["accuracy"], "o", color=ORANGE, markersize=4, label="measured")
    return finish(grid, THRESHOLD, "accuracy")


def draw_leaderboard(board: pd.DataFrame, published: float) -> Figure:
    """Draw error against cost, a mark for each surrogate in each protocol; some of them by name.

    Args:
        board: Columns protocol, surrogate, mae (in accuracy) and cost (in evaluations of the model).
        published: Mean absolute error that the source study prints: a thin line.

    Returns:
        The figure.
    """
    rows = board.assign(series=board["protocol"].map(words))
    grid = draw_series(rows, "cost", "mae", kind="scatter", height=4.2, aspect=1.7)
    rows["lowest"] = rows.groupby("protocol")["mae"].transform("min")
    named = "mae == lowest or surrogate == 'agreement' or cost == 0 and surrogate in ('lstm', 'straight_line')"
    for name, *place in rows.query(named)[["surrogate", "cost", "mae"]].itertuples(index=False):
        grid.ax.annotate(words(name), place, (5, 3), textcoords="offset points", fontsize=8)
    grid.refline(y=published, label="printed by the source study", **LEVEL)
    grid.set(xlim=(-0.03, 20), yscale="log").ax.set_xscale("symlog", linthresh=0.1)
    return finish(grid, "cost, evaluations of the model", "mean absolute error, accuracy")


def draw_recalibration(measured: pd.DataFrame, forecast: pd.DataFrame) -> Figure:
    """Draw accuracy as pruned and after recalibration, and a forecast; a panel for each model and scope.

    Args:
        measured: Rows of `recalibration.csv`.
        forecast: Rows of `predictions.csv` of one surrogate; those of models and scopes not measured are left out.

    Returns:
        The figure.
    """
    labels = {"accuracy": "as pruned", "recalibrated": "recalibrated", "predicted": "forecast of the LSTM"}
    rows = pd.concat([measured, forecast[["model", "scope", "threshold", "predicted"]]])
    rows = long_form(rows.assign(panel=rows["model"] + ", " + rows["scope"]), labels).dropna(subset="value")
    order = list(rows["panel"][rows["series"] == "as pruned"].unique())
    grid = draw_series(rows, "threshold", "value", "panel", reference=True, col_order=order, col_wrap=2)
    return finish(grid, THRESHOLD, "accuracy")


def draw_depletion(curves: pd.DataFrame, signals: pd.DataFrame, models: Sequence[str]) -> Figure:
    """Draw accuracy against sparsity, and the share of its sum of squares that the most depleted layer has lost.

    Args:
        curves: Rows of `sweeps.csv` of one axis, scope and criterion.
        signals: Rows of `signals.csv` of the same scope.
        models: Names of the models, in the order of the panels.

    Returns:
        The figure.
    """
    lost = signals.assign(series="lost by one layer", value=signals["lost_max"])
    rows = pd.concat([lost, curves.assign(series="accuracy", value=curves["accuracy"])]).query("model in @models")
    grid = draw_series(rows, "sparsity", "value", "model", reference=True, col_order=list(models))
    return finish(grid, SPARSITY, "share lost; accuracy")


def _by_scope(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the column `series`: magnitude in each scope, or another criterion; sorted by it."""
    series = rows["criterion"].mask(rows["criterion"] == "magnitude", "magnitude, " + rows["scope"] + " scope")
    return rows.assign(series=series).sort_values("series", kind="stable")
