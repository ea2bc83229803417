"""The surrogates that any other must beat, from a straight line to trees on the same inputs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors

from prunecast.surrogates.features import FREE, CurveSet, Forecast, certain, inputs, through_known

SMOOTH = 0.1  # length, in sparsity, over which the Gaussian process believes its error to be alike
NUGGET = 1e-4  # variance of a measured point, in retained share
NEAREST = 3
ISOTONIC_END = 0.0  # retained share of the empty model


class StraightLine:
    """Accuracy as a straight line in the threshold, the same for every model: the source study's baseline.

    A model of which points are known gets a line of its own through them and its dense accuracy.
    """

    def fit(self, curves: CurveSet) -> "StraightLine":
        """Fit by least squares on all known points."""
        known = ~np.isnan(curves.accuracy)
        self.line = _line(np.broadcast_to(curves.thresholds, known.shape)[known], curves.accuracy[known])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy."""
        found = []
        for accuracy in curves.accuracy:
            known = ~np.isnan(accuracy)
            line = _line(curves.thresholds[known], accuracy[known]) if known.sum() > 1 else self.line
            found.append(line.predict(curves.thresholds[:, None]))
        return certain(np.stack(found))


class MeanCurve:
    """The mean retained share of the training curves in the same scope, moved onto the known points."""

    def fit(self, curves: CurveSet) -> "MeanCurve":
        """Average threshold by threshold, interpolated where no training curve is known."""
        self.means = {scope: _mean(curves.retained[curves.scopes == scope]) for scope in set(curves.scopes)}
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy."""
        left = np.stack([self.means[scope] for scope in curves.scopes])
        return certain(through_known(curves.accuracy_of(left), curves))


class Logistic:
    """A logistic curve in the log-odds of the sparsity with three parameters: place, width and the level of its end.

    Fitted to the points known of a model, drawn towards the parameters of the mean training curve.
    """

    def fit(self, curves: CurveSet) -> "Logistic":
        """Fit one logistic curve to the mean training curve of each scope."""
        means = MeanCurve().fit(curves).means
        sparsity = curves.thresholds / 10
        flat = np.array([2.0, 1.0, 0.0])
        self.typical = {
            scope: least_squares(lambda p, mean=mean: _logistic(p, sparsity) - mean, flat).x
            for scope, mean in means.items()
        }
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy."""
        fitted = [self._fitted(curves, index) for index in range(len(curves.names))]
        left = np.stack([_logistic(p, row) for p, row in zip(fitted, curves.sparsity, strict=True)])
        return certain(curves.accuracy_of(left))

    def _fitted(self, curves: CurveSet, index: int) -> np.ndarray:
        typical, known = self.typical[curves.scopes[index]], ~np.isnan(curves.accuracy[index])
        sparsity, left = curves.sparsity[index, known], curves.retained[index, known]
        pull = 0.05
        return least_squares(lambda p: np.concatenate([_logistic(p, sparsity) - left, pull * (p - typical)]), typical).x


class Isotonic:
    """Isotonic regression of the retained share on sparsity: of all training points, or of the model's own if known."""

    def fit(self, curves: CurveSet) -> "Isotonic":
        """Fit a falling step function to all known points of each scope."""
        self.typical = {}
        for scope in set(curves.scopes):
            rows = curves.scopes == scope
            known = ~np.isnan(curves.accuracy[rows])
            self.typical[scope] = _falling(curves.sparsity[rows][known], curves.retained[rows][known])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy."""
        left = []
        for index, scope in enumerate(curves.scopes):
            known = ~np.isnan(curves.accuracy[index])
            model = self.typical[scope]
            if known.sum() > 1:
                own = (
                    np.append(values[index, known], end)
                    for values, end in ((curves.sparsity, 1), (curves.retained, ISOTONIC_END))
                )
                model = _falling(*own)
            left.append(model.predict(curves.sparsity[index]))
        return certain(curves.accuracy_of(np.stack(left)))


class NearestCurve:
    """The mean of the three training curves with the most similar inputs, moved onto the known points."""

    def __init__(self, groups: Sequence[str] = FREE):
        self.groups = groups

    def fit(self, curves: CurveSet) -> "NearestCurve":
        """Keep the training curves."""
        raw = inputs(curves, self.groups)
        self.mean, self.deviation = raw.mean((0, 1)), raw.std((0, 1)) + 1e-6
        self.retained = np.stack([_mean(row[None]) for row in curves.retained])
        self.index = NearestNeighbors(n_neighbors=min(NEAREST, len(raw))).fit(self._flat(raw))
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy."""
        _, near = self.index.kneighbors(self._flat(inputs(curves, self.groups)))
        return certain(through_known(curves.accuracy_of(self.retained[near].mean(1)), curves))

    def _flat(self, raw: np.ndarray) -> np.ndarray:
        return ((raw - self.mean) / self.deviation).reshape(len(raw), -1)


class GaussianProcess:
    """A Gaussian process over sparsity around the mean training curve, conditioned on the known points.

    Its variance is that of the training curves around their mean; it alone among the baselines has an interval.
    """

    def fit(self, curves: CurveSet) -> "GaussianProcess":
        """Take mean and variance from the training curves."""
        self.mean = MeanCurve().fit(curves)
        left = np.stack([self.mean.means[scope] for scope in curves.scopes])
        self.variance = float(np.nanvar(curves.retained - left))
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy with a 90 % interval."""
        kernel = ConstantKernel(self.variance) * RBF(SMOOTH)
        found = []
        for index, scope in enumerate(curves.scopes):
            known = ~np.isnan(curves.accuracy[index])
            mean, sparsity = self.mean.means[scope], curves.sparsity[index][:, None]
            noise = NUGGET + (curves.noise[index, known] / curves.span[index]) ** 2
            process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
            process.fit(sparsity[known], curves.retained[index, known] - mean[known])
            error, deviation = process.predict(sparsity, return_std=True)
            found.append(mean + error + np.array([[0], [-1.645], [1.645]]) * deviation)
        return Forecast(*(curves.accuracy_of(left) for left in np.stack(found, 1)))


class Tabular:
    """Trees on the inputs of each point by itself; what they forecast never rises, and passes the known points."""

    def __init__(self, make: Callable[[], Any], groups: Sequence[str] = FREE):
        self.make, self.groups = make, groups

    def fit(self, curves: CurveSet) -> "Tabular":
        """Fit on all known points."""
        known = ~np.isnan(curves.accuracy)
        self.trees = self.make().fit(inputs(curves, self.groups)[known], curves.retained[known])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast accuracy."""
        raw = inputs(curves, self.groups)
        left = self.trees.predict(raw.reshape(-1, raw.shape[-1])).reshape(raw.shape[:2])
        return certain(through_known(curves.accuracy_of(np.minimum.accumulate(left, 1)), curves))


def extra_trees(seed: int) -> ExtraTreesRegressor:
    """A hundred extremely randomised trees (Geurts et al., 2006)."""
    return ExtraTreesRegressor(100, min_samples_leaf=20, max_features=0.5, random_state=seed, n_jobs=1)


def gradient_boosting(seed: int) -> HistGradientBoostingRegressor:
    """Boosted trees on binned inputs."""
    return HistGradientBoostingRegressor(
        learning_rate=0.05, max_iter=150, max_leaf_nodes=12, min_samples_leaf=60, random_state=seed
    )


def _line(thresholds: np.ndarray, accuracy: np.ndarray) -> LinearRegression:
    return LinearRegression().fit(thresholds[:, None], accuracy)


def _mean(retained: np.ndarray) -> np.ndarray:
    """Mean (T,) of curves (C, T) over what is known, interpolated over thresholds where nothing is."""
    counts = (~np.isnan(retained)).sum(0)
    known, steps = np.flatnonzero(counts), np.arange(retained.shape[1])
    return np.interp(steps, known, np.nansum(retained, 0)[known] / counts[known])


def _logistic(parameters: np.ndarray, sparsity: np.ndarray) -> np.ndarray:
    place, width, end = parameters
    inside = np.clip(sparsity, 1e-6, 1 - 1e-6)
    risen = 1 / (1 + np.exp(-np.clip((np.log(inside / (1 - inside)) - place) / np.exp(width - 1), -50, 50)))
    return 1 - (1 - end) * risen


def _falling(sparsity: np.ndarray, retained: np.ndarray) -> IsotonicRegression:
    return IsotonicRegression(increasing=False, out_of_bounds="clip").fit(sparsity, retained)
