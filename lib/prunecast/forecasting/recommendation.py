"""A ratio to prune to: read off a forecast with caution, or found by a few measurements that the forecast places."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from prunecast.surrogates.conformal import interval_margin
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import CurveSet
from prunecast.surrogates.splits import relatives
from prunecast.sweeps.curve_metrics import safe_sparsity

EDGE = 0.005  # sparsities closer to 0 or 1 count as this far from it


def safe(sparsity: np.ndarray, accuracy: np.ndarray, epsilon: float) -> np.ndarray:
    """Safe sparsity (C,) of curves given as sparsity and accuracy (C, T)."""
    pairs = zip(sparsity, accuracy, strict=True)
    return np.array([safe_sparsity(pd.DataFrame({"sparsity": s, "accuracy": a}), epsilon) for s, a in pairs])


def lowered(forecast: np.ndarray, caution: float) -> np.ndarray:
    """Safe sparsities (n,) moved down by `caution`, in log-odds."""
    return 1 / (1 + np.exp(caution - _log_odds(forecast)))


def safety_margin(forecast: np.ndarray, measured: np.ndarray, models: np.ndarray) -> float:
    """How far forecasts (n,) of safe sparsities must move down for nine of ten to be at most the `measured` ones."""
    return interval_margin(_log_odds(forecast) - _log_odds(measured), models)


def unverified(curves: CurveSet, predicted: np.ndarray, epsilon: float) -> pd.DataFrame:
    """What forecasts (C, T) of measured curves recommend without a measurement: rows of `recommendations`.

    The caution for a model is that which the models of other groups of `relatives` ask for.
    """
    optimum, groups = safe(curves.sparsity, curves.accuracy, epsilon), relatives(curves.facts)
    believed = safe(curves.sparsity, predicted, epsilon)
    recommended = np.empty(len(groups), int)
    for group in set(groups):
        others, own = groups != group, groups == group
        caution = safety_margin(believed[others], optimum[others], curves.models[others])
        recommended[own] = _at_most(curves.sparsity[own], lowered(believed[own], caution))
    return _rows(curves, recommended, optimum, epsilon, 0)


def searched(
    curves: CurveSet,
    place: Callable[[CurveSet, np.ndarray, np.ndarray, bool], np.ndarray],
    epsilon: float,
    measurements: int,
) -> Iterator[pd.DataFrame]:
    """What is recommended after each number of measurements, for each budget from 1 on: rows of `recommendations`.

    `place` says where to measure next, from what is known, the largest sparsity found safe and the smallest found
    unsafe (indices of thresholds), and whether it is the last measurement. Only what was measured is recommended.
    """
    optimum, rows = safe(curves.sparsity, curves.accuracy, epsilon), np.arange(len(curves.names))
    known = np.zeros(curves.accuracy.shape, bool)
    low, high = np.zeros(len(rows), int), np.full(len(rows), len(curves.thresholds))

    def measured(last: bool) -> tuple[np.ndarray, np.ndarray]:
        at = np.clip(place(curves.knowing(known), low, high, last), low, high - 1)
        return at, curves.accuracy[rows, at] >= curves.accuracy[:, 0] - epsilon

    for budget in range(1, measurements + 1):
        at, holds = measured(last=True)
        yield _rows(curves, np.where(holds, at, low), optimum, epsilon, budget)
        at, holds = measured(last=False)
        known[rows, at] = True
        low, high = np.where(holds, at, low), np.where(holds, high, at)


def by_forecast(
    surrogate: CurvePosterior, epsilon: float
) -> Callable[[CurveSet, np.ndarray, np.ndarray, bool], np.ndarray]:
    """Measure where the candidates put even odds on safe and unsafe; at last where the most is to be gained."""

    def place(curves: CurveSet, lows: np.ndarray, highs: np.ndarray, last: bool) -> np.ndarray:
        chances = surrogate.chance_of_safe(curves, epsilon)
        chosen = []
        for chance, low, high in zip(chances, lows, highs, strict=True):
            inside = chance[low + 1 : high]
            if not len(inside):
                chosen.append(low)
            elif last:
                chosen.append(low + 1 + int((inside * np.arange(1, len(inside) + 1)).argmax()))
            else:
                end = chance[high] if high < len(chance) else 0.0
                chosen.append(low + 1 + int(np.abs(inside - (chance[low] + end) / 2).argmin()))
        return np.array(chosen)

    return place


def by_halves(curves: CurveSet, low: np.ndarray, high: np.ndarray, last: bool) -> np.ndarray:
    """Measure half-way between safe and unsafe: a search that forecasts nothing."""
    return (low + high) // 2


def _at_most(sparsity: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Index (C,) of the largest sparsity of each curve that is at most its limit."""
    return (sparsity <= limits[:, None] + 1e-9).sum(1) - 1


def _rows(curves: CurveSet, chosen: np.ndarray, optimum: np.ndarray, epsilon: float, measurements: int) -> pd.DataFrame:
    rows = np.arange(len(chosen))
    return pd.DataFrame(
        {
            "measurements": measurements,
            "model": curves.models,
            "scope": curves.scopes,
            "epsilon": epsilon,
            "optimum": optimum,
            "recommended": curves.sparsity[rows, chosen],
            "loss": curves.accuracy[:, 0] - curves.accuracy[rows, chosen],
        }
    )


def _log_odds(sparsity: np.ndarray) -> np.ndarray:
    inside = np.clip(sparsity, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))
