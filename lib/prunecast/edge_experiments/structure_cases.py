"""Networks whose structure is pruned: what is removed from them, and how what is left is trained and evaluated."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunecast.cache import file_hash
from prunecast.capture.captured import capture
from prunecast.datasets.tasks import Task, load_task
from prunecast.errors import UserError
from prunecast.graph.blocks import TransformerBlocks, removed
from prunecast.graph.structure import MaskedNetwork, Masks
from prunecast.loading import classes, folders, storage
from prunecast.models import evaluation, inputs, zoo
from prunecast.models.checkpoints import TrainedModel, trained_classifier
from prunecast.pruning import structured
from prunecast.pruning.finetuning import Budget
from prunecast.seeding import seed_everything

Metric = Literal["accuracy", "perplexity"]
Inputs = dict[str, Tensor]
Gated = tuple[MaskedNetwork, tuple[str, ...], Callable[[Masks], nn.Module]]
MAX_LENGTH = 64  # tokens of a text
BATCH = 32  # images or texts that are timed together
SCORED = 128  # examples by which heads, neurons and channels are scored


@dataclass(frozen=True)
class Stage:
    """What happens to a smaller network before it is scored.

    Attributes:
        task: The task or text that it is scored on.
        reached: The network that is scored, from the smaller network, which stays unchanged, and a seed.
        score: Accuracy as a fraction, or perplexity, on the validation split.
    """

    task: str
    reached: Callable[[nn.Module, int], nn.Module]
    score: Callable[[nn.Module], float]


@dataclass(frozen=True)
class Case:
    """A network, and what can be done with it.

    Attributes:
        network: Its name.
        metric: What the stages score.
        dense: The network, which stays unchanged.
        masked: The same with gates on its edges, on examples of the training split.
        labels: What each edge is.
        without: The smaller network without the edges that a mask removes.
        thinner: The smaller network without a share of the heads, neurons or channels of each layer.
        stages: By name: `zero_shot`, `fine_tuned` and, where there is a second task, `transferred`.
        one: Inputs of one example, whose operations are counted.
        batch: Inputs of a batch, which is timed.
        fingerprint: All that its figures depend on.
    """

    network: str
    metric: Metric
    dense: nn.Module
    masked: MaskedNetwork
    labels: tuple[str, ...]
    without: Callable[[Masks], nn.Module]
    thinner: Callable[[float, structured.Importance], nn.Module]
    stages: Mapping[str, Stage]
    one: Inputs
    batch: Inputs
    fingerprint: tuple[str, ...]


@dataclass(frozen=True)
class Classification:
    """A task on which classifiers are trained and evaluated.

    Attributes:
        task: The task.
        tokenizer: The tokenizer of the classifiers; None for images.
        spec: Length of the texts, and settings of the training that the budget leaves open.
        budget: What a classifier is trained on.
    """

    task: Task
    tokenizer: Any
    spec: zoo.ModelSpec
    budget: Budget

    @cached_property
    def examples(self) -> inputs.Examples:
        """The validation split, ready for evaluation."""
        return inputs.prepare(self.task.validation, self.tokenizer, self.spec.max_length)

    def calibration(self, count: int) -> inputs.Examples:
        """The first examples of the training split, ready for evaluation."""
        return inputs.prepare(self.task.train.first(count), self.tokenizer, self.spec.max_length)

    def score(self, model: nn.Module) -> float:
        """Accuracy on the validation split, as a fraction."""
        return evaluation.evaluate(model, self.examples).accuracy

    def trained(self, model: nn.Module, seed: int) -> nn.Module:
        """A copy of a classifier, trained on the examples of the budget; with a new head where the classes differ."""
        from prunecast.models import training  # here, because what trains nothing should not wait for the Trainer

        settings = self.budget.model_dump(include={"epochs", "batch_size", "learning_rate", "bfloat16"})
        copied = copy.deepcopy(model).requires_grad_(True)
        spec, split = self.spec.model_copy(update=settings), self.task.train.first(self.budget.examples)
        training.train(copied, self.tokenizer, split, spec, seed, self.task.name)
        return copied

    def with_new_head(self, model: nn.Module, seed: int) -> nn.Module:
        """The same as `trained`, where the last layer is replaced by a random one for the classes of the task."""
        copied: Any = copy.deepcopy(model)
        name, head = [(name, part) for name, part in copied.named_modules() if isinstance(part, nn.Linear)][-1]
        seed_everything(seed, "head", self.task.name)
        parent, _, last = name.rpartition(".")
        setattr(copied.get_submodule(parent), last, nn.Linear(head.in_features, self.task.classes))
        if hasattr(copied, "config"):
            copied.num_labels = copied.config.num_labels = self.task.classes
        return self.trained(copied, seed)

    def stages(self, second: "Classification | None") -> dict[str, Stage]:
        """The stages of a network of this task, with transfer to a second one where there is one."""
        found = {
            "zero_shot": Stage(self.task.name, lambda model, _: model, self.score),
            "fine_tuned": Stage(self.task.name, self.trained, self.score),
        }
        return found | ({"transferred": Stage(second.task.name, second.with_new_head, second.score)} if second else {})


class Smaller(nn.Module):
    """A captured image network, called and trained as an `ImageClassifier` is.

    Args:
        network: A module from images (n, channels, height, width) to logits (n, classes).
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Classify images.

        Args:
            pixel_values: Images (n, channels, height, width).
            labels: Index (n,) of the true classes; None where no loss is needed.

        Returns:
            `logits` (n, classes), and with labels also `loss`, the mean cross-entropy in nats.
        """
        logits = self.network(pixel_values)
        loss = {} if labels is None else {"loss": functional.cross_entropy(logits, labels)}
        return {**loss, "logits": logits}


def classifier(network: str, task: str, second: str, budget: Budget, calibration: int, run: str, seed: int) -> Case:
    """A classifier to prune.

    Args:
        network: Name of a classifier of `data/models.yml`, which is trained first; or a text classifier, by its folder,
            its name in `PRUNECAST_MODELS` or its id of the hub.
        task: The task that it was trained on.
        second: The task that it is transferred to after pruning; empty for none.
        budget: What it is trained on after pruning.
        calibration: Number of training examples on which losses are measured and forecast.
        run: Name of the run in whose folder a trained classifier is saved.
        seed: Seed of its training.

    Returns:
        The case.

    Raises:
        UserError: There is no such network or task, they do not fit, or the parts of the network are not found.
    """
    subject, tokenizer = _subject(network, task, run, seed)
    own = Classification(subject.task, tokenizer, subject.spec, budget)
    other = Classification(load_task(second), tokenizer, subject.spec, budget) if second else None
    if other and other.task.kind != own.task.kind:
        raise UserError(f"task {second!r} consists of {other.task.kind}s, and {task!r} of {own.task.kind}s")
    prepared = own.calibration(calibration)
    everything = inputs.batch_of(prepared, torch.arange(min(len(prepared), SCORED)))
    batch, one = ({name: tensor[:count] for name, tensor in everything.items()} for count in (BATCH, 1))
    text = own.task.kind == "text"
    dense = subject.model.cpu()

    def thinner(share: float, importance: structured.Importance) -> nn.Module:
        removal = structured.Removal(share if text else 0.0, share, 0, importance)
        batch = everything if importance == "taylor" else one  # which only says how the layers are joined
        return structured.remove(dense, removal, batch, prepared.labels[:SCORED])

    masked, labels, without = with_blocks(dense, prepared) if text else _captured(dense, prepared)
    return Case(
        network=subject.name,
        metric="accuracy",
        dense=dense,
        masked=masked,
        labels=labels,
        without=without,
        thinner=thinner,
        stages=own.stages(other),
        one=one,
        batch=batch,
        fingerprint=(
            file_hash(subject.folder / "model.safetensors"),
            *(each.task.fingerprint for each in (own, other) if each),
            subject.spec.model_dump_json(),
            budget.model_dump_json(),
            f"{calibration} {SCORED} {BATCH}",
        ),
    )


def local_checkpoint(network: str) -> Path:
    """The folder of a checkpoint, by its path or its name in `PRUNECAST_MODELS`.

    Raises:
        UserError: There is no such folder.
    """
    folder = folders.local_folder(network)
    if folder is None:
        raise UserError(f"{network!r} is neither a model of data/models.yml nor a folder with a checkpoint")
    return folder


def _subject(network: str, task: str, run: str, seed: int) -> tuple[TrainedModel, Any]:
    if network in zoo.registry():
        subject = trained_classifier(network, run, seed)
        if subject.task.name != task:
            raise UserError(f"model {network!r} is trained on the task {subject.task.name!r}, not on {task!r}")
        return subject, storage.load(subject.folder)[1]
    folder = local_checkpoint(network)
    (model, tokenizer), loaded = storage.load(folder), load_task(task)
    _check_classes(model, folder.resolve().name, loaded)
    spec = zoo.ModelSpec(task=task, max_length=MAX_LENGTH)
    examples = inputs.prepare(loaded.validation, tokenizer, MAX_LENGTH)
    return TrainedModel(folder.resolve().name, spec, loaded, model, examples, folder, seed), tokenizer


def _check_classes(model: Any, name: str, task: Task) -> None:
    config = getattr(model, "config", None)
    classes.check_number(name, config.num_labels if config else model.classes, task.name, task.classes)
    place = classes.matched(classes.names_of(config), task.label_names, task.names_known)
    if place is not None and (place != np.arange(task.classes)).any():
        raise UserError(
            f"the classes of checkpoint {name!r} are in another order than those of task {task.name!r}, "
            f"which are {classes.listed(task.label_names)}; order those of the task as the checkpoint does"
        )


def _captured(dense: nn.Module, prepared: inputs.Examples) -> Gated:
    network = capture(dense, prepared.inputs, prepared.labels)
    return network, network.labels, lambda mask: Smaller(network.without(mask))


def with_blocks(dense: nn.Module, data: inputs.Examples | Tensor) -> Gated:
    """A transformer with gates on its blocks, the names of these, and the smaller transformer of a mask."""
    network = TransformerBlocks(dense, data)
    return network, network.graph.labels, lambda mask: removed(dense, np.flatnonzero(~mask).tolist())
