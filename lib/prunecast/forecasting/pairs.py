"""Two checkpoints that differ in their weights alone, so that there are networks on the line between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunecast.datasets.tasks import Task
from prunecast.errors import UserError
from prunecast.forecasting.subjects import Subject, open_subject
from prunecast.loading import classes
from prunecast.models.evaluation import logits
from prunecast.networks.vision import ImageClassifier

COMPARED = 100  # examples on which the settings of two networks are compared
ROUNDING = 1e-3  # answers that differ by less, relative to the largest, are the same

State = dict[str, Tensor]


@dataclass(frozen=True)
class Pair:
    """Two networks of one shape.

    Attributes:
        subject: The first network with its examples.
        first: Its state.
        second: The state of the other.
        names: Names of both, which differ.
        densities: Share of the prunable weights that is not zero, in each.
        common_mask: Share of the zeros, or of the other weights where that is lower, that both have in the same
            places; 0 where neither is pruned.
        notes: What is evaluated, a sentence for each fact.
    """

    subject: Subject
    first: State
    second: State
    names: tuple[str, str]
    densities: tuple[float, float]
    common_mask: float
    notes: tuple[str, ...]


def open_pair(first: str, second: str, task: Task, **settings: Any) -> Pair:
    """Open two checkpoints.

    Args:
        first: A checkpoint, as for `open_subject`.
        second: The other.
        task: Their task.
        **settings: Further arguments of `open_subject`.

    Returns:
        The pair.

    Raises:
        UserError: One cannot be opened, or they have other shapes, classes or settings, or the same weights.
    """
    one, two = (open_subject(checkpoint, task, **settings) for checkpoint in (first, second))
    names = one.model.name, two.model.name
    if names[0] == names[1]:
        names = first, second
    _refuse_other_classes(one, two, names)
    _refuse_other_shapes(one.model.model, two.model.model, names)
    zeros = [
        torch.cat([(weight == 0).flatten().cpu() for weight in subject.model.weights.values()])
        for subject in (one, two)
    ]
    states = [_copy(subject.model.model, name) for subject, name in zip((one, two), names, strict=True)]
    _refuse_other_settings(one, two, states[1], names)
    return Pair(
        subject=one,
        first=states[0],
        second=states[1],
        names=names,
        densities=(1 - float(zeros[0].double().mean()), 1 - float(zeros[1].double().mean())),
        common_mask=min(_common(zeros[0], zeros[1]), _common(~zeros[0], ~zeros[1])),
        notes=tuple(_notes(one.notes, two.notes, names)),
    )


def _refuse_other_classes(one: Subject, two: Subject, names: Sequence[str]) -> None:
    tasks = one.model.task, two.model.task
    if tasks[0].classes != tasks[1].classes:
        raise UserError(
            f"checkpoint {names[0]} has {tasks[0].classes} classes and {names[1]} has {tasks[1].classes}; a pair has "
            "the same classes"
        )
    own = [classes.names_of(getattr(subject.model.model, "config", None)) for subject in (one, two)]
    same_order = torch.equal(one.model.examples.labels, two.model.examples.labels)
    if not same_order or (all(own) and own[0] != own[1]):
        shown = [classes.listed(theirs or task.label_names) for theirs, task in zip(own, tasks, strict=True)]
        raise UserError(
            f"the classes of checkpoint {names[0]} are {shown[0]}, those of {names[1]} are {shown[1]}; a pair has the "
            "same classes in the same order"
        )


def _refuse_other_shapes(one: nn.Module, two: nn.Module, names: Sequence[str]) -> None:
    kinds = [each.architecture if isinstance(each, ImageClassifier) else type(each).__name__ for each in (one, two)]
    if kinds[0] != kinds[1]:
        raise UserError(f"checkpoint {names[0]} is a {kinds[0]} and {names[1]} a {kinds[1]}; a pair has one shape")
    first, second = ({name: tuple(value.shape) for name, value in each.state_dict().items()} for each in (one, two))
    for name in first | second:
        if first.get(name) != second.get(name):
            shown = [" by ".join(map(str, shapes[name])) if name in shapes else "absent" for shapes in (first, second)]
            raise UserError(
                f"checkpoints {names[0]} and {names[1]} have other shapes, first of all {name}, which is {shown[0]} in "
                f"the one and {shown[1]} in the other; a pair has one shape"
            )
    if all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)):
        raise UserError(
            f"checkpoints {names[0]} and {names[1]} have the same weights, and a network compared with itself says "
            "nothing; train the pruned network from two seeds"
        )


def _refuse_other_settings(one: Subject, two: Subject, state: State, names: Sequence[str]) -> None:
    """Refuse two networks of which the first, given the state of the second, does not answer as the second."""
    rows = torch.arange(min(len(one.model.examples), COMPARED))
    expected = logits(two.model.model, two.model.examples, rows)
    one.model.model.load_state_dict(state)
    found = logits(one.model.model, one.model.examples, rows)
    tolerance = ROUNDING * float(expected.abs().max())
    if expected.isfinite().all() and not bool(((found - expected).abs() <= tolerance).all()):
        raise UserError(
            f"checkpoint {names[0]} with the weights of {names[1]} answers otherwise than {names[1]} itself: their "
            "configurations, or how they prepare examples, differ, so that there is no line between them"
        )


def _copy(model: nn.Module, name: str) -> State:
    state = {key: value.detach().clone() for key, value in model.state_dict().items()}
    for key, value in state.items():
        if not value.isfinite().all():
            raise UserError(f"checkpoint {name} holds numbers in {key} that are not finite")
    return state


def _common(first: Tensor, second: Tensor) -> float:
    """Intersection over union of two sets of weights; 0 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def _notes(one: Sequence[str], two: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """The notes on both networks, those that they share once."""
    yield from (note for note in one if note in two)
    for notes, others, name in ((one, two, names[0]), (two, one, names[1])):
        yield from (f"{name}: {note}" for note in notes if note not in others)
