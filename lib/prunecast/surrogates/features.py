"""Curves as arrays: what a surrogate is given, what it is to forecast, and what its inputs cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

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
AGREEMENT_THRESHOLDS = 21  # thresholds at which the agreement is looked at, on a grid of 101
STEEPEST = 9.0  # largest log-odds of a share; shares of 0 and 1 have none
FLATTEST = 1e-9  # nats below which the curvature says nothing


@dataclass(frozen=True)
class CurveSet:
    """C curves on one axis at T thresholds each.

    `names` (C) are pairs of model and scope; `thresholds` (T) run from 0 to 10; `sparsity` and `accuracy` are (C, T)
    fractions, accuracy being NaN where it is not known; `noise` (C, T) is the standard error of the accuracy, 0 where
    all examples were evaluated; `signals` (C, T, S) holds the columns `COLUMNS` of the table `signals`, NaN where
    they were not measured; `facts` are the rows of the table `models`, one a curve.
    """

    axis: str
    names: list[tuple[str, str]]
    thresholds: np.ndarray
    sparsity: np.ndarray
    accuracy: np.ndarray
    noise: np.ndarray
    signals: np.ndarray
    facts: pd.DataFrame

    @property
    def models(self) -> np.ndarray:
        """Model of each curve (C)."""
        return np.array([model for model, _ in self.names])

    @property
    def scopes(self) -> np.ndarray:
        """Scope of each curve (C)."""
        return np.array([scope for _, scope in self.names])

    @property
    def majority(self) -> np.ndarray:
        """Accuracy of the commonest class, as a column (C, 1)."""
        return self.facts["majority_accuracy"].to_numpy()[:, None]

    @property
    def span(self) -> np.ndarray:
        """Way from majority to dense accuracy, as a column (C, 1)."""
        return self.facts["dense_accuracy"].to_numpy()[:, None] - self.majority

    @property
    def retained(self) -> np.ndarray:
        """Share of that way that is left (C, T)."""
        return (self.accuracy - self.majority) / self.span

    def at(self, rows: np.ndarray) -> "CurveSet":
        """The curves that the boolean array `rows` (C) marks."""
        names = [name for name, keep in zip(self.names, rows, strict=True) if keep]
        arrays = {name: getattr(self, name)[rows] for name in ("sparsity", "accuracy", "noise", "signals")}
        return replace(self, names=names, facts=self.facts[rows].reset_index(drop=True), **arrays)

    def knowing(self, known: np.ndarray) -> "CurveSet":
        """The same curves with accuracy known only where `known` (C, T) is true; unpruned it is always known."""
        first = np.arange(len(self.thresholds)) == 0
        return replace(self, accuracy=np.where(known | first, self.accuracy, np.nan))

    def accuracy_of(self, retained: np.ndarray) -> np.ndarray:
        """Accuracy (C, T) of a retained share (C, T)."""
        return self.majority + self.span * retained


@dataclass(frozen=True)
class Forecast:
    """A forecast of accuracy, and an interval around it that is not calibrated yet; each (C, T)."""

    predicted: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Surrogate(Protocol):
    """What every surrogate can do, in the way of scikit-learn."""

    def fit(self, curves: CurveSet) -> "Surrogate":
        """Learn from the points whose accuracy is known."""
        ...

    def predict(self, curves: CurveSet) -> Forecast:
        """Forecast every point; a surrogate that can use the points known of these very curves does so."""
        ...


def certain(predicted: np.ndarray) -> Forecast:
    """The forecast of a surrogate that knows nothing of its own error."""
    return Forecast(predicted, predicted, predicted)


def through_known(predicted: np.ndarray, curves: CurveSet) -> np.ndarray:
    """Move a forecast (C, T) onto the points that are known exactly, and linearly less in between."""
    moved = predicted.copy()
    steps = np.arange(predicted.shape[1])
    for row, accuracy, noise in zip(moved, curves.accuracy, curves.noise, strict=True):
        known = np.flatnonzero(~np.isnan(accuracy) & (noise == 0))
        error = accuracy[known] - row[known]
        if known[-1] != steps[-1]:  # nothing is known of the end: leave it as it was forecast
            known, error = np.append(known, steps[-1]), np.append(error, 0)
        row += np.interp(steps, known, error)
    return moved


def samples(groups: Sequence[str]) -> int:
    """Forward-passed examples that the inputs `groups` cost; a backward pass counts as two forward ones."""
    costs = {
        CURVATURE: GRADIENT_EXAMPLES * (1 + BACKWARD),
        AGREEMENT: AGREEMENT_EXAMPLES * (1 + AGREEMENT_THRESHOLDS),
    }
    return sum(costs.get(group, 0) for group in groups)


def inputs(curves: CurveSet, groups: Sequence[str]) -> np.ndarray:
    """Inputs (C, T, F) of a surrogate that learns: log-odds of the sparsity, and the signals of `groups`.

    Shares become log-odds, the curvature its logarithm; the agreement comes with that of the empty model. The facts of
    a model are its scope, and the logarithms of the number of its layers and of its classes.
    """
    shape = curves.sparsity.shape
    columns = [_log_odds(curves.sparsity)]
    for group in groups:
        columns += _facts(curves) if group == FACTS else _of_group(curves, group)
    return np.stack([np.broadcast_to(column, shape) for column in columns], -1)


def input_names(groups: Sequence[str]) -> list[str]:
    """What `inputs` reads for `groups`, in order."""
    facts = ["scope", "layers", "classes"]
    return ["sparsity", *(name for group in groups for name in (facts if group == FACTS else GROUPS[group]))]


def has_proxies(curves: CurveSet, groups: Sequence[str]) -> bool:
    """Whether all signals of `groups` are there."""
    wanted = [COLUMNS.index(column) for group in groups if group != FACTS for column in GROUPS[group]]
    return not np.isnan(curves.signals[..., wanted]).any()


def _facts(curves: CurveSet) -> list[np.ndarray]:
    facts = (curves.scopes == "layer", np.log(curves.facts["layers"]), np.log(curves.facts["classes"]))
    return [np.asarray(fact, float)[:, None] for fact in facts]


def _of_group(curves: CurveSet, group: str) -> list[np.ndarray]:
    signals = [curves.signals[..., COLUMNS.index(name)] for name in GROUPS[group]]
    if group == AGREEMENT:
        return [*signals, signals[0][:, -1:]]
    transform = _log_odds if group == DEPLETION else lambda signal: np.log(np.maximum(signal, FLATTEST))
    return [transform(signal) for signal in signals]


def curves_on(axis: str, sweeps: pd.DataFrame, models: pd.DataFrame, signals: pd.DataFrame | None = None) -> CurveSet:
    """All magnitude curves of `models` in `sweeps` on one axis, with their `signals`.

    Signals are measured on the percentile axis; on another one they are read at the same sparsity.
    """
    wanted = (sweeps["axis"] == axis) & (sweeps["criterion"] == "magnitude") & sweeps["model"].isin(models["model"])
    keys = ["model", "scope"]
    wide = sweeps[wanted].pivot(index=keys, columns="threshold", values=["sparsity", "accuracy"])
    sparsity, accuracy = wide["sparsity"].to_numpy(), wide["accuracy"].to_numpy()
    found = np.full((*accuracy.shape, len(COLUMNS)), np.nan)
    if signals is not None:
        by_curve = dict(iter(signals.sort_values("threshold").groupby(keys)))
        for row, name in enumerate(wide.index):
            for place, column in enumerate(COLUMNS):
                known = by_curve[name]
                found[row, :, place] = np.interp(sparsity[row], known["sparsity"], known[column])
    facts = models.set_index("model").loc[wide.index.get_level_values("model")].reset_index()
    thresholds = wide["accuracy"].columns.to_numpy()
    return CurveSet(axis, list(wide.index), thresholds, sparsity, accuracy, np.zeros(accuracy.shape), found, facts)


def unmeasured(facts: dict[str, Any], signals: pd.DataFrame) -> CurveSet:
    """The curves of a model that was never swept: a row of `models` and its rows of `signals`."""
    dense = np.where(signals["threshold"] == 0, facts["dense_accuracy"], np.nan)
    sweeps = signals.assign(axis="percentile", criterion="magnitude", accuracy=dense)
    absent = dict.fromkeys(set(COLUMNS) - set(signals.columns), np.nan)
    return curves_on("percentile", sweeps, pd.DataFrame([facts]), signals.assign(**absent))


def _log_odds(share: np.ndarray) -> np.ndarray:
    inside = np.clip(share, 1e-9, 1 - 1e-9)
    return np.clip(np.log(inside / (1 - inside)), -STEEPEST, STEEPEST)
