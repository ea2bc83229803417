"""Warped curves: a forecast turned into many candidate curves, weighed by what is measured (importance sampling).

A candidate has the shape of a measured curve of another model, or of the forecast itself, moved and stretched along
the log-odds of the sparsity. Points that are known weigh the candidates; their weighted quantiles are the forecast and
its interval; and the next point worth measuring is where knowing it would leave the least variance along the curve.
"""

from collections.abc import Callable

import numpy as np

from prunecast.seeding import seed_everything
from prunecast.surrogates.features import CurveSet, Forecast, Surrogate, through_known

CANDIDATES = 3000
MOVED = 0.7  # standard deviation of the place of a candidate, in log-odds
STRETCHED = 0.5  # standard deviation of the logarithm of its width
OWN = 0.3  # share of the candidates with the shape of the forecast itself
TOLERANCE = 0.03  # distance, in retained share, at which an exactly measured point counts against a candidate
APART = 8  # thresholds, of 101, within which a known point is not joined by another
INTERVAL = (0.05, 0.95)
EDGE = 0.004  # sparsities closer to 0 or 1 are one place


class CurvePosterior:
    """The forecasts of `prior`, conditioned on whatever points are known of the curves to forecast."""

    def __init__(self, prior: Callable[[], Surrogate], seed: int = 0):
        self.prior, self.seed = prior, seed

    def fit(self, curves: CurveSet) -> "CurvePosterior":
        """Fit the prior, and keep the training curves as shapes; gaps between known points are interpolated."""
        self.fitted = self.prior().fit(curves)
        steps = np.arange(len(curves.thresholds))
        self.shapes = np.stack(
            [np.interp(steps, steps[known], row[known]) for row in curves.retained for known in [~np.isnan(row)]]
        )
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Weighted median and 5 to 95 % interval; the prior's own forecast where nothing is known but the dense end."""
        prior = self.fitted.predict(curves).predicted
        found = []
        for index in range(len(curves.names)):
            candidates, weights = self._weighed(curves, prior, index)
            quantiles = [_quantile(candidates, weights, share) for share in (0.5, *INTERVAL)]
            found.append(curves.majority[index] + curves.span[index] * np.stack(quantiles))
        predicted, lower, upper = np.stack(found, 1)
        unprobed = np.isnan(curves.accuracy[:, 1:]).all(1)
        predicted = np.where(unprobed[:, None], prior, through_known(predicted, curves))
        return Forecast(predicted, np.minimum(lower, predicted), np.maximum(upper, predicted))

    def next_thresholds(self, curves: CurveSet, noise: float = 0.05) -> np.ndarray:
        """Index (C,) of the threshold of each curve that is worth measuring next, with standard error `noise`."""
        prior = self.fitted.predict(curves).predicted
        chosen = []
        for index in range(len(curves.names)):
            candidates, weights = self._weighed(curves, prior, index)
            centred = candidates - weights @ candidates
            covariance = (centred * weights[:, None]).T @ centred
            gain = (covariance**2).sum(1) / (np.diag(covariance) + noise**2)
            for place in np.flatnonzero(~np.isnan(curves.accuracy[index])):
                gain[max(0, place - APART + 1) : place + APART] = -1
            chosen.append(int(gain.argmax()))
        return np.array(chosen)

    def chance_of_safe(self, curves: CurveSet, epsilon: float) -> np.ndarray:
        """Probability (C, T) that no point up to a threshold loses more than `epsilon` of accuracy."""
        prior = self.fitted.predict(curves).predicted
        found = []
        for index in range(len(curves.names)):
            candidates, weights = self._weighed(curves, prior, index)
            holds = np.minimum.accumulate(candidates, 1) >= 1 - epsilon / curves.span[index]
            found.append(weights @ holds)
        return np.array(found)

    def _weighed(self, curves: CurveSet, prior: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Candidates (n, T) for one curve, as retained shares, and their weights (n,)."""
        retained = (prior[index] - curves.majority[index]) / curves.span[index]
        candidates = self._candidates(retained, curves.sparsity[index], "/".join(curves.names[index]))
        known = ~np.isnan(curves.accuracy[index])
        distance = np.abs(candidates[:, known] - curves.retained[index, known])
        scale = TOLERANCE + curves.noise[index, known] / curves.span[index]
        logs = -(distance / scale).sum(1)
        weights = np.exp(logs - logs.max())
        return candidates, weights / weights.sum()

    def _candidates(self, retained: np.ndarray, sparsity: np.ndarray, name: str) -> np.ndarray:
        generator = seed_everything(self.seed, "warped", name)
        which = generator.integers(len(self.shapes), size=CANDIDATES)
        which[generator.random(CANDIDATES) < OWN] = -1
        place = np.log(np.clip(sparsity, EDGE, 1 - EDGE) / (1 - np.clip(sparsity, EDGE, 1 - EDGE)))
        centre = _half_way(retained, place)
        moved = centre + MOVED * generator.standard_normal(CANDIDATES)
        stretched = np.exp(STRETCHED * generator.standard_normal(CANDIDATES))
        made = np.empty((CANDIDATES, len(sparsity)))
        for shape in np.unique(which):
            rows = which == shape
            values = retained if shape < 0 else self.shapes[shape]
            origin = (place[None] - moved[rows, None]) / stretched[rows, None] + _half_way(values, place)
            made[rows] = np.interp(origin, place, values)
        made[:, 0] = 1
        return made


def _half_way(retained: np.ndarray, place: np.ndarray) -> float:
    """Where a curve first falls below one half, interpolated; the last place where it never does."""
    falling = np.minimum.accumulate(retained)
    if falling[-1] >= 0.5:
        return float(place[-1])
    after = int(np.argmax(falling < 0.5))
    if after == 0:
        return float(place[0])
    share = (falling[after - 1] - 0.5) / (falling[after - 1] - falling[after])
    return float(place[after - 1] + share * (place[after] - place[after - 1]))


def _quantile(candidates: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    order = np.argsort(candidates, 0)
    reached = np.cumsum(weights[order], 0)
    place = np.minimum((reached < share * reached[-1]).sum(0), len(candidates) - 1)
    return np.take_along_axis(candidates, order, 0)[place, np.arange(candidates.shape[1])]
