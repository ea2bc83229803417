"""Baseline surrogates, from a straight line to trees on the same inputs; methods are those of `features.Surrogate`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.isotonic import IsotonicRegression
from sklearn.neighbors import NearestNeighbors

from prunecast.surrogates.features import FREE, CurveSet, Floats, Forecast, inputs, through_known, without_interval

SMOOTH = 0.1  # length scale of the Gaussian process, in sparsity
PENALTY = 0.05  # weight, beside a point, of the distance of the logistic parameters from the typical ones
NUGGET = 1e-4  # variance of a measured point, in retained share
NEAREST = 3  # training curves that are averaged
ISOTONIC_END = 0.0  # retained share of the empty model


class StraightLine:
    """Accuracy as a straight line in the threshold from the dense accuracy on, with one slope for every model.

    The source study's baseline, but for its beginning: there the line is free. A model with known points gets a slope
    of its own, fitted to them.

    Attributes:
        slope: Change of accuracy for one unit of threshold, fitted to all training curves.
    """

    def fit(self, curves: CurveSet) -> "StraightLine":
        """Fit one slope by least squares to all known points of the training `curves`."""
        self.slope = _slope(curves.thresholds, curves.accuracy)
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
        known = (~np.isnan(curves.accuracy)).sum(1)
        rows = zip(curves.accuracy, known, strict=True)
        slopes = [_slope(curves.thresholds, row[None]) if count > 1 else self.slope for row, count in rows]
        return without_interval(curves.accuracy[:, :1] + np.array(slopes)[:, None] * curves.thresholds)


class MeanCurve:
    """The mean retained share of the training curves in the same scope, corrected to pass through the known points.

    Attributes:
        means: Mean retained share (T) by scope.
    """

    def fit(self, curves: CurveSet) -> "MeanCurve":
        """Average the training `curves` at each threshold, interpolated over thresholds where none is known."""
        self.means = {scope: _mean(curves.retained[curves.scopes == scope]) for scope in set(curves.scopes)}
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
        left = np.stack([self.means[scope] for scope in curves.scopes])
        return without_interval(through_known(curves.accuracy_of(left), curves))


class Logistic:
    """A logistic curve in the log-odds of the sparsity with three parameters: midpoint, width and level of its end.

    Fitted to the points known of a model, with a penalty on the distance from the parameters of the mean training
    curve.

    Attributes:
        typical: Parameters of the mean training curve (3) by scope.
    """

    def fit(self, curves: CurveSet) -> "Logistic":
        """Fit one logistic curve to the mean of the training `curves` of each scope."""
        means = MeanCurve().fit(curves).means
        sparsity = curves.thresholds / 10
        flat = np.array([2.0, 1.0, 0.0])
        self.typical = {
            scope: least_squares(lambda p, mean=mean: _logistic(p, sparsity) - mean, flat).x
            for scope, mean in means.items()
        }
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
        fitted = [self._fitted(curves, index) for index in range(len(curves.names))]
        left = np.stack([_logistic(p, row) for p, row in zip(fitted, curves.sparsity, strict=True)])
        return without_interval(curves.accuracy_of(left))

    def _fitted(self, curves: CurveSet, index: int) -> Floats:
        typical, known = self.typical[curves.scopes[index]], ~np.isnan(curves.accuracy[index])
        sparsity, left = curves.sparsity[index, known], curves.retained[index, known]

        def residuals(p: Floats) -> Floats:
            return np.concatenate([_logistic(p, sparsity) - left, PENALTY * (p - typical)])

        parameters: Floats = least_squares(residuals, typical).x
        return parameters


class Isotonic:
    """Isotonic regression of the retained share on sparsity: of all training points, or of the model's own if known.

    Attributes:
        typical: Regression of all training points by scope.
    """

    def fit(self, curves: CurveSet) -> "Isotonic":
        """Fit a falling step function to all known points of the training `curves` of each scope."""
        self.typical = {}
        for scope in set(curves.scopes):
            rows = curves.scopes == scope
            known = ~np.isnan(curves.accuracy[rows])
            self.typical[scope] = _falling(curves.sparsity[rows][known], curves.retained[rows][known])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
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
            left.append(np.where(curves.sparsity[index] > 0, model.predict(curves.sparsity[index]), 1))
        return without_interval(curves.accuracy_of(np.stack(left)))


class NearestCurve:
    """The mean of the three training curves with the most similar inputs, corrected to pass through the known points.

    Attributes:
        groups: Names of the inputs, as in `features.inputs`.
        mean: Mean of each of the F inputs over the training curves (F).
        deviation: Their standard deviation (F).
        retained: Retained share of the training curves (n, T), interpolated where unknown.
        index: Index of the training curves by their scaled inputs.
    """

    def __init__(self, groups: Sequence[str] = FREE):
        self.groups = groups

    def fit(self, curves: CurveSet) -> "NearestCurve":
        """Store the training `curves`, and index them by their inputs."""
        raw = inputs(curves, self.groups)
        self.mean, self.deviation = raw.mean((0, 1)), raw.std((0, 1)) + 1e-6
        self.retained = np.stack([_mean(row[None]) for row in curves.retained])
        self.index = NearestNeighbors(n_neighbors=min(NEAREST, len(raw))).fit(self._flat(raw))
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
        _, near = self.index.kneighbors(self._flat(inputs(curves, self.groups)))
        return without_interval(through_known(curves.accuracy_of(self.retained[near].mean(1)), curves))

    def _flat(self, raw: Floats) -> Floats:
        scaled: Floats = (raw - self.mean) / self.deviation
        return scaled.reshape(len(raw), -1)


class GaussianProcess:
    """A Gaussian process over sparsity around the mean training curve, conditioned on the known points.

    Its variance is that of the training curves around their mean.

    Attributes:
        mean: The mean training curves.
        variance: Variance of the retained share around them.
    """

    def fit(self, curves: CurveSet) -> "GaussianProcess":
        """Estimate mean and variance from the training `curves`."""
        self.mean = MeanCurve().fit(curves)
        left = np.stack([self.mean.means[scope] for scope in curves.scopes])
        self.variance = float(np.nanvar(curves.retained - left))
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
        kernel = ConstantKernel(self.variance) * RBF(SMOOTH)
        left = []
        for index, scope in enumerate(curves.scopes):
            known = ~np.isnan(curves.accuracy[index])
            mean, sparsity = self.mean.means[scope], curves.sparsity[index][:, None]
            noise = NUGGET + (curves.noise[index, known] / curves.span[index]) ** 2
            process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
            process.fit(sparsity[known], curves.retained[index, known] - mean[known])
            left.append(mean + process.predict(sparsity))
        return without_interval(through_known(curves.accuracy_of(np.stack(left)), curves))


class Tabular:
    """Regression on the inputs of each point by itself, for instance by trees.

    The forecast never rises with the threshold, and is corrected to pass through the known points.

    Attributes:
        make: Makes the unfitted regression, with the interface of scikit-learn.
        groups: Names of the inputs, as in `features.inputs`.
        trees: The fitted regression.
    """

    def __init__(self, make: Callable[[], Any], groups: Sequence[str] = FREE):
        self.make, self.groups = make, groups

    def fit(self, curves: CurveSet) -> "Tabular":
        """Fit to all known points of the training `curves`."""
        known = ~np.isnan(curves.accuracy)
        self.trees = self.make().fit(inputs(curves, self.groups)[known], curves.retained[known])
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast the accuracy (C, T) of `curves`, without an interval."""
        raw = inputs(curves, self.groups)
        left = self.trees.predict(raw.reshape(-1, raw.shape[-1])).reshape(raw.shape[:2])
        return without_interval(through_known(curves.accuracy_of(np.minimum.accumulate(left, 1)), curves))


def extra_trees(seed: int) -> ExtraTreesRegressor:
    """A hundred extremely randomised trees, unfitted, with this random seed.

    Source: Geurts et al. (2006).
    """
    return ExtraTreesRegressor(100, min_samples_leaf=20, max_features=0.5, random_state=seed, n_jobs=1)


def gradient_boosting(seed: int) -> HistGradientBoostingRegressor:
    """A hundred and fifty boosted trees on binned inputs, unfitted, with this random seed."""
    return HistGradientBoostingRegressor(
        learning_rate=0.05, max_iter=150, max_leaf_nodes=12, min_samples_leaf=60, random_state=seed
    )


def _slope(thresholds: Floats, accuracy: Floats) -> float:
    """Slope by least squares of lines through the first points of curves (C, T), over their known points."""
    fallen = accuracy - accuracy[:, :1]
    run = np.broadcast_to(thresholds, fallen.shape)[~np.isnan(fallen)]
    return float(run @ fallen[~np.isnan(fallen)] / (run @ run))


def _mean(retained: Floats) -> Floats:
    """Mean (T,) of curves (C, T) over their known points, interpolated over thresholds where none is known."""
    counts = (~np.isnan(retained)).sum(0)
    known, steps = np.flatnonzero(counts), np.arange(retained.shape[1])
    means: Floats = np.nansum(retained, 0)[known] / counts[known]
    return np.interp(steps, known, means)


def _logistic(parameters: Floats, sparsity: Floats) -> Floats:
    midpoint, width, end = parameters
    inside = np.clip(sparsity, 1e-6, 1 - 1e-6)
    exponent = np.clip((np.log(inside / (1 - inside)) - midpoint) / np.exp(width - 1), -50, 50)
    left: Floats = np.where(sparsity > 0, 1 - (1 - end) / (1 + np.exp(-exponent)), 1)
    return left


def _falling(sparsity: Floats, retained: Floats) -> IsotonicRegression:
    return IsotonicRegression(increasing=False, out_of_bounds="clip").fit(sparsity, retained)
