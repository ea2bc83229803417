"""Trained classifiers of the registry: trained once, saved, and described as rows of the table `models`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunecast import paths
from prunecast.cache import alone, kept_folder, key_of
from prunecast.datasets.tasks import Task
from prunecast.loading import storage
from prunecast.models import inputs, prunable, zoo
from prunecast.progress import note
from prunecast.seeding import seed_everything

TRAINED = "trained.json"


@dataclass(frozen=True)
class TrainedModel:
    """A trained classifier with what is needed to evaluate it.

    Attributes:
        name: Name in the registry.
        spec: Entry of the registry.
        task: The task that it was trained on.
        model: The classifier, in evaluation mode, on the GPU where there is one.
        examples: The validation split of the task, ready for evaluation.
        folder: Folder of its checkpoint, and of what is measured on it.
        seed: Seed of its training.
        recalibrate_on: Unlabelled images over which running statistics of batch norms are taken anew whenever it is
            pruned; None where they are not.
    """

    name: str
    spec: zoo.ModelSpec
    task: Task
    model: nn.Module
    examples: inputs.Examples
    folder: Path
    seed: int
    recalibrate_on: inputs.Examples | None = None

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """The prunable weights by name, in the model's order."""
        return prunable.prunable_weights(self.model, self.task.classes)


def trained_classifier(name: str, run: str, seed: int) -> TrainedModel:
    """Train a model of the registry, or reuse its checkpoint if nothing that it depends on has changed.

    Args:
        name: Name in the registry.
        run: Name of the run in whose folder the checkpoint is saved.
        seed: Seed of initialisation and of the order of examples.

    Returns:
        The trained model.

    Raises:
        UserError: The name or its task is unknown, or the model cannot be built.
    """
    spec = zoo.spec_of(name)
    task = zoo.task_of(spec)
    folder = paths.run(run) / "models" / name
    key = key_of(["training"], spec.training_settings, zoo.parent_hash(spec), task.fingerprint, seed)
    with alone(folder):
        kept_folder(folder, key, lambda new: _train_into(new, name, spec, task, seed), TRAINED)
        model, tokenizer = storage.load(folder)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    examples = inputs.prepare(task.validation, tokenizer, spec.max_length)
    return TrainedModel(name, spec, task, model, examples, folder, seed)


def describe(subject: TrainedModel, dense_accuracy: float) -> dict[str, Any]:
    """Describe a trained model as a row of the table `models`.

    Args:
        subject: The model.
        dense_accuracy: Its accuracy before pruning, as a fraction.

    Returns:
        The cells by column name.
    """
    config = getattr(subject.model, "config", None)
    architecture = config.model_type if config else subject.spec.architecture
    return {
        "model": subject.name,
        "architecture": architecture,
        "family": subject.spec.family or architecture,
        "base": subject.spec.base or subject.name,
        "parent": subject.spec.checkpoint or None,
        "initialisation": subject.spec.initialisation,
        "task": subject.task.name,
        "kind": subject.task.kind,
        "source": subject.task.source,
        "classes": subject.task.classes,
        "parameters": sum(weight.numel() for weight in subject.model.parameters()),
        "layers": len(subject.weights),
        "prunable_parameters": sum(weight.numel() for weight in subject.weights.values()),
        "dense_accuracy": dense_accuracy,
        "majority_accuracy": subject.task.majority_accuracy,
        "epochs": subject.spec.epochs,
        "batch_size": subject.spec.batch_size,
        "weight_decay": subject.spec.weight_decay,
        "train_examples": len(subject.task.train),
        "eval_examples": len(subject.task.validation),
        "seed": subject.seed,
    }


def _train_into(folder: Path, name: str, spec: zoo.ModelSpec, task: Task, seed: int) -> dict[str, Any]:
    from prunecast.models import training  # here, because what trains nothing should not wait for the Trainer

    seed_everything(seed, "build", name)
    model, tokenizer = zoo.build(spec, task)
    if not spec.fine_tuned:
        training.train(model, tokenizer, task.train, spec, seed, name)
    storage.save(model, tokenizer, folder)
    note(f"{name}: trained")
    return {"inputs": {spec.task: task.fingerprint} | zoo.parent_hash(spec)}
