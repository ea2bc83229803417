"""Training on after pruning, under a schedule or after parts were removed, at a stated budget."""

import copy
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from prunecast import evaluation, metrics, training, zoo
from prunecast.collect import Trained, file_hash, key_of
from prunecast.journal import remembered
from prunecast.progress import note, track
from prunecast.pruning import masks, schedules
from prunecast.pruning.masks import Scope
from prunecast.pruning.prunable import prunable_weights
from prunecast.tasks import Split

ROOMS = (schedules, masks, training, evaluation, metrics)


class Budget(BaseModel):
    """What a model may be trained on after pruning; the same for all that are compared.

    `distilled` is the share of the dense model's answers in the targets (Hinton et al., 2015, at temperature 1); the
    rest are the labels.
    """

    model_config = ConfigDict(frozen=True)

    epochs: PositiveFloat
    examples: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    distilled: float = Field(ge=0, le=1)
    bfloat16: bool = True


class Retraining:
    """Trains pruned copies of one trained model on, all with the same budget, examples and targets."""

    def __init__(self, subject: Trained, budget: Budget):
        self.subject, self.budget = subject, budget
        self.tokenizer: Any = zoo.load(subject.folder)[1]
        self.split: Split = subject.task.train.first(budget.examples)

    def scheduled(self, schedule: schedules.Schedule, seed: int) -> nn.Module:
        """A masked copy of the dense model, pruned as the schedule says while it is trained on."""
        model = copy.deepcopy(self.subject.model)
        weights = prunable_weights(model, self.subject.task.classes)

        def train(share: float, callbacks: Sequence[Any]) -> None:
            self._train(model, share, f"{self.subject.name}, {schedule.name}", seed, callbacks)

        schedules.retrain(weights, schedule, train)  # type: ignore[arg-type]
        return model

    def recovered(self, model: nn.Module, seed: int) -> nn.Module:
        """A copy of a smaller model, or of the dense one as a control, trained on."""
        model = copy.deepcopy(model)
        self._train(model, 1.0, self.subject.name, seed, ())
        return model

    def compared(
        self, names: Sequence[str], sparsities: Sequence[float], scope: Scope, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """Rows of the table `schedules` for each name, sparsity and seed, resumed where an earlier run was killed.

        Beside the schedules a name may be `none`, pruned and left alone, or `dense`, trained on without pruning.
        """
        runs = list(product(names, sparsities, seeds))
        rows = [self._outcome(name, ratio, scope, seed) for name, ratio, seed in track(runs, "schedules")]
        common = self.budget.model_dump(include={"epochs", "examples", "learning_rate", "distilled"})
        return pd.DataFrame(rows).drop_duplicates().assign(**common)

    def _outcome(self, name: str, sparsity: float, scope: Scope, seed: int) -> dict[str, Any]:
        subject = self.subject
        told = {"schedule": name, "sparsity": 0.0 if name == "dense" else sparsity, "scope": scope, "seed": seed}
        weights = file_hash(subject.folder / "model.safetensors")
        key = key_of(ROOMS, weights, subject.task.fingerprint, self.budget.model_dump_json(), told)

        def measure() -> dict[str, Any]:
            answers = evaluation.logits(self._made(name, sparsity, scope, seed), subject.examples)
            found = metrics.metrics(answers, subject.examples.labels)
            dense = evaluation.evaluate(subject.model, subject.examples).accuracy
            note(f"{subject.name}: {told}, accuracy {found['accuracy']:.3f}")
            return {"model": subject.name, "task": subject.task.name, **told, **found, "dense_accuracy": dense}

        return remembered(subject.folder / "schedules" / f"{key}.json", key, measure)

    def _made(self, name: str, sparsity: float, scope: Scope, seed: int) -> nn.Module:
        if name == "dense":
            return self.recovered(self.subject.model, seed)
        if name != "none":
            return self.scheduled(schedules.Schedule(name=name, sparsity=sparsity, scope=scope), seed)  # type: ignore
        model = copy.deepcopy(self.subject.model)
        weights = prunable_weights(model, self.subject.task.classes)
        with torch.no_grad():
            for layer, mask in schedules.by_magnitude(weights, sparsity, scope).items():
                weights[layer].mul_(mask)
        return model

    @cached_property
    def targets(self) -> Tensor:
        """Probabilities (n, classes) to learn: the labels, mixed with what the dense model answers."""
        labels = functional.one_hot(torch.from_numpy(self.split.labels), self.subject.task.classes).float()
        if not self.budget.distilled:
            return labels
        examples = evaluation.prepare(self.split, self.tokenizer, self.subject.spec.max_length)
        precision: evaluation.Precision = "bfloat16" if self.budget.bfloat16 else "float32"
        answers = evaluation.logits(self.subject.model, examples, precision=precision)
        return torch.lerp(labels, answers.softmax(-1).float(), self.budget.distilled)

    def _train(self, model: nn.Module, share: float, name: str, seed: int, callbacks: Sequence[Any]) -> None:
        spec = self.subject.spec.model_copy(
            update={
                "epochs": self.budget.epochs * share,
                "batch_size": self.budget.batch_size,
                "learning_rate": self.budget.learning_rate,
                "bfloat16": self.budget.bfloat16,
            }
        )
        training.train(model, self.tokenizer, self.split, spec, seed, name, self.targets, callbacks)
