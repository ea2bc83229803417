"""Curves as arrays: inputs of a surrogate, targets and forecasts, and the cost of the inputs in examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.cost.samples import AGREEMENT_EXAMPLES, BACKWARD, GRADIENT_EXAMPLES

FACTS, DEPLETION, EFFECTIVE, KURTOSIS = "facts", "depletion", "effective", "kurtosis"
CURVATURE, AGREEMENT = "curvature", "agreement"
GROUPS: dict[str, tuple[str, ...]] = {
    DEPLETION: ("lost_max", "lost_mean", "lost_first", "lost_last"),
    EFFECTIVE: ("n_eff", "n_eff_lowest", "n_eff_highest"),
    KURTOSIS: ("kurtosis",),
    CURVATURE: ("curvature",),
    AGREEMENT: ("agreement",),
}
FREE = (FACTS, DEPLETION)  # inputs that cost no forward pass
COLUMNS = tuple(column for group in GROUPS.values() for column in group)
AGREEMENT_THRESHOLDS = 21  # thresholds at which the agreement is measured, on a grid of 101
STEEPEST = 9.0  # largest log-odds of a share; shares of 0 and 1 have none
FLATTEST = 1e-9  # nats below which curvatures count as equal

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class CurveSet:
    """C curves on one axis at T thresholds each.

    Attributes:
        axis: Name of the axis.
        names: Pairs of model and scope (C).
        thresholds: Thresholds (T), from 0 to 10.
        sparsity: Fractions (C, T).
        accuracy: Fractions (C, T), NaN where unknown.
        noise: Standard error of the accuracy (C, T), as a fraction; 0 where all examples were evaluated.
        measured: Whether all examples were evaluated (C, T); elsewhere the accuracy is interpolated, to learn from.
        signals: Zero-cost proxies (C, T, S), the columns `COLUMNS` of the table `signals`, NaN where not measured.
        facts: Rows of the table `models`, one a curve (C).
    """

    axis: str
    names: list[tuple[str, str]]
    thresholds: Floats
    sparsity: Floats
    accuracy: Floats
    noise: Floats
    measured: Booleans
    signals: Floats
    facts: pd.DataFrame

    @property
    def models(self) -> NDArray[np.str_]:
        """Model of each curve (C)."""
        return np.array([model for model, _ in self.names])

    @property
    def scopes(self) -> NDArray[np.str_]:
        """Scope of each curve (C)."""
        return np.array([scope for _, scope in self.names])

    @property
    def majority(self) -> Floats:
        """Accuracy of the commonest class, as a column (C, 1)."""
        return self.facts["majority_accuracy"].to_numpy(float)[:, None]

    @property
    def span(self) -> Floats:
        """Dense accuracy minus majority accuracy, as a column (C, 1)."""
        return self.facts["dense_accuracy"].to_numpy(float)[:, None] - self.majority

    @property
    def retained(self) -> Floats:
        """Share (C, T) of the way from majority to dense accuracy that is left."""
        return (self.accuracy - self.majority) / self.span

    @property
    def exact(self) -> Booleans:
        """Whether all points of each curve were measured (C)."""
        return np.asarray(self.measured.all(axis=1), bool)

    def at(self, rows: Booleans) -> "CurveSet":
        """The curves selected by the booleans `rows` (C)."""
        names = [name for name, selected in zip(self.names, rows, strict=True) if selected]
        arrays = {name: getattr(self, name)[rows] for name in ("sparsity", "accuracy", "noise", "measured", "signals")}
        return replace(self, names=names, facts=self.facts[rows].reset_index(drop=True), **arrays)

    def knowing(self, known: Booleans) -> "CurveSet":
        """The same curves with NaN accuracy where `known` (C, T) is false; without pruning it is always known."""
        first = np.arange(len(self.thresholds)) == 0
        return replace(self, accuracy=np.where(known | first, self.accuracy, np.nan))

    def accuracy_of(self, retained: Floats) -> Floats:
        """Accuracy (C, T), as a fraction, of retained shares (C, T): the inverse of `retained`."""
        return self.majority + self.span * retained


@dataclass(frozen=True)
class Forecast:
    """Forecast accuracies of C curves at T thresholds, with intervals that are not calibrated yet.

    Attributes:
        predicted: Forecast accuracy (C, T), as a fraction.
        lower: Lower end of the interval (C, T).
        upper: Upper end of the interval (C, T).
    """

    predicted: Floats
    lower: Floats
    upper: Floats


class Surrogate(Protocol):
    """The interface of all surrogates, which is that of estimators of scikit-learn."""

    def fit(self, curves: CurveSet) -> "Surrogate":
        """Learn from training curves.

        Args:
            curves: Training curves; only points whose accuracy is known are used.

        Returns:
            The surrogate itself.
        """
        ...

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast every point of some curves.

        Args:
            curves: C curves to forecast at T thresholds; a surrogate that can use points known of them does so.

        Returns:
            Forecast accuracies (C, T), as fractions.
        """
        ...


def without_interval(predicted: Floats) -> Forecast:
    """The forecast (C, T) of a surrogate that does not estimate its own error: the ends of its intervals are NaN."""
    none = np.full_like(predicted, np.nan)
    return Forecast(predicted, none, none)


def through_known(predicted: Floats, curves: CurveSet) -> Floats:
    """Correct a forecast so that it passes through the points known without noise.

    The correction is interpolated linearly between these points, and falls to zero at the last threshold where the
    accuracy there is unknown.

    Args:
        predicted: Forecast accuracy (C, T).
        curves: The C curves, with their known points.

    Returns:
        Corrected accuracy (C, T).
    """
    moved = predicted.copy()
    steps = np.arange(predicted.shape[1])
    for row, accuracy, noise in zip(moved, curves.accuracy, curves.noise, strict=True):
        known = np.flatnonzero(~np.isnan(accuracy) & (noise == 0))
        error = accuracy[known] - row[known]
        if known[-1] != steps[-1]:  # unknown at the end: no correction there
            known, error = np.append(known, steps[-1]), np.append(error, 0)
        row += np.interp(steps, known, error)
    return moved


def samples(groups: Sequence[str]) -> int:
    """Cost of inputs, in examples passed forward; a backward pass counts as two forward ones.

    Args:
        groups: Names in `GROUPS`, or `FACTS`.

    Returns:
        Number of examples for one curve.
    """
    costs = {
        CURVATURE: GRADIENT_EXAMPLES * (1 + BACKWARD),
        AGREEMENT: AGREEMENT_EXAMPLES * (1 + AGREEMENT_THRESHOLDS),
    }
    return sum(costs.get(group, 0) for group in groups)


def inputs(curves: CurveSet, groups: Sequence[str]) -> Floats:
    """Inputs of a trained surrogate: log-odds of the sparsity, and the zero-cost proxies of some groups.

    Depletions become log-odds, all others but the agreement their logarithms; the agreement is followed by that of
    the model without weights. The facts of a curve are its scope, and the logarithms of the numbers of layers and of
    classes of its model.

    Args:
        curves: C curves at T thresholds.
        groups: Names in `GROUPS`, or `FACTS`.

    Returns:
        Inputs (C, T, F), in the order of `input_names`.
    """
    shape = curves.sparsity.shape
    columns = [_log_odds(curves.sparsity)]
    for group in groups:
        columns += _facts(curves) if group == FACTS else _of_group(curves, group)
    return np.stack([np.broadcast_to(column, shape) for column in columns], -1)


def input_names(groups: Sequence[str]) -> list[str]:
    """Names of the inputs that `inputs` returns, except the agreement of the model without weights.

    Args:
        groups: Names in `GROUPS`, or `FACTS`.

    Returns:
        The names, in order.
    """
    facts = ["scope", "layers", "classes"]
    return ["sparsity", *(name for group in groups for name in (facts if group == FACTS else GROUPS[group]))]


def has_proxies(curves: CurveSet, groups: Sequence[str]) -> bool:
    """Whether curves have all zero-cost proxies of the `groups`, which are names in `GROUPS`, or `FACTS`."""
    wanted = [COLUMNS.index(column) for group in groups if group != FACTS for column in GROUPS[group]]
    return not np.isnan(curves.signals[..., wanted]).any()


def _facts(curves: CurveSet) -> list[Floats]:
    facts = (curves.scopes == "layer", np.log(curves.facts["layers"]), np.log(curves.facts["classes"]))
    return [np.asarray(fact, float)[:, None] for fact in facts]


def _of_group(curves: CurveSet, group: str) -> list[Floats]:
    signals = [curves.signals[..., COLUMNS.index(name)] for name in GROUPS[group]]
    if group == AGREEMENT:
        return [*signals, signals[0][:, -1:]]
    if group == DEPLETION:
        return [_log_odds(signal) for signal in signals]
    return [np.log(np.maximum(signal, FLATTEST)) for signal in signals]


def curves_on(axis: str, sweeps: pd.DataFrame, models: pd.DataFrame, signals: pd.DataFrame | None = None) -> CurveSet:
    """All magnitude curves of some models on one axis, with their zero-cost proxies.

    Proxies are measured on the percentile axis; on another one they are interpolated at the same sparsity.

    Args:
        axis: Name of the axis.
        sweeps: Rows of the table `sweeps`.
        models: Rows of the table `models`; curves of other models are left out.
        signals: Rows of the table `signals` for these models, or None for curves without proxies.

    Returns:
        The curves, sorted by model and scope, with the accuracies of `sweeps`.
    """
    wanted = (sweeps["axis"] == axis) & (sweeps["criterion"] == "magnitude") & sweeps["model"].isin(models["model"])
    keys = ["model", "scope"]
    wide = sweeps[wanted].pivot(index=keys, columns="threshold", values=["sparsity", "accuracy", "measured"])
    sparsity, accuracy = (wide[name].to_numpy(float) for name in ("sparsity", "accuracy"))
    measured = wide["measured"].to_numpy(bool)
    proxies = np.full((*accuracy.shape, len(COLUMNS)), np.nan)
    if signals is not None:
        by_curve = dict(iter(signals.sort_values("threshold").groupby(keys)))
        for row, name in enumerate(wide.index):
            for place, column in enumerate(COLUMNS):
                of_curve = by_curve[name]
                proxies[row, :, place] = np.interp(sparsity[row], of_curve["sparsity"], of_curve[column])
    facts = models.set_index("model").loc[wide.index.get_level_values("model")].reset_index()
    thresholds = wide["accuracy"].columns.to_numpy()
    noise = np.zeros(accuracy.shape)
    return CurveSet(axis, list(wide.index), thresholds, sparsity, accuracy, noise, measured, proxies, facts)


def unmeasured(facts: dict[str, Any], signals: pd.DataFrame) -> CurveSet:
    """The curves of a model that has not been swept: accuracy is known without pruning only.

    Args:
        facts: The row of the model in the table `models`.
        signals: Its rows in the table `signals`; columns that are missing become NaN.

    Returns:
        Its curves on the percentile axis, one for each scope.
    """
    dense = np.where(signals["threshold"] == 0, facts["dense_accuracy"], np.nan)
    sweeps = signals.assign(axis="percentile", criterion="magnitude", accuracy=dense, measured=~np.isnan(dense))
    absent = dict.fromkeys(set(COLUMNS) - set(signals.columns), np.nan)
    return curves_on("percentile", sweeps, pd.DataFrame([facts]), signals.assign(**absent))


def _log_odds(share: Floats) -> Floats:
    inside = np.clip(share, 1e-9, 1 - 1e-9)
    return np.clip(np.log(inside / (1 - inside)), -STEEPEST, STEEPEST)
