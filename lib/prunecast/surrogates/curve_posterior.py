"""A posterior over curves by importance sampling: candidates from a prior forecast, weighted by measured points.

A candidate has the shape of a measured curve of another model, or of the forecast itself, shifted and stretched along
the log-odds of the sparsity. Known points determine the weights of the candidates; their weighted quantiles are the
forecast and its interval; and the next point to measure is the one that would leave the least variance along the curve.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prunecast.seeding import generator
from prunecast.surrogates.features import CurveSet, Floats, Forecast, Surrogate, through_known

CANDIDATES = 3000
SHIFT = 0.7  # standard deviation of the shift of a candidate, in log-odds
STRETCH = 0.5  # standard deviation of the logarithm of its stretch factor
OWN = 0.3  # share of the candidates that have the shape of the forecast itself
TOLERANCE = 0.03  # distance from a point measured exactly, in retained share, that divides a weight by e
APART = 8  # thresholds, of 101, within which of a known point no other is chosen
INTERVAL = (0.05, 0.95)
EDGE = 0.004  # sparsities closer to 0 or 1 have the same log-odds


class CurvePosterior:
    """Forecasts of a prior surrogate, conditioned on the points that are known of the curves to forecast.

    Attributes:
        prior: Makes the unfitted prior surrogate.
        seed: Seed of the candidates.
        fitted: The prior after `fit`.
        shapes: Retained shares of the training curves (n, T).
    """

    def __init__(self, prior: Callable[[], Surrogate], seed: int = 0):
        self.prior, self.seed = prior, seed

    def fit(self, curves: CurveSet) -> "CurvePosterior":
        """Fit the prior to `curves`, and take them as shapes, with gaps between known points interpolated linearly."""
        self.fitted = self.prior().fit(curves)
        steps = np.arange(len(curves.thresholds))
        known = ~np.isnan(curves.retained)
        rows = zip(curves.retained, known, strict=True)
        self.shapes = np.stack([np.interp(steps, steps[each], row[each]) for row, each in rows])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy of some curves with a 90 % interval.

        Args:
            curves: C curves to forecast at T thresholds, with their known points.

        Returns:
            Weighted median and 5 to 95 % quantiles (C, T); as the median, the prior's own forecast for curves of
            which no point but the dense one is known.
        """
        prior = self.fitted.predict(curves).predicted
        accuracies = []
        for index in range(len(curves.names)):
            candidates, weights = self._weighted(curves, prior, index)
            quantiles = [_quantile(candidates, weights, share) for share in (0.5, *INTERVAL)]
            accuracies.append(curves.majority[index] + curves.span[index] * np.stack(quantiles))
        predicted, lower, upper = np.stack(accuracies, 1)
        unprobed = np.all(np.isnan(curves.accuracy[:, 1:]), axis=1)
        predicted = np.where(unprobed[:, None], prior, through_known(predicted, curves))
        return Forecast(predicted, np.minimum(lower, predicted), np.maximum(upper, predicted))

    def next_thresholds(self, curves: CurveSet, noise: float = 0.05) -> NDArray[np.intp]:
        """Choose the point of each curve whose measurement would most reduce the variance along the curve.

        Args:
            curves: C curves, with their known points.
            noise: Standard error of the measurement to come, in retained share.

        Returns:
            Index of a threshold for each curve (C), at least `APART` thresholds from all known points.
        """
        prior = self.fitted.predict(curves).predicted
        chosen = []
        for index in range(len(curves.names)):
            candidates, weights = self._weighted(curves, prior, index)
            centred = candidates - weights @ candidates
            covariance = (centred * weights[:, None]).T @ centred
            gain = (covariance**2).sum(1) / (np.diag(covariance) + noise**2)
            for place in np.flatnonzero(~np.isnan(curves.accuracy[index])):
                gain[max(0, place - APART + 1) : place + APART] = -1
            gain[0] = -2  # known, however many other points are
            chosen.append(int(gain.argmax()))
        return np.array(chosen)

    def chance_of_safe(self, curves: CurveSet, epsilon: float) -> Floats:
        """Probability that no point up to a threshold loses more than `epsilon`.

        Args:
            curves: C curves at T thresholds, with their known points.
            epsilon: Loss of accuracy that is accepted, as a fraction.

        Returns:
            Probabilities (C, T), falling along each curve.
        """
        prior = self.fitted.predict(curves).predicted
        chances = []
        for index in range(len(curves.names)):
            candidates, weights = self._weighted(curves, prior, index)
            holds = np.minimum.accumulate(candidates, 1) >= 1 - epsilon / curves.span[index]
            chances.append(weights @ holds)
        return np.array(chances)

    def _weighted(self, curves: CurveSet, prior: Floats, index: int) -> tuple[Floats, Floats]:
        """Candidates (n, T) for one curve, as retained shares, and their weights (n,)."""
        retained = (prior[index] - curves.majority[index]) / curves.span[index]
        candidates = self._candidates(retained, curves.sparsity[index], "/".join(curves.names[index]))
        known = ~np.isnan(curves.accuracy[index])
        distance = np.abs(candidates[:, known] - curves.retained[index, known])
        scale = TOLERANCE + curves.noise[index, known] / curves.span[index]
        logs = -(distance / scale).sum(1)
        weights = np.exp(logs - logs.max())
        return candidates, weights / weights.sum()

    def _candidates(self, retained: Floats, sparsity: Floats, name: str) -> Floats:
        draw = generator(self.seed, "warped", name)  # another name would be another draw
        which = draw.integers(len(self.shapes), size=CANDIDATES)
        which[draw.random(CANDIDATES) < OWN] = -1
        place = np.log(np.clip(sparsity, EDGE, 1 - EDGE) / (1 - np.clip(sparsity, EDGE, 1 - EDGE)))
        centre = _half_way(retained, place)
        centres = centre + SHIFT * draw.standard_normal(CANDIDATES)
        factors = np.exp(STRETCH * draw.standard_normal(CANDIDATES))
        candidates = np.empty((CANDIDATES, len(sparsity)))
        for shape in np.unique(which):
            rows = which == shape
            values = retained if shape < 0 else self.shapes[shape]
            origin = (place[None] - centres[rows, None]) / factors[rows, None] + _half_way(values, place)
            candidates[rows] = np.interp(origin, place, values)
        candidates[:, 0] = 1
        return candidates


def _half_way(retained: Floats, place: Floats) -> float:
    """Log-odds at which a curve first falls below one half, interpolated; the last of `place` if it never does."""
    falling = np.minimum.accumulate(retained)
    if falling[-1] >= 0.5:
        return float(place[-1])
    after = int(np.argmax(falling < 0.5))
    if after == 0:
        return float(place[0])
    share = (falling[after - 1] - 0.5) / (falling[after - 1] - falling[after])
    return float(place[after - 1] + share * (place[after] - place[after - 1]))


def _quantile(candidates: Floats, weights: Floats, share: float) -> Floats:
    order = np.argsort(candidates, 0)
    reached = np.cumsum(weights[order], 0)
    place = np.minimum((reached < share * reached[-1]).sum(0), len(candidates) - 1)
    quantiles: Floats = np.take_along_axis(candidates, order, 0)[place, np.arange(candidates.shape[1])]
    return quantiles
