"""The surrogates that any other must beat: a straight line, and the mean curve."""

import numpy as np
from sklearn.linear_model import LinearRegression

from prunecast.surrogates.features import Curves


class StraightLine:
    """Accuracy as a straight line in the threshold, the same for every model: the source study's baseline."""

    def fit(self, curves: Curves, seen: np.ndarray) -> "StraightLine":
        """Fit by least squares on the points that `seen` (C, T) marks."""
        thresholds = np.broadcast_to(curves.thresholds, seen.shape)[seen]
        self.line = LinearRegression().fit(thresholds[:, None], curves.accuracy[seen])
        return self

    def predict(self, curves: Curves) -> np.ndarray:
        """Forecast accuracy (C, T)."""
        return np.tile(self.line.predict(curves.thresholds[:, None]), (len(curves.names), 1))


class MeanCurve:
    """The mean accuracy of the training curves at each threshold, interpolated where none was seen."""

    def fit(self, curves: Curves, seen: np.ndarray) -> "MeanCurve":
        """Average the points that `seen` (C, T) marks, threshold by threshold."""
        counts = seen.sum(0)
        known = counts > 0
        means = np.where(seen, curves.accuracy, 0).sum(0)[known] / counts[known]
        self.curve = np.interp(curves.thresholds, curves.thresholds[known], means)
        return self

    def predict(self, curves: Curves) -> np.ndarray:
        """Forecast accuracy (C, T)."""
        return np.tile(self.curve, (len(curves.names), 1))
