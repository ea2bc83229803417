"""Forecast for one checkpoint: its proxies measured, its curve forecast, the largest safe ratio measured, and saved."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from prunecast.cost.samples import AGREEMENT_EXAMPLES, AGREEMENT_STRIDE
from prunecast.errors import UserError, check_epsilon
from prunecast.forecasting.pretrained import INPUTS, PretrainedSurrogate
from prunecast.forecasting.subjects import Subject
from prunecast.loading import storage
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import Outcome
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import MAXIMUM, SCOPES, Scope, cut, pruned_counts, rank
from prunecast.surrogates.features import unmeasured
from prunecast.sweeps import proxies
from prunecast.sweeps.curve_metrics import LEARNED_ABOVE
from prunecast.sweeps.recalibration import ModelPruner
from prunecast.sweeps.safe_search import Safe, confident, search_safe, within
from prunecast.sweeps.sweeper import Sweeper, grid

POINTS = 101  # of a forecast curve


@dataclass(frozen=True)
class Prediction:
    """The forecast for a model.

    Attributes:
        dense_accuracy: Accuracy without pruning, as a fraction.
        curve: Rows with the columns scope, threshold (0 to 10), sparsity, predicted, lower and upper (fractions).
        recommended: Recommended sparsity by scope, as a fraction.
        warnings: A sentence if the classes seem to be in another order, for each fact of the model outside the range
            of the training models, and if the surrogate is older than the tables or the code that it was trained with.
        seconds: Time of proxies and forecast, without loading the model and measuring its dense accuracy.
    """

    dense_accuracy: float
    curve: pd.DataFrame
    recommended: dict[str, float]
    warnings: list[str]
    seconds: float


def predict(
    subject: Subject, surrogate: PretrainedSurrogate, epsilon: float, scopes: Sequence[Scope] = SCOPES
) -> Prediction:
    """Forecast the curves of a model from its dense accuracy, its weights and a few unlabelled examples.

    Args:
        subject: The model, which is evaluated without pruning unless it has been.
        surrogate: The pretrained surrogate.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        scopes: Scopes to forecast; those left out cost nothing.

    Returns:
        The forecast, on a grid of `POINTS` percentile thresholds.

    Raises:
        UserError: If epsilon does not lie between 0 and 1, the task has one class, the model is less than ten points
            above the accuracy of the majority class, or an input or the forecast is not a number.
    """
    check_epsilon(epsilon)
    _check_learned(subject)
    started = time.monotonic()
    signals = _signals(subject.model, scopes)
    undefined = [name for name in INPUTS if name in signals and signals[name].isna().any()]
    if undefined:
        raise UserError(f"{subject.model.name} cannot be forecast: its proxy {undefined[0]} is not a number")
    curves = unmeasured(_facts(subject), signals)
    forecast = surrogate.forecast(curves)
    recommended = surrogate.recommended(curves, epsilon)
    if not all(
        np.isfinite(values).all() for values in (forecast.predicted, forecast.lower, forecast.upper, recommended)
    ):
        raise UserError(f"{subject.model.name} cannot be forecast: the surrogate answers what is not a number")
    parts = [
        pd.DataFrame(
            {
                "scope": scope,
                "threshold": curves.thresholds,
                "sparsity": curves.sparsity[row],
                "predicted": forecast.predicted[row],
                "lower": forecast.lower[row],
                "upper": forecast.upper[row],
            }
        )
        for row, scope in enumerate(curves.scopes)
    ]
    return Prediction(
        dense_accuracy=subject.dense_accuracy,
        curve=pd.concat(parts, ignore_index=True),
        recommended={str(scope): float(ratio) for scope, ratio in zip(curves.scopes, recommended, strict=True)},
        warnings=[
            sentence
            for sentence in (subject.another_order, *surrogate.out_of_range(curves), *surrogate.outdated())
            if sentence
        ],
        seconds=time.monotonic() - started,
    )


def largest_safe(
    subject: TrainedModel,
    scope: Scope,
    epsilon: float,
    expected: float,
    dense: Outcome | None = None,
    budget: float | None = None,
    confidence: float | None = None,
) -> tuple[float, Safe]:
    """Measure the last ratio, in hundredths, before the accuracy first falls by more than `epsilon`.

    Args:
        subject: The model; its weights are restored.
        scope: Whether weights are ranked over all layers or in each layer.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        expected: Ratio that is tested first, such as a recommended one, as a fraction.
        dense: Outcome of all examples without pruning, where it is known; else it is evaluated.
        budget: Evaluations of all examples that may be spent beside the dense one; None: as many as it takes.
        confidence: Probability with which the loss in the population has to be within `epsilon`, see
            `curve_metrics.chance_within`; None: the loss over the examples has to be.

    Returns:
        The ratio, as a fraction, and how it was measured.

    Raises:
        UserError: If epsilon or the confidence does not lie between 0 and 1, or the budget is negative or so small that
            no ratio was found.
    """
    check_epsilon(epsilon)
    if budget is not None and not budget >= 0:
        raise UserError(f"a budget of {budget:g} evaluations is negative or no number; 0 or more can be spent")
    if confidence is not None and not 0 < confidence < 1:
        raise UserError(f"a confidence of {confidence:g} is not between 0 and 1")
    thresholds, examples = grid(POINTS)[:-1], len(subject.examples)  # a model without weights is not recommended
    rule = within(epsilon, examples) if confidence is None else confident(epsilon, examples, confidence)
    recalibrate_on = subject.recalibrate_on
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", subject.seed, recalibrate_on)
    if dense:
        sweeper.ends[0] = dense
    start = round(expected * (POINTS - 1))
    with sweeper.masked_evaluation("magnitude", scope, thresholds) as (evaluate_at, _, _):
        safe = search_safe(evaluate_at, len(thresholds), examples, epsilon, start, budget, rule)
    if not (safe.exact or safe.point):
        raise UserError(
            f"the budget of {budget:g} evaluations ended before a safe ratio was found: give at least 0.5, or use a "
            "recommended ratio, which is not measured"
        )
    return safe.point / (POINTS - 1), safe


def check_saving(subject: TrainedModel, processor: Any, folder: Path) -> None:
    """Save a model beside a folder, read it back and remove it: what cannot be saved fails before it is measured.

    Args:
        subject: The model.
        processor: What prepares its inputs, as it was loaded.
        folder: Folder to which the pruned model is to be saved.

    Raises:
        UserError: If the model cannot be written there, or is another one when it is read back.
    """
    with storage.saved_beside(folder, subject.model, processor, subject.name) as saved:
        again, _ = storage.load(saved)
        stored = again.state_dict()
        changed = [
            name for name, value in subject.model.state_dict().items() if not _same(value, stored.get(name))
        ]  # fmt: skip
        if changed:
            raise UserError(f"{subject.name} cannot be saved: read back, {changed[0]} has other values")


def save_pruned(subject: TrainedModel, processor: Any, scope: Scope, sparsity: float, folder: Path) -> None:
    """Save a model with its prunable weights of smallest magnitude set to zero, in one step.

    Args:
        subject: The model, recalibrated where it has images for that; weights and statistics are restored.
        processor: What prepares its inputs, as it was loaded; None for the image networks of this package.
        scope: Whether weights are ranked over all layers or in each layer.
        sparsity: Share of the prunable weights that is set to zero, a fraction.
        folder: Where it is saved, in the format that `from_pretrained` reads; it does not exist, or is empty.

    Raises:
        UserError: If the folder is not free or cannot be written to.
    """
    ranking = rank(subject.weights, magnitude, scope)
    with ModelPruner(subject.model, subject.weights, magnitude, ranking.groups, subject.recalibrate_on) as pruner:
        pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", _threshold(sparsity))))
        with storage.saved_beside(folder, subject.model, processor, subject.name) as saved:
            saved.replace(folder)


def pruned_name(subject: TrainedModel, scope: Scope, sparsity: float) -> str:
    """A folder name for a pruned model: the same for the same weights pruned and recalibrated alike, and for no others.

    Args:
        subject: The model before pruning.
        scope: Whether weights are ranked over all layers or in each layer.
        sparsity: Share of the prunable weights that is set to zero, a fraction.

    Returns:
        The name of the model, the scope, the per cent pruned, and eight digits of the sha256 of its configuration, its
        parameters and the images that it is recalibrated on.
    """
    config = getattr(subject.model, "config", None)
    digest = hashlib.sha256(config.to_json_string().encode() if config else b"")
    images = {"recalibrate_on": subject.recalibrate_on.inputs} if subject.recalibrate_on else {}
    for name, value in (subject.model.state_dict() | images).items():
        digest.update(name.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"{subject.name}-{scope}-{sparsity * 100:.0f}-{digest.hexdigest()[:8]}"


def _threshold(sparsity: float) -> float:
    """The percentile threshold of a sparsity, rounded as those of `grid`: so the mask is the measured one."""
    return round(sparsity * MAXIMUM, 6)


def _same(value: Tensor, stored: Tensor | None) -> bool:
    return stored is not None and torch.equal(value.cpu(), stored.to(value.dtype).cpu())


def _check_learned(subject: Subject) -> None:
    """Refuse a task of one class, and a model that is not clearly above the majority class of the same examples."""
    name, task, accuracy = subject.model.name, subject.model.task, subject.dense_accuracy
    if task.classes < 2:
        raise UserError(f"task {task.name!r} has one class; a classification task has at least two")
    if accuracy >= task.majority_accuracy + LEARNED_ABOVE:
        return
    raise UserError(
        subject.another_order
        or f"{name} has accuracy {accuracy:.3f}, the majority class {task.majority_accuracy:.3f}: a model that has "
        f"not learned its task, by {LEARNED_ABOVE:g} above the majority class, has no curve to forecast"
    )


def _facts(subject: Subject) -> dict[str, Any]:
    weights, task = subject.model.weights, subject.model.task
    return {
        "model": subject.model.name,
        "classes": task.classes,
        "layers": len(weights),
        "prunable_parameters": sum(weight.numel() for weight in weights.values()),
        "dense_accuracy": subject.dense_accuracy,
        "majority_accuracy": task.majority_accuracy,
    }


def _signals(subject: TrainedModel, scopes: Sequence[Scope]) -> pd.DataFrame:
    """Rows of the table `signals`: proxies from the weights, and the agreement interpolated to all thresholds."""
    thresholds = grid(POINTS)
    free = proxies.weight_proxies(subject.weights, thresholds)
    rows = proxies.sample(subject.examples, AGREEMENT_EXAMPLES, subject.seed)
    coarse = thresholds[::AGREEMENT_STRIDE]
    parts = []
    for scope in scopes:
        agrees = proxies.agreement(
            subject.model, subject.weights, subject.examples, rows, scope, coarse, subject.recalibrate_on
        )
        agreement = np.interp(thresholds, coarse, agrees.mean(1))
        parts.append(free[free["scope"] == scope].assign(model=subject.name, agreement=agreement))
    return pd.concat(parts, ignore_index=True)
