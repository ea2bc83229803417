"""Training on after pruning, under a schedule or after parts were removed, at a stated budget."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from prunecast.cache import file_hash, kept_row, key_of
from prunecast.datasets.tasks import Split
from prunecast.errors import UserError, validated
from prunecast.models import evaluation, training, zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.progress import note, track
from prunecast.pruning import masks, schedules, structured
from prunecast.pruning.masks import Scope

IMPORTANCE_EXAMPLES = 128  # training examples that tell how important heads, neurons and layers are
STAGES = ("training", "evaluation", "finetuning")


class Budget(BaseModel):
    """What a model may be trained on after pruning; the same for all that are compared.

    `distilled` is the share of the dense model's answers in the targets (Hinton et al., 2015, at temperature 1); the
    rest are the labels.
    """

    model_config = ConfigDict(frozen=True)

    epochs: PositiveFloat
    examples: PositiveInt
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat
    distilled: float = Field(ge=0, le=1)
    bfloat16: bool = True


def budget_of(**parameters: Any) -> Budget:
    """The budget with these parameters; raises UserError for one that cannot be."""
    return validated(Budget, **parameters)


class Retraining:
    """Trains pruned copies of one trained model on, all with the same budget, examples and targets.

    With a `removal` they start from the model less these parts, which is cheaper than to start from the whole one.
    """

    def __init__(self, subject: TrainedModel, budget: Budget, removal: structured.Removal = structured.NOTHING):
        self.subject, self.budget, self.removal = subject, budget, removal
        self.tokenizer: Any = zoo.load(subject.folder)[1]
        self.split: Split = subject.task.train.first(budget.examples)
        self._shallower: dict[int, nn.Module] = {}

    @cached_property
    def start(self) -> nn.Module:
        """The model that training starts from."""
        return self.without(self.removal)

    def without(self, removal: structured.Removal) -> nn.Module:
        """The dense model less some parts, whose importance a few training examples tell."""
        inputs, labels = self._calibrating
        if removal.layers not in self._shallower:  # which layers go takes many forward passes
            layers = structured.Removal(0.0, 0.0, removal.layers, removal.importance)
            self._shallower[removal.layers] = structured.remove(self.subject.model, layers, inputs, labels)
        return structured.remove(self._shallower[removal.layers], replace(removal, layers=0), inputs, labels)

    @cached_property
    def _calibrating(self) -> tuple[dict[str, Tensor], Tensor]:
        """A batch of training examples, and their labels."""
        split, device = self.subject.task.train.first(IMPORTANCE_EXAMPLES), next(self.subject.model.parameters()).device
        prepared = evaluation.prepare(split, self.tokenizer, self.subject.spec.max_length)
        batch = evaluation.batch_of(prepared, torch.arange(len(prepared)))
        return {name: tensor.to(device) for name, tensor in batch.items()}, prepared.labels.to(device)

    def scheduled(self, schedule: schedules.Schedule, seed: int) -> nn.Module:
        """A masked copy of the dense model, pruned as the schedule says while it is trained on."""
        model = copy.deepcopy(self.start)
        weights = self._prunable(model)

        shares = [0.0]

        def train(share: float, callbacks: Sequence[Any]) -> None:  # each round on examples of its own
            begin, end = (round(part * len(self.split)) for part in (sum(shares), sum(shares) + share))
            shares.append(share)
            self._train(model, slice(begin, end), f"{self.subject.name}, {schedule.name}", seed, callbacks)

        schedules.retrain(weights, schedule, train)
        return model.to(next(self.start.parameters()).device)

    def recovered(self, seed: int) -> nn.Module:
        """A copy of the model that training starts from, trained on without further pruning."""
        model = copy.deepcopy(self.start)
        self._train(model, slice(None), self.subject.name, seed, ())
        return model.to(next(self.start.parameters()).device)

    def compared(
        self, names: Sequence[str], sparsities: Sequence[float], scope: Scope, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """Rows of the table `schedules` for each name, sparsity and seed, resumed where an earlier run was killed.

        Beside the schedules a name may be `none`, pruned and left alone, or `dense`, trained on without zeros.
        """
        for sparsity in sparsities:  # refused before the first hour is spent
            if not 0 <= sparsity < 1:
                raise UserError(
                    f"sparsity {sparsity} is not a share of the weights; it must be from 0 up to, not with, 1"
                )
            self._rest(sparsity)
        masks.groups_of({}, scope)
        if unknown := set(names) - {"none", "dense", *schedules.SCHEDULES}:
            raise UserError(f"there is no schedule {min(unknown)!r}; there are {', '.join(schedules.SCHEDULES)}")
        runs = list(product(names, sparsities, seeds))
        rows = [self._outcome(name, ratio, scope, seed) for name, ratio, seed in track(runs, "schedules")]
        common = self.budget.model_dump(include={"epochs", "examples", "learning_rate", "distilled"})
        return pd.DataFrame(rows).drop_duplicates().assign(**common)

    def _outcome(self, name: str, sparsity: float, scope: Scope, seed: int) -> dict[str, Any]:
        subject = self.subject
        reached = 1 - self._left if name == "dense" else sparsity
        told = {"removed": str(self.removal), "schedule": name, "sparsity": reached, "scope": scope, "seed": seed}
        weights = file_hash(subject.folder / "model.safetensors")
        key = key_of(
            STAGES, weights, subject.task.fingerprint, self.budget.model_dump_json(), IMPORTANCE_EXAMPLES, told
        )

        def measure() -> dict[str, Any]:
            answers = evaluation.logits(self._made(name, sparsity, scope, seed), subject.examples)
            found = evaluation.metrics(answers, subject.examples.labels)
            dense = evaluation.evaluate(subject.model, subject.examples).accuracy
            note(f"{subject.name}: {told}, accuracy {found['accuracy']:.3f}")
            return {"model": subject.name, "task": subject.task.name, **told, **found, "dense_accuracy": dense}

        return kept_row(subject.folder / "schedules" / f"{key['inputs']}.json", key, measure)

    def _made(self, name: str, sparsity: float, scope: Scope, seed: int) -> nn.Module:
        """The model of a row, of which `sparsity` counts what was removed as well as what was set to zero."""
        if name == "dense":
            return self.recovered(seed)
        rest = self._rest(sparsity)
        if name != "none":
            return self.scheduled(schedules.Schedule(name=name, sparsity=rest, scope=scope), seed)  # type: ignore
        model = copy.deepcopy(self.start)
        schedules.apply(self._prunable(model), rest, scope)
        return model

    def _rest(self, sparsity: float) -> float:
        """Share of what the removal has left that is to be zero, so that `sparsity` of the dense model is gone."""
        if self._left < 1 - sparsity:
            raise UserError(
                f"{self.removal} leaves {self._left:.1%} of the weights, less than the {1 - sparsity:.1%} asked for"
            )
        return 1 - (1 - sparsity) / self._left

    @cached_property
    def _left(self) -> float:
        """Share of the dense model's prunable weights that the removal leaves."""
        models = (self.start, self.subject.model)
        left, whole = (sum(weight.numel() for weight in self._prunable(model).values()) for model in models)
        return left / whole

    def _prunable(self, model: nn.Module) -> dict[str, Any]:
        return prunable_weights(model, self.subject.task.classes)

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

    def _train(self, model: nn.Module, rows: slice, name: str, seed: int, callbacks: Sequence[Any]) -> None:
        spec = self.subject.spec.model_copy(
            update={
                "epochs": self.budget.epochs,
                "batch_size": self.budget.batch_size,
                "learning_rate": self.budget.learning_rate,
                "bfloat16": self.budget.bfloat16,
            }
        )
        part = Split(self.split.inputs[rows], self.split.labels[rows])
        training.train(model, self.tokenizer, part, spec, seed, name, self.targets[rows], callbacks)
