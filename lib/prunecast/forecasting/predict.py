"""Forecast for one checkpoint: its proxies measured, its curve forecast, the largest safe ratio measured, and saved."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast.cost.samples import AGREEMENT_EXAMPLES, AGREEMENT_STRIDE
from prunecast.errors import UserError
from prunecast.forecasting.pretrained import PretrainedSurrogate
from prunecast.loading import storage
from prunecast.models.checkpoints import TrainedModel
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import MAXIMUM, SCOPES, Pruner, Scope, cut, pruned_counts, rank
from prunecast.surrogates.features import unmeasured
from prunecast.sweeps import proxies
from prunecast.sweeps.adaptive import Safe, last_safe
from prunecast.sweeps.curve_metrics import LEARNED_ABOVE, check_epsilon
from prunecast.sweeps.sweeper import Sweeper, grid

POINTS = 101  # of a forecast curve


@dataclass(frozen=True)
class Prediction:
    """The forecast for a model.

    Attributes:
        dense_accuracy: Accuracy without pruning, as a fraction.
        curve: Rows with the columns scope, threshold (0 to 10), sparsity, predicted, lower and upper (fractions).
        recommended: Recommended sparsity by scope, as a fraction.
        warnings: A sentence for each fact of the model outside the range of the training models, and one if the
            surrogate is older than the tables or the code that it was trained with.
        seconds: Time of proxies and forecast, without loading the model and measuring its dense accuracy.
    """

    dense_accuracy: float
    curve: pd.DataFrame
    recommended: dict[str, float]
    warnings: list[str]
    seconds: float


def predict(subject: TrainedModel, surrogate: PretrainedSurrogate, epsilon: float, dense_accuracy: float) -> Prediction:
    """Forecast the curves of a model in both scopes from its weights and a few unlabelled examples.

    Args:
        subject: The model.
        surrogate: The pretrained surrogate.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        dense_accuracy: Measured accuracy of the model without pruning, as a fraction.

    Returns:
        The forecast, on a grid of `POINTS` percentile thresholds.

    Raises:
        UserError: If epsilon does not lie between 0 and 1, the task has one class, or the model is less than ten points
            above the accuracy of the majority class.
    """
    check_epsilon(epsilon)
    majority, classes = subject.task.majority_accuracy, subject.task.classes
    if classes < 2:
        raise UserError(f"task {subject.task.name!r} has one class; a classification task has at least two")
    if dense_accuracy < majority + LEARNED_ABOVE:
        raise UserError(
            f"{subject.name} has accuracy {dense_accuracy:.3f}, the majority class {majority:.3f}: a model that has "
            f"not learned its task, by {LEARNED_ABOVE:g} above the majority class, has no curve to forecast"
        )
    started = time.monotonic()
    curves = unmeasured(_facts(subject, dense_accuracy), _signals(subject))
    forecast = surrogate.forecast(curves)
    recommended = surrogate.recommended(curves, epsilon)
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
        dense_accuracy=dense_accuracy,
        curve=pd.concat(parts, ignore_index=True),
        recommended={str(scope): float(ratio) for scope, ratio in zip(curves.scopes, recommended, strict=True)},
        warnings=[*surrogate.out_of_range(curves), *surrogate.outdated()],
        seconds=time.monotonic() - started,
    )


def largest_safe(subject: TrainedModel, scope: Scope, epsilon: float, expected: float) -> tuple[float, Safe]:
    """Measure the last ratio, in hundredths, before the accuracy first falls by more than `epsilon`.

    Args:
        subject: The model; its weights are restored.
        scope: Whether weights are ranked over all layers or in each layer.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        expected: Ratio that is evaluated first, such as a recommended one, as a fraction.

    Returns:
        The ratio, as a fraction, and how it was measured.

    Raises:
        UserError: If epsilon does not lie between 0 and 1.
    """
    check_epsilon(epsilon)
    thresholds = grid(POINTS)[:-1]  # a model without weights is not recommended
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", subject.seed)
    with sweeper.masked_evaluation("magnitude", scope, thresholds) as (evaluate_at, _, _):
        safe = last_safe(evaluate_at, len(thresholds), len(subject.examples), epsilon, round(expected * (POINTS - 1)))
    return thresholds[safe.point] / MAXIMUM, safe


def save_pruned(subject: TrainedModel, tokenizer: Any, scope: Scope, sparsity: float, folder: Path) -> None:
    """Save a model with its prunable weights of smallest magnitude set to zero.

    Args:
        subject: The model; its weights are restored.
        tokenizer: Its tokenizer, None for images.
        scope: Whether weights are ranked over all layers or in each layer.
        sparsity: Share of the prunable weights that is set to zero, a fraction.
        folder: Where it is saved, in the format that `from_pretrained` reads.
    """
    ranking = rank(subject.weights, magnitude, scope)
    with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
        pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", sparsity * MAXIMUM)))
        storage.save(subject.model, tokenizer, folder)


def _facts(subject: TrainedModel, dense_accuracy: float) -> dict[str, Any]:
    weights = subject.weights
    return {
        "model": subject.name,
        "classes": subject.task.classes,
        "layers": len(weights),
        "prunable_parameters": sum(weight.numel() for weight in weights.values()),
        "dense_accuracy": dense_accuracy,
        "majority_accuracy": subject.task.majority_accuracy,
    }


def _signals(subject: TrainedModel) -> pd.DataFrame:
    """Rows of the table `signals`: proxies from the weights, and the agreement interpolated to all thresholds."""
    thresholds = grid(POINTS)
    free = proxies.weight_proxies(subject.weights, thresholds)
    rows = proxies.sample(subject.examples, AGREEMENT_EXAMPLES, subject.seed)
    coarse = thresholds[::AGREEMENT_STRIDE]
    agreement = []
    for scope in SCOPES:
        agrees = proxies.agreement(subject.model, subject.weights, subject.examples, rows, scope, coarse)
        agreement.append(np.interp(thresholds, coarse, agrees.mean(1)))
    return free.assign(model=subject.name, agreement=np.concatenate(agreement))
