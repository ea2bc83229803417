"""Intervals that hold: split conformal prediction by model."""

import numpy as np
import pandas as pd

LEVEL = 0.90


def interval_margin(scores: np.ndarray, models: np.ndarray, level: float = LEVEL) -> float:
    """Amount by which intervals must be widened so that a share `level` of the points of a mean model lies inside.

    `scores` say how far each point lies outside its interval, negative inside (conformalised quantile regression,
    Romano et al., 2019); every model weighs the same, however many points it has.
    """
    frame = pd.DataFrame({"score": scores, "model": models})
    weights = 1 / frame.groupby("model")["score"].transform("size")
    order = np.argsort(frame["score"].to_numpy(), kind="stable")
    reached = np.cumsum(weights.to_numpy()[order])
    place = min(int((reached < level * frame["model"].nunique()).sum()), len(frame) - 1)
    return float(frame["score"].to_numpy()[order][place])


def calibrated(forecasts: pd.DataFrame, calibrating: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of one surrogate with the interval of each model widened by what other models of `calibrating` need.

    Both need the columns model, group, accuracy, predicted, lower, upper. The models that calibrate are those of other
    groups, each forecast without having been trained on (as in the jackknife+ of Barber et al., 2021). An interval
    never excludes its own forecast; where no other group calibrates, it is empty.
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
    """Forecasts with their intervals widened on both sides, but not past 0 and 1."""
    lower = np.minimum(forecasts["lower"] - margin, forecasts["predicted"])
    upper = np.maximum(forecasts["upper"] + margin, forecasts["predicted"])
    return forecasts.assign(lower=lower.clip(0, 1), upper=upper.clip(0, 1))
