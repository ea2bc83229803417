"""Recommendation of a sparsity: read off a forecast with a safety margin, or searched for by a few measurements."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.surrogates.conformal import quantile
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import CurveSet, Floats, samples
from prunecast.surrogates.splits import Groups
from prunecast.sweeps import search_costs
from prunecast.sweeps.curve_metrics import ROUNDING, relatives, safe_sparsity, within_epsilon

FORECASTS = {"lstm": "no forward pass", "lstm_agreement": "eight samples"}
EDGE = 0.005  # sparsities closer to 0 or 1 count as this far from it

Indices = NDArray[np.intp]
Place = Callable[[CurveSet, Indices, Indices, bool], Indices]


def safe(sparsity: Floats, accuracy: Floats, epsilon: float) -> Floats:
    """Largest safe sparsity of some curves.

    Args:
        sparsity: Sparsities (C, T), as fractions.
        accuracy: Accuracies (C, T), as fractions.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Sparsities (C,), as fractions.
    """
    pairs = zip(sparsity, accuracy, strict=True)
    return np.array([safe_sparsity(pd.DataFrame({"sparsity": s, "accuracy": a}), epsilon) for s, a in pairs])


def lowered(forecast: Floats, margin: float) -> Floats:
    """Safe sparsities lowered by a safety margin.

    Args:
        forecast: Forecast safe sparsities (n,), as fractions.
        margin: Safety margin, in log-odds of the sparsity.

    Returns:
        Sparsities (n,), as fractions.
    """
    return np.asarray(1 / (1 + np.exp(margin - _log_odds(forecast))), float)


def safety_margin(forecast: Floats, measured: Floats, groups: Groups) -> float:
    """Safety margin with which the safe sparsity forecast for a new group is, nine times in ten, at most the measured.

    Args:
        forecast: Forecast safe sparsities (n,), as fractions.
        measured: Measured safe sparsities (n,), as fractions.
        groups: Group of relatives of each of them (n,).

    Returns:
        The margin, in log-odds of the sparsity; infinite where there are too few groups, see `conformal.quantile`.
    """
    return quantile((_log_odds(forecast) - _log_odds(measured))[:, None], groups)


def unverified(curves: CurveSet, groups: Groups, without_two: Floats, epsilon: float) -> pd.DataFrame:
    """Recommendations without any measurement, from forecasts of curves that were measured.

    The safety margin for a group is calibrated on the others, as forecast by surrogates trained without either.

    Args:
        curves: Measured curves (C) of G groups at T thresholds.
        groups: Group of each curve (C).
        without_two: Accuracies (G, C, T) forecast by `splits.leave_two_groups_out`, as fractions.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Rows of the table `recommendations` without method and split, one for each curve.
    """
    optimum, recommended = safe(curves.sparsity, curves.accuracy, epsilon), np.empty(len(groups), int)
    for place, group in enumerate(sorted(set(groups))):
        others, own = groups != group, groups == group
        forecast = safe(curves.sparsity, without_two[place], epsilon)
        lower_by = safety_margin(forecast[others], optimum[others], groups[others])
        recommended[own] = _at_most(curves.sparsity[own], lowered(forecast[own], lower_by))
    return _rows(curves, recommended, optimum, epsilon, 0)


def searched(curves: CurveSet, place: Place, epsilon: float, measurements: int) -> Iterator[pd.DataFrame]:
    """Recommendations after each number of measurements; only a measured sparsity is recommended.

    Args:
        curves: Measured curves (C), which the search reveals point by point.
        place: Chooses the indices of the thresholds to measure next (C,), from the curves as far as they are known,
            the indices of the largest threshold found safe (C,) and of the smallest found unsafe (C,), and whether
            it is the last measurement.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        measurements: Largest number of measurements.

    Yields:
        Rows of the table `recommendations` without method and split, for each number of measurements from 1.
    """
    optimum, rows = safe(curves.sparsity, curves.accuracy, epsilon), np.arange(len(curves.names))
    known = np.zeros(curves.accuracy.shape, bool)
    low, high = np.zeros(len(rows), int), np.full(len(rows), len(curves.thresholds))

    def measured(last: bool) -> tuple[Indices, NDArray[np.bool_]]:
        at = np.clip(place(curves.knowing(known), low, high, last), low, high - 1)
        return at, within_epsilon(curves.accuracy[rows, at], curves.accuracy[:, 0], epsilon)

    for budget in range(1, measurements + 1):
        at, holds = measured(last=True)
        yield _rows(curves, np.where(holds, at, low), optimum, epsilon, budget)
        at, holds = measured(last=False)
        known[rows, at] = True
        low, high = np.where(holds, at, low), np.where(holds, high, at)


def by_forecast(surrogate: CurvePosterior, epsilon: float) -> Place:
    """A choice of the next threshold for `searched`, from the posterior probability of being safe.

    A threshold is measured where this probability is half-way between those of the two ends of the bracket; at the
    last measurement, where the probability times the gain in thresholds is largest.

    Args:
        surrogate: A fitted curve posterior.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        The function `place` of `searched`.
    """

    def place(curves: CurveSet, lows: Indices, highs: Indices, last: bool) -> Indices:
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


def by_halves(_curves: CurveSet, low: Indices, high: Indices, _last: bool) -> Indices:
    """A choice of the next threshold for `searched` without a forecast: half-way between safe and unsafe.

    Args:
        low: Indices of the largest threshold found safe (C,).
        high: Indices of the smallest threshold found unsafe (C,).

    Returns:
        Indices of thresholds (C,).
    """
    return (low + high) // 2


def safe_ratio_costs(
    searches: pd.DataFrame, sweeps: pd.DataFrame, recommendations: pd.DataFrame, models: pd.DataFrame
) -> pd.DataFrame:
    """What each way to a safe ratio leaves unused, how often it is safe, and what it costs, over the same models.

    One ratio for all and the forecasts cost no labelled evaluation; their calibration left out the families and the
    pretrained parents of each model. Forecasts are those of the same models in the campaign, under another seed.

    Args:
        searches: Rows of the table `safe_searches`.
        sweeps: Rows of the table `sweeps`, with the magnitude curves of these models.
        recommendations: Rows of the table `recommendations`; those without measurements are read.
        models: Rows of the table `models` for these models.

    Returns:
        A row for each method and limit, with the columns of `search_costs.summary` and, in words, `way`.
    """
    from prunecast.experiments.rules_of_thumb import constant_ratio
    from prunecast.surrogates import benchmark  # here, because it imports scikit-learn, which no forecast needs

    epsilon = float(searches["epsilon"].iloc[0])
    optimum = searches.drop_duplicates(["model", "scope"])[["model", "scope", "optimum"]]
    constant = constant_ratio(sweeps, models, epsilon).merge(optimum, on=["model", "scope"])
    forecasts = recommendations[
        (recommendations["measurements"] == 0)
        & (recommendations["split"] == "leave_one_architecture_out")
        & recommendations["model"].isin(models["model"])
        & np.isclose(recommendations["epsilon"], epsilon)
    ]
    examples = models.set_index("model")["eval_examples"]
    spent = forecasts["method"].map(lambda name: samples(benchmark.ENTRIES[name].groups))
    parts = [
        constant.assign(method="one ratio for all", evaluations=0.0),
        forecasts.assign(
            method="forecast, " + forecasts["method"].map(FORECASTS),
            evaluations=spent / examples.loc[forecasts["model"]].to_numpy(),
        ),
        searches,
    ]
    rows = pd.concat(parts, ignore_index=True).assign(epsilon=epsilon)
    groups = dict(zip(models["model"], relatives(models), strict=True))
    found = search_costs.summary(rows, rows["model"].map(groups).to_numpy(object)).reset_index()
    return found.assign(way=[_way(*key) for key in found[["method", "confidence", "budget"]].itertuples(index=False)])


def _way(method: str, confidence: float, budget: float) -> str:
    limits = [] if np.isnan(budget) else [f"at most {budget:g}"]
    limits += ["exact"] if method == "search" and not limits else []
    limits += [] if np.isnan(confidence) else [f"confidence {confidence:g}"]
    return ", ".join([method, *limits])


def _at_most(sparsity: Floats, limits: Floats) -> Indices:
    """Index (C,) of the largest sparsity of each curve that is at most its limit."""
    return np.asarray((sparsity <= limits[:, None] + ROUNDING).sum(1) - 1, np.intp)


def _rows(curves: CurveSet, chosen: Indices, optimum: Floats, epsilon: float, measurements: int) -> pd.DataFrame:
    rows = np.arange(len(chosen))
    return pd.DataFrame(
        {
            "measurements": measurements,
            "model": curves.models,
            "scope": curves.scopes,
            "exact": curves.exact,
            "epsilon": epsilon,
            "optimum": optimum,
            "recommended": curves.sparsity[rows, chosen],
            "loss": curves.accuracy[:, 0] - curves.accuracy[rows, chosen],
        }
    )


def _log_odds(sparsity: Floats) -> Floats:
    inside = np.clip(sparsity, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))
