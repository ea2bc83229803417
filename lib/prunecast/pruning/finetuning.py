"""Fine-tuning: training on after pruning, under a schedule or after parts were removed, at a stated budget."""

import copy
from collections.abc import Sequence
from functools import cached_property, partial
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
from prunecast.loading import storage
from prunecast.models import evaluation, inputs, training
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.progress import note, track
from prunecast.pruning import masks, schedules, structured
from prunecast.pruning.masks import Scope

IMPORTANCE_EXAMPLES = 128  # training examples by which heads, neurons and layers are scored
STAGES = ("training", "evaluation", "finetuning")


class Budget(BaseModel):
    """What a model may be trained on after pruning; the same for all models that are compared.

    Attributes:
        epochs: Passes over the examples.
        examples: Number of training examples, the first ones of the split.
        batch_size: Examples of a step.
        learning_rate: Highest learning rate.
        distilled: Share of the dense model's predicted probabilities in the targets, from 0 to 1; the rest are labels.
        bfloat16: Whether training, and the dense model's predictions, are in bfloat16.

    Source: distilled: Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", at temperature 1.
    """

    model_config = ConfigDict(frozen=True)

    epochs: PositiveFloat
    examples: PositiveInt
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat
    distilled: float = Field(ge=0, le=1)
    bfloat16: bool = True


def budget_of(**parameters: Any) -> Budget:
    """The budget with these parameters.

    Args:
        parameters: Attributes of `Budget` by name.

    Raises:
        UserError: A parameter is missing or out of range.
    """
    return validated(Budget, **parameters)


class Retraining:
    """Trains pruned copies of one trained model on, all with the same budget, examples and targets.

    Attributes:
        subject: The trained, dense model.
        budget: What the copies are trained on.
        removal: Parts that are removed before; training the smaller model is cheaper than training the whole one.
        tokenizer: The tokenizer of the model; None for images.
        split: The training examples of the budget.
    """

    def __init__(self, subject: TrainedModel, budget: Budget, removal: structured.Removal = structured.NOTHING):
        """Read the tokenizer and select the examples.

        Args:
            subject: The trained, dense model, which is left unchanged.
            budget: What the copies are trained on.
            removal: Parts to remove before.
        """
        self.subject, self.budget, self.removal = subject, budget, removal
        self.tokenizer: Any = storage.load(subject.folder)[1]
        self.split: Split = subject.task.train.first(budget.examples)

    @cached_property
    def start(self) -> nn.Module:
        """The model that training starts from: the dense model without the removed parts."""
        return self.without(self.removal)

    def without(self, removal: structured.Removal) -> nn.Module:
        """The dense model without some parts, which are scored on a few training examples.

        Args:
            removal: Parts to remove.

        Returns:
            The smaller model, in evaluation mode.

        Raises:
            UserError: Such parts, or so many, cannot be removed from this model.
        """
        inputs, labels = self._calibration
        kept = self._layers_to_keep(removal) if removal.layers else None
        return structured.remove(self.subject.model, removal, inputs, labels, kept)

    def _layers_to_keep(self, removal: structured.Removal) -> list[int]:
        """The layers that a removal keeps; to choose them takes many forward passes, so the choice is stored."""
        subject = self.subject
        weights = file_hash(subject.folder / "model.safetensors")
        key = key_of(STAGES, weights, subject.task.fingerprint, IMPORTANCE_EXAMPLES, removal.layers)
        path = subject.folder / "layers" / f"{removal.layers}.json"
        make = partial(structured.layers_to_keep, subject.model, removal, self._calibration[0])
        return list(kept_row(path, key, lambda: {"kept": make()})["kept"])

    @cached_property
    def _calibration(self) -> tuple[dict[str, Tensor], Tensor]:
        """A batch of training examples, and their labels."""
        split, device = self.subject.task.train.first(IMPORTANCE_EXAMPLES), inputs.device_of(self.subject.model)
        prepared = inputs.prepare(split, self.tokenizer, self.subject.spec.max_length)
        return inputs.batch_of(prepared, torch.arange(len(prepared)), device), prepared.labels.to(device)

    def scheduled(self, schedule: schedules.Schedule, seed: int) -> nn.Module:
        """A masked copy of the model that training starts from, pruned as a schedule says while it is trained on.

        Args:
            schedule: The schedule, whose sparsity counts the weights of the model that training starts from.
            seed: Seed of the training.

        Returns:
            The masked model, in evaluation mode.
        """
        model = copy.deepcopy(self.start)
        weights = self._prunable(model)
        shares = [0.0]

        def train(share: float, callbacks: Sequence[Any]) -> None:  # each round on examples of its own
            begin, end = (round(part * len(self.split)) for part in (sum(shares), sum(shares) + share))
            shares.append(share)
            self._train(model, slice(begin, end), f"{self.subject.name}, {schedule.name}", seed, callbacks)

        schedules.retrain(weights, schedule, train)
        return model.to(inputs.device_of(self.start))

    def recovered(self, seed: int) -> nn.Module:
        """A copy of the model that training starts from, trained on without further pruning.

        Args:
            seed: Seed of the training.

        Returns:
            The model, in evaluation mode.
        """
        model = copy.deepcopy(self.start)
        self._train(model, slice(None), self.subject.name, seed, ())
        return model.to(inputs.device_of(self.start))

    def compared(
        self, names: Sequence[str], sparsities: Sequence[float], scope: Scope, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """Rows of the table `schedules`; an interrupted run is resumed where it stopped.

        Args:
            names: Schedules, `none` (pruned, not trained on) and `dense` (trained on without zeros).
            sparsities: Shares of the dense model's prunable weights that are removed or zero, from 0 to below 1.
            scope: Whether weights are compared across the whole model or within each layer.
            seeds: Seeds of the training.

        Returns:
            A row for each name, sparsity and seed.

        Raises:
            UserError: A sparsity, the scope or a name is invalid, before anything is trained.
        """
        for sparsity in sparsities:
            if not 0 <= sparsity < 1:
                raise UserError(f"sparsity {sparsity} is not a share of the weights; it must be at least 0 and below 1")
            self._remaining_sparsity(sparsity)
        masks.groups_of({}, scope)
        known = ("none", "dense", *schedules.SCHEDULES)
        if unknown := set(names) - set(known):
            raise UserError(f"there is no schedule {min(unknown)!r}; there are {', '.join(known)}")
        runs = list(product(names, sparsities, seeds))
        rows = [self._row(name, ratio, scope, seed) for name, ratio, seed in track(runs, "schedules")]
        common = self.budget.model_dump(include={"epochs", "examples", "learning_rate", "distilled"})
        return pd.DataFrame(rows).drop_duplicates().assign(**common)

    def _row(self, name: str, sparsity: float, scope: Scope, seed: int) -> dict[str, Any]:
        subject = self.subject
        reached = 1 - self._remaining if name == "dense" else sparsity
        settings = {"removed": str(self.removal), "schedule": name, "sparsity": reached, "scope": scope, "seed": seed}
        weights = file_hash(subject.folder / "model.safetensors")
        inputs = (weights, subject.task.fingerprint, self.budget.model_dump_json(), IMPORTANCE_EXAMPLES, settings)
        key = key_of(STAGES, *inputs)

        def measure() -> dict[str, Any]:
            logits = evaluation.logits(self._model(name, sparsity, scope, seed), subject.examples)
            metrics = evaluation.metrics(logits, subject.examples.labels)
            dense = evaluation.evaluate(subject.model, subject.examples).accuracy
            note(f"{subject.name}: {settings}, accuracy {metrics['accuracy']:.3f}")
            return {"model": subject.name, "task": subject.task.name, **settings, **metrics, "dense_accuracy": dense}

        return kept_row(subject.folder / "schedules" / f"{key['inputs']}.json", key, measure)

    def _model(self, name: str, sparsity: float, scope: Scope, seed: int) -> nn.Module:
        """The model of a row, of which `sparsity` counts what was removed as well as what was set to zero."""
        if name == "dense":
            return self.recovered(seed)
        sparsity = self._remaining_sparsity(sparsity)
        if name != "none":
            return self.scheduled(validated(schedules.Schedule, name=name, sparsity=sparsity, scope=scope), seed)
        model = copy.deepcopy(self.start)
        schedules.apply(self._prunable(model), sparsity, scope)
        return model

    def _remaining_sparsity(self, sparsity: float) -> float:
        """Share of the weights that the removal leaves to set to zero, for `sparsity` of the dense model's."""
        if self._remaining < 1 - sparsity:
            raise UserError(
                f"{self.removal} leaves {self._remaining:.1%} of the weights, less than the {1 - sparsity:.1%} that "
                f"sparsity {sparsity} keeps; take a larger sparsity or remove less"
            )
        return 1 - (1 - sparsity) / self._remaining

    @cached_property
    def _remaining(self) -> float:
        """Share of the dense model's prunable weights that the removal leaves."""
        remaining, total = (
            sum(weight.numel() for weight in self._prunable(model).values())
            for model in (self.start, self.subject.model)
        )
        return remaining / total

    def _prunable(self, model: nn.Module) -> dict[str, Tensor]:
        return prunable_weights(model, self.subject.task.classes)

    @cached_property
    def targets(self) -> Tensor:
        """Probabilities (n, classes) to learn: the labels, mixed with the dense model's predictions."""
        labels = functional.one_hot(torch.from_numpy(self.split.labels), self.subject.task.classes).float()
        if not self.budget.distilled:
            return labels
        examples = inputs.prepare(self.split, self.tokenizer, self.subject.spec.max_length)
        precision: evaluation.Precision = "bfloat16" if self.budget.bfloat16 else "float32"
        logits = evaluation.logits(self.subject.model, examples, precision=precision)
        return torch.lerp(labels, logits.softmax(-1).float(), self.budget.distilled)

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
