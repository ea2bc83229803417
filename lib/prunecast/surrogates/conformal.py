"""Conformal intervals by groups of relatives: how wide they must be for a model of a new group."""

import numpy as np

from prunecast.surrogates.features import CurveSet, Floats, Forecast, without_interval
from prunecast.surrogates.splits import Groups

LEVEL = 0.90
FLOOR = 0.01  # accuracy, as a fraction, that is added to an interval's own distances before they are multiplied


def quantile(scores: Floats, groups: Groups, level: float = LEVEL) -> float:
    """The conformal quantile of scores over groups: what the score of a point of a new group exceeds in 1 - `level`.

    Of K groups, each has the weight 1 / (K + 1), shared equally by its rows and, within a row, by its known scores;
    the last 1 / (K + 1) lies at infinity and stands for the new group. If groups are exchangeable, a random point of
    a random curve of the new group has a score of at most this with a probability of at least `level`.

    Args:
        scores: Scores of points (n, T), such as `ratios`; NaN where there is none.
        groups: Group of relatives of each row (n).
        level: Probability that is to be reached.

    Returns:
        The quantile, in the unit of the scores; infinite where there are too few groups, which is fewer than nine for
        nine tenths.

    Source: Lee, Barber and Willett (2023), "Distribution-free inference with hierarchical data".
    """
    counts = (~np.isnan(scores)).sum(1, keepdims=True)
    present = counts[:, 0] > 0
    scores, counts, groups = scores[present], counts[present], groups[present]
    names, rows = np.unique(groups.astype(str), return_counts=True)
    share = 1 / (len(names) + 1)
    of_row = share / rows[np.searchsorted(names, groups.astype(str))]
    weights = np.broadcast_to(of_row[:, None] / counts, scores.shape)[~np.isnan(scores)]
    values = scores[~np.isnan(scores)]
    order = np.argsort(values, kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[order]) >= level - 1e-12)
    return float(values[order][reached[0]]) if len(reached) else np.inf


def ratios(forecast: Forecast, curves: CurveSet) -> Floats:
    """Errors of forecasts as multiples of the distance to the end of their interval, on the side of the error.

    Args:
        forecast: Forecasts (C, T) with intervals.
        curves: The same C curves at T thresholds, with their accuracies. Interpolated ones count here: an interval is
            for a point anywhere on a curve, and what interpolation adds to its error is small.

    Returns:
        Ratios (C, T), above 1 outside an interval that is wider by `FLOOR`; NaN for the dense point, which is known.

    Source: Sesia and Candès (2020), "A comparison of some conformal quantile regression methods", CQR-r.
    """
    error = curves.accuracy - forecast.predicted
    below, above = (forecast.predicted - forecast.lower + FLOOR, forecast.upper - forecast.predicted + FLOOR)
    scores = np.where(error < 0, -error / below, error / above)
    scores[:, 0] = np.nan
    return scores


def calibrated(forecast: Forecast, factor: float) -> Forecast:
    """Forecasts with intervals that are multiplied by a factor.

    Args:
        forecast: Forecasts (C, T) of curves that begin at the dense accuracy, which is known and gets no interval.
        factor: By which both distances, each with `FLOOR` added, are multiplied: a `quantile` of `ratios`.

    Returns:
        The same forecasts, between 0 and 1 as their ends, which never exclude them. With an infinite factor they are
        NaN: there is no interval.
    """
    predicted = np.clip(forecast.predicted, 0, 1)
    if np.isinf(factor):
        return without_interval(predicted)
    lower = np.clip(forecast.predicted - factor * (forecast.predicted - forecast.lower + FLOOR), 0, 1)
    upper = np.clip(forecast.predicted + factor * (forecast.upper - forecast.predicted + FLOOR), 0, 1)
    lower[:, 0] = upper[:, 0] = predicted[:, 0]
    return Forecast(predicted, np.minimum(lower, predicted), np.maximum(upper, predicted))


def jackknife(curves: CurveSet, groups: Groups, without_two: Forecast) -> Forecast:
    """Forecasts of all curves by surrogates without their relatives, with intervals that these never had a part in.

    The interval of a group is calibrated on the errors, on every other group, of surrogates that were trained without
    either: this is what is done for a model that nothing was trained on, repeated with each group in that place.

    Args:
        curves: C curves of G groups at T thresholds, measured.
        groups: Group of relatives of each curve (C).
        without_two: Forecasts (G, C, T) of `leave_two_groups_out`.

    Returns:
        Calibrated forecasts (C, T).

    Source: Barber et al. (2021), "Predictive inference with the jackknife+", whose leave-one-out residuals these are,
    by groups; the centre is the forecast of one surrogate, as in the plain jackknife.
    """
    ends = np.full((3, *curves.accuracy.shape), np.nan)
    for place, group in enumerate(sorted(set(groups))):
        out = groups == group
        own = Forecast(*(getattr(without_two, name)[place] for name in ("predicted", "lower", "upper")))
        factor = quantile(ratios(own, curves)[~out], groups[~out])
        done = calibrated(Forecast(own.predicted[out], own.lower[out], own.upper[out]), factor)
        ends[:, out] = done.predicted, done.lower, done.upper
    return Forecast(*ends)
