"""Conformal intervals by groups of relatives: how wide they must be for a new group, and what they cover."""

import numpy as np

from prunecast.surrogates.features import CurveSet, Floats, Forecast
from prunecast.surrogates.splits import Groups

LEVEL = 0.90


def margin(scores: Floats, groups: Groups, level: float = LEVEL) -> float:
    """The conformal quantile of scores over groups: what the score of a point of a new group exceeds in 1 - `level`.

    Of K groups, each has the weight 1 / (K + 1), shared equally by its rows and, within a row, by its known scores;
    the last 1 / (K + 1) lies at infinity and stands for the new group. If groups are exchangeable, a random point of
    a random curve of the new group has a score of at most the margin with a probability of at least `level`.

    Args:
        scores: Scores of points (n, T), such as the distances outside an interval; NaN where there is none.
        groups: Group of relatives of each row (n).
        level: Probability that is to be reached.

    Returns:
        The margin, in the unit of the scores; infinite where there are too few groups, which is fewer than nine for
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


def distances(forecast: Forecast, curves: CurveSet) -> Floats:
    """How far measured points lie outside their interval.

    Args:
        forecast: Forecasts (C, T) with intervals.
        curves: The same C curves at T thresholds, measured.

    Returns:
        Distances (C, T), in accuracy as a fraction, negative inside; NaN for the dense point, which is known, and for
        points that were not measured.
    """
    outside = np.maximum(forecast.lower - curves.accuracy, curves.accuracy - forecast.upper)
    judged = curves.measured & (np.arange(outside.shape[1]) > 0)
    return np.where(judged, outside, np.nan)


def calibrated(forecast: Forecast, margin: float, factor: float = 1.0) -> Forecast:
    """Forecasts with intervals that are wider by a margin on both sides.

    Args:
        forecast: Forecasts (C, T) of curves that begin at the dense accuracy, which is known and gets no interval.
        margin: Accuracy, as a fraction, by which the intervals are widened; negative where they can be narrower.
        factor: By which the distance of both ends from the forecast is multiplied then.

    Returns:
        The same forecasts; ends lie between 0 and 1 and never exclude the forecast. With an infinite margin they are
        NaN: there is no interval.
    """
    below, above = (
        np.maximum(distance + margin, 0) * factor
        for distance in (forecast.predicted - forecast.lower, forecast.upper - forecast.predicted)
    )
    below[:, 0] = above[:, 0] = 0
    lower = np.minimum(np.clip(forecast.predicted - below, 0, 1), forecast.predicted)
    upper = np.maximum(np.clip(forecast.predicted + above, 0, 1), forecast.predicted)
    if np.isinf(margin):
        lower, upper = np.full_like(lower, np.nan), np.full_like(upper, np.nan)
    return Forecast(forecast.predicted, lower, upper)


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
        scores = distances(own, curves)[~out]
        tested = Forecast(own.predicted[out], own.lower[out], own.upper[out])
        done = calibrated(tested, margin(scores, groups[~out]))
        ends[:, out] = done.predicted, done.lower, done.upper
    return Forecast(*ends)
