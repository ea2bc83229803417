"""Split conformal prediction by model: intervals with a stated coverage."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEVEL = 0.90


def interval_margin(scores: NDArray[np.float64], models: NDArray[Any], level: float = LEVEL) -> float:
    """Amount by which intervals must be widened so that a share `level` of the points of a mean model lies inside.

    Every model has the same weight, however many points it has.

    Args:
        scores: Distance of each point (n,) outside its interval, negative inside.
        models: Name of the model of each point (n,).
        level: Share of points that the widened intervals are to cover.

    Returns:
        The amount, in the unit of the scores; negative where intervals can be narrowed.

    Source: Romano et al. (2019), conformalised quantile regression.
    """
    frame = pd.DataFrame({"score": scores, "model": models})
    weights = 1 / frame.groupby("model")["score"].transform("size")
    order = np.argsort(frame["score"].to_numpy(), kind="stable")
    reached = np.cumsum(weights.to_numpy()[order])
    place = min(int((reached < level * frame["model"].nunique()).sum()), len(frame) - 1)
    return float(frame["score"].to_numpy()[order][place])


def calibrated(forecasts: pd.DataFrame, calibrating: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of one surrogate with calibrated intervals.

    The interval of each model is widened by what models of other groups need, each of them forecast without having
    been trained on. An interval never excludes its own forecast; where there is no other group, its ends are NaN.

    Args:
        forecasts: Points with the columns model, group, accuracy, predicted, lower, upper; accuracies are fractions.
        calibrating: Points with the same columns, to calibrate on.

    Returns:
        The rows of `forecasts` with new columns lower and upper, between 0 and 1.

    Source: Barber et al. (2021), after whose jackknife+ the calibrating forecasts are made.
    """
    below, above = calibrating["lower"] - calibrating["accuracy"], calibrating["accuracy"] - calibrating["upper"]
    scores, models = np.maximum(below.to_numpy(), above.to_numpy()), calibrating["model"].to_numpy()
    parts = []
    for group, rows in forecasts.groupby("group", sort=False):
        others = (calibrating["group"] != group).to_numpy()
        wider = interval_margin(scores[others], models[others]) if others.any() else np.nan
        parts.append(widened(rows, wider))
    return pd.concat(parts).loc[forecasts.index]


def widened(forecasts: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Forecasts with their intervals widened on both sides, but not past 0 and 1, nor past the forecast itself.

    Args:
        forecasts: Points with the columns predicted, lower, upper.
        margin: Accuracy, as a fraction, to add on either side.

    Returns:
        The points with new columns lower and upper.
    """
    lower = np.minimum(forecasts["lower"] - margin, forecasts["predicted"])
    upper = np.maximum(forecasts["upper"] + margin, forecasts["predicted"])
    return forecasts.assign(lower=lower.clip(0, 1), upper=upper.clip(0, 1))
