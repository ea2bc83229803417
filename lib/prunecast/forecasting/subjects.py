"""A checkpoint of a user's, with the examples that it is evaluated on."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.loading import classes, folders, storage
from prunecast.loading.images import ImageInputs
from prunecast.loading.text import most_tokens
from prunecast.models import inputs, prunable, zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import Outcome, logits, outcome_of
from prunecast.networks.batch_norm import running_statistics
from prunecast.networks.vision import ImageClassifier
from prunecast.progress import track
from prunecast.sweeps import recalibration

EXAMPLES = 2000  # of the split that is evaluated, at most
MAX_LENGTH = 128  # tokens of a text, at most
AT_ONCE = 256  # examples between two steps of the progress bar
WORDS = {"train": "training", "validation": "validation"}


@dataclass(frozen=True)
class Subject:
    """A checkpoint, ready to be evaluated and pruned.

    Attributes:
        model: The model with its prunable weights; the classes of its task are in the order of the model's.
        processor: Its tokenizer or `ImageInputs`; None for an `ImageClassifier`.
        notes: What is evaluated and pruned, a sentence for each fact.
    """

    model: TrainedModel
    processor: Any
    notes: tuple[str, ...]

    @cached_property
    def answers(self) -> Tensor:
        """Logits (n, classes) of the dense model for each example: its one evaluation, with a progress bar."""
        examples = self.model.examples
        order = torch.cat(list(inputs.batches(examples, torch.arange(len(examples)))))  # as few batches as without it
        chunks = track(torch.split(order, AT_ONCE), "evaluating without pruning")
        return torch.cat([logits(self.model.model, examples, rows) for rows in chunks])[order.argsort()]

    @cached_property
    def dense(self) -> Outcome:
        """Outcome (n,) of the examples without pruning."""
        return outcome_of(self.answers, self.model.examples.labels)

    @property
    def dense_accuracy(self) -> float:
        """Accuracy without pruning, as a fraction."""
        return self.dense.accuracy

    @cached_property
    def another_order(self) -> str:
        """A sentence, where the dense model is far more accurate with its classes in another order; else nothing."""
        labels = self.model.examples.labels.numpy()
        return classes.likely_order(self.answers.argmax(-1).numpy(), labels, self.model.task.label_names)


def open_subject(
    checkpoint: str,
    task: Task,
    *,
    device: str = "",
    examples: int = EXAMPLES,
    max_length: int = MAX_LENGTH,
    seed: int = 0,
    split: Literal["train", "validation"] = "validation",
    recalibrate: int | None = None,
) -> Subject:
    """Load a checkpoint and the examples of a task that it is evaluated on.

    Args:
        checkpoint: A folder, a name in `PRUNECAST_MODELS`, or an id of the hub.
        task: The task.
        device: Device of the model, such as `cpu` or `cuda:1`; empty for the GPU where there is one.
        examples: Number of examples that are evaluated; all where there are fewer.
        max_length: Number of tokens after which a text is cut off, unless the checkpoint takes fewer.
        seed: Seed of the draw of examples.
        split: The split of the task that they are drawn from.
        recalibrate: Number of unlabelled images on which batch norms are recalibrated whenever the model is pruned; 0
            for none, and None where it is not to be pruned, so that nothing is said about it.

    Returns:
        The model with its examples, as the validation split of its task. The labels of the task are in the order of
        the checkpoint's classes where both have names.

    Raises:
        UserError: There is no such checkpoint or device, or the checkpoint has other inputs or classes than the task.
    """
    place = chosen_device(device)
    model, processor, name = storage.open_checkpoint(checkpoint)
    _check_inputs(model, processor, name, task, split)
    ordered, notes_on_classes = _in_order_of(model, name, task)
    available = ordered.train if split == "train" else ordered.validation
    chosen = available.sample(examples, seed)
    limit = max_length if task.kind == "image" else min(max_length, most_tokens(model, processor))
    prepared = inputs.fitted(model.to(place), inputs.prepare(chosen, processor, limit), name)
    subject = TrainedModel(
        name=name.rpartition("/")[2],
        spec=zoo.ModelSpec(task=task.name, max_length=limit),
        task=replace(ordered, validation=chosen),
        model=model,
        examples=prepared,
        folder=folders.local_folder(checkpoint) or Path(checkpoint),
        seed=seed,
    )
    notes = [
        _note_on_examples(len(chosen), len(available), WORDS[split], seed),
        *_notes_on_texts(prepared, limit),
        *notes_on_classes,
        *_notes_on_weights(subject),
    ]
    if recalibrate is not None:
        subject = recalibration.recalibrating(subject, recalibrate, processor)
        notes += _notes_on_statistics(subject, recalibrate)
    return Subject(subject, processor, tuple(notes))


def chosen_device(name: str) -> torch.device:
    """The device of a name; the GPU where there is one, or else the processor, where the name is empty.

    Raises:
        UserError: There is no such device.
    """
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError):
        gpus = torch.cuda.device_count()
        known = ", ".join(["cpu", *(f"cuda:{number}" for number in range(gpus))])
        raise UserError(f"there is no device {name!r} on this machine; there are {known}") from None
    return device


def _check_inputs(model: Any, processor: Any, name: str, task: Task, split: str) -> None:
    kind = "image" if processor is None or isinstance(processor, ImageInputs) else "text"
    if kind != task.kind:
        raise UserError(f"{name} does not classify {task.kind}s, which task {task.name!r} consists of, but {kind}s")
    if getattr(getattr(model, "config", None), "problem_type", None) == "multi_label_classification":
        raise UserError(f"{name} gives each example several classes, and here each example has one")
    if isinstance(model, ImageClassifier):
        _, height, width, channels = getattr(task, split).images.shape
        shape = (channels, height, width)
        if shape != model.shape and not (model.resizes and channels in (1, 3)):
            raise UserError(
                f"{name} takes images of {_shown(model.shape)}, those of task {task.name!r} have {_shown(shape)} "
                "(channels, height, width)"
            )


def _shown(shape: tuple[int, ...]) -> str:
    return " by ".join(map(str, shape))


def _in_order_of(model: Any, name: str, task: Task) -> tuple[Task, list[str]]:
    """The task with the classes of the model, in its order, and how that was found."""
    own = classes.names_of(getattr(model, "config", None))
    count = model.classes if isinstance(model, ImageClassifier) else model.config.num_labels
    place = classes.matched(own, task.label_names, task.names_known)
    if place is None:
        if not (task.source == "file" and task.classes < count):  # a few examples of one's own may lack a class
            classes.check_number(name, count, task.name, task.classes)
        theirs = f"names {classes.listed(own)}" if own else "does not name them"
        ours = f"names {classes.listed(task.label_names)}" if task.names_known else "does not name them"
        found = f"the order of the classes was assumed: the checkpoint {theirs}, the task {ours}"
        names = own if len(own) == count else (*task.label_names, *map(str, range(task.classes, count)))
        place = np.arange(task.classes)
        ordered = replace(task, label_names=names[:count]) if task.classes < count else task
    elif (place == np.arange(len(place))).all():
        found = "the classes of the checkpoint were matched with those of the task by name; both have one order"
        ordered = replace(task, label_names=own) if task.classes < count else task
    else:
        train, validation = (Split(split.inputs, place[split.labels]) for split in (task.train, task.validation))
        ordered = replace(task, label_names=own, train=train, validation=validation)
        found = f"the classes of the task were put into the order of the checkpoint's by name, {classes.listed(own)}"
    absent = count - task.classes
    return ordered, [
        found,
        *([f"{absent} of the {count} classes of the checkpoint have no examples"] if absent else []),
    ]


def _note_on_examples(used: int, available: int, kind: str, seed: int) -> str:
    if used == available:
        return f"all {available:,} {kind} examples are evaluated"
    return f"{used:,} of {available:,} {kind} examples are evaluated, drawn at random with seed {seed}"


def _notes_on_texts(examples: inputs.Examples, limit: int) -> list[str]:
    notes = []
    if cut := examples.cut:
        notes.append(f"{cut:,} of {len(examples):,} texts {'was' if cut == 1 else 'were'} cut off after {limit} tokens")
    if not examples.masked:
        notes.append(
            "answers of the checkpoint change with padding, so that only texts of equal length are evaluated together"
        )
    return notes


def _notes_on_weights(subject: TrainedModel) -> list[str]:
    model, weights, examples = subject.model, subject.weights, subject.examples
    notes = []
    absent, total, largest = prunable.left_out(model, weights, subject.task.classes)
    if absent:
        notes.append(
            f"{absent / total:.1%} of the weights in matrices ({absent:,} of {total:,}, embeddings and output layer "
            f"apart) are in no linear or convolution layer and are never pruned, such as {largest}"
        )
    first = 0 if examples.lengths is None else int(examples.lengths.argmin())
    batch = inputs.batch_of(examples, torch.tensor([first]), inputs.device_of(model))
    if unused := prunable.unused(model, weights, batch):
        prunable_count = sum(weight.numel() for weight in weights.values())
        share = sum(weights[name].numel() for name in unused) / prunable_count
        article = "an image" if examples.lengths is None else "a text"
        notes.append(
            f"{share:.1%} of the prunable weights take no part in answering {article}, such as {unused[0]}; each ratio "
            "counts them all the same"
        )
    return notes


def _notes_on_statistics(subject: TrainedModel, recalibrate: int) -> list[str]:
    if not running_statistics(subject.model):
        return ["the model has no batch norms, so that nothing is recalibrated"] if recalibrate else []
    if images := subject.recalibrate_on:
        own = "unlabelled training images" if len(subject.task.train) else "of the evaluated images, labels not used"
        return [f"after each pruning the statistics of batch norms are taken anew over {len(images):,} {own}"]
    return [
        "batch norms keep the statistics of the dense model, which are wrong after pruning; with the option "
        "recalibrate they are taken anew over unlabelled images, and mostly more weights can be pruned"
    ]
