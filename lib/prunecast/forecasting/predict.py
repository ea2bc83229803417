"""Forecast one checkpoint: its signals measured, its curve forecast, the largest safe ratio measured, and saved."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast.cost.samples import AGREEMENT_EXAMPLES, AGREEMENT_STRIDE
from prunecast.datasets.tasks import load_task
from prunecast.errors import UserError
from prunecast.forecasting.pretrained import PretrainedSurrogate
from prunecast.models import zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import prepare
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import MAXIMUM, SCOPES, Pruner, Scope, cut, pruned_counts, rank
from prunecast.surrogates.features import unmeasured
from prunecast.sweeps import proxies
from prunecast.sweeps.adaptive import Safe, last_safe
from prunecast.sweeps.curve_metrics import LEARNED_ABOVE, check_epsilon
from prunecast.sweeps.sweeper import Sweeper, grid

POINTS = 101
LONGEST = 128  # tokens of a text
EXAMPLES = 2000  # of the task's validation split, at most


@dataclass(frozen=True)
class Prediction:
    """The forecast of a model.

    `curve` has the columns scope, threshold, sparsity, predicted, lower, upper; `recommended` gives a sparsity for
    each scope; `doubts` are sentences on what of the model lies outside the training range; `seconds` is the time that
    signals and forecast took, without loading the model and without its dense accuracy.
    """

    dense_accuracy: float
    curve: pd.DataFrame
    recommended: dict[str, float]
    doubts: list[str]
    seconds: float


def subject_of(checkpoint: str, task_name: str) -> tuple[TrainedModel, Any]:
    """A checkpoint, a folder or an id of the hub, with its task; and its tokenizer, None for images.

    Raises UserError for a checkpoint that is none, or that does not tell the classes of the task apart.
    """
    task = load_task(task_name)
    folder = Path(checkpoint)
    if folder.is_dir():
        model, tokenizer = zoo.load(folder)
    else:
        model, tokenizer = zoo.build(zoo.ModelSpec(task=task_name, checkpoint=checkpoint, fine_tuned=True), task)
    if (tokenizer is None) != (task.kind == "image"):
        raise UserError(f"{checkpoint} does not classify what task {task_name!r} holds, which is {task.kind}s")
    config = getattr(model, "config", None)
    if config is not None and config.num_labels != task.classes:
        raise UserError(f"{checkpoint} tells {config.num_labels} classes apart, task {task_name!r} has {task.classes}")
    examples = prepare(task.validation.first(EXAMPLES), tokenizer, LONGEST)
    spec = zoo.ModelSpec(task=task_name, max_length=LONGEST)
    return TrainedModel(folder.name, spec, task, model.eval(), examples, folder, 0), tokenizer


def predict(subject: TrainedModel, frozen: PretrainedSurrogate, epsilon: float, dense_accuracy: float) -> Prediction:
    """Forecast the curves of a model in both scopes from its weights and a few unlabelled examples.

    Raises UserError for an epsilon outside 0 to 1, a task with one class, or a model that is not ten points above its
    majority class.
    """
    check_epsilon(epsilon)
    majority, classes = subject.task.majority_accuracy, subject.task.classes
    if classes < 2:
        raise UserError(f"task {subject.task.name!r} has one class; there is nothing to tell apart")
    if dense_accuracy < majority + LEARNED_ABOVE:
        raise UserError(
            f"{subject.name} has accuracy {dense_accuracy:.3f}, the majority class {majority:.3f}: a model that has "
            f"not learned its task, by {LEARNED_ABOVE:g} above the majority class, has no curve to forecast"
        )
    started = time.monotonic()
    curves = unmeasured(_facts(subject, dense_accuracy), _signals(subject))
    found = frozen.forecast(curves)
    recommended = frozen.recommended(curves, epsilon)
    parts = [
        pd.DataFrame(
            {
                "scope": scope,
                "threshold": curves.thresholds,
                "sparsity": curves.sparsity[row],
                "predicted": found.predicted[row],
                "lower": found.lower[row],
                "upper": found.upper[row],
            }
        )
        for row, scope in enumerate(curves.scopes)
    ]
    return Prediction(
        dense_accuracy,
        pd.concat(parts, ignore_index=True),
        {scope: float(ratio) for scope, ratio in zip(curves.scopes, recommended, strict=True)},
        frozen.doubts(curves),
        time.monotonic() - started,
    )


def largest_safe(subject: TrainedModel, scope: Scope, epsilon: float, expected: float) -> tuple[float, Safe]:
    """The last ratio, in hundredths, before the accuracy first falls by more than `epsilon`, and how it was measured.

    `expected` is the ratio looked at first, such as a forecast recommends. The model is given back whole. Raises
    UserError for an epsilon outside 0 to 1.
    """
    check_epsilon(epsilon)
    thresholds = grid(POINTS)[:-1]  # with nothing left there is nothing to be safe
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", subject.seed)
    with sweeper.masked_evaluation("magnitude", scope, thresholds) as (evaluate, _, _):
        found = last_safe(evaluate, len(thresholds), len(subject.examples), epsilon, round(expected * (POINTS - 1)))
    return thresholds[found.point] / MAXIMUM, found


def save_pruned(subject: TrainedModel, tokenizer: Any, scope: Scope, sparsity: float, folder: Path) -> None:
    """Write the model with that share of its prunable weights set to zero as a folder that `from_pretrained` reads.

    The model itself is given back whole.
    """
    ranking = rank(subject.weights, magnitude, scope)
    with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
        pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", sparsity * MAXIMUM)))
        zoo.save(subject.model, tokenizer, folder)


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
    thresholds = grid(POINTS)
    free = proxies.weight_proxies(subject.weights, thresholds)
    rows = proxies.sample(subject.examples, AGREEMENT_EXAMPLES, subject.seed)
    sparse = thresholds[::AGREEMENT_STRIDE]
    agreed = []
    for scope in SCOPES:
        agrees = proxies.agreement(subject.model, subject.weights, subject.examples, rows, scope, sparse)
        agreed.append(np.interp(thresholds, sparse, agrees.mean(1)))
    return free.assign(model=subject.name, agreement=np.concatenate(agreed))
