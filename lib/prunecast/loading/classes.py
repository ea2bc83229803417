"""The order of classes: that of a checkpoint matched to that of a task, or what speaks against the assumed one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from prunecast.errors import UserError

MADE_UP = re.compile(r"(label|class)?[\s_-]*\d*", re.IGNORECASE)  # as LABEL_0 of the library, or a number
GAIN = 0.1  # of accuracy, from which on another order of the classes is worth a sentence
SHOWN = 6  # classes that a sentence names


def names_of(config: Any) -> tuple[str, ...]:
    """The names that a checkpoint gives its classes, in its order.

    Args:
        config: Configuration of the model, whose `id2label` says them, or `label2id` where only that does.

    Returns:
        The names, stripped; empty where it has none but made-up ones such as LABEL_0, or two classes of one name.
    """
    by_index: Mapping[Any, Any] = getattr(config, "id2label", None) or {}
    backwards: Mapping[Any, Any] = getattr(config, "label2id", None) or {}
    inverse = {index: name for name, index in backwards.items()}
    for found in (by_index, inverse):
        names = tuple(str(found[key]).strip() for key in sorted(found, key=int))
        if names and len({_plain(name) for name in names}) == len(names) and not all(map(MADE_UP.fullmatch, names)):
            return names
    return ()


def matched(own: Sequence[str], of_task: Sequence[str], names_known: bool) -> NDArray[np.int64] | None:
    """Match the classes of a task to those of a checkpoint by their names.

    Args:
        own: Names of the checkpoint's classes, in its order; empty where it has none.
        of_task: Names of the task's classes, in the order of its labels.
        names_known: Whether the names of the task are those of its data, and not made up.

    Returns:
        For each class of the task its index in the checkpoint, which may have more; None where a name of the task has
        not its like there, ignoring case and spaces at the ends.
    """
    place = {_plain(name): index for index, name in enumerate(own)}
    wanted = [_plain(name) for name in of_task]
    if not names_known or not set(wanted) <= set(place) or len(set(wanted)) != len(wanted):
        return None
    return np.array([place[name] for name in wanted], dtype=np.int64)


def check_number(name: str, own: int, task_name: str, of_task: int) -> None:
    """Check that a checkpoint has as many classes as its task.

    Raises:
        UserError: It has another number.
    """
    if own != of_task:
        kind = "one output, as a regression has" if own == 1 else f"{own} classes"
        raise UserError(f"checkpoint {name!r} has {kind}, but task {task_name!r} has {of_task} classes")


def likely_order(predicted: NDArray[np.int64], labels: NDArray[np.int64], names: Sequence[str]) -> str:
    """Find out whether the answers of a model fit the labels better if its classes are in another order.

    Args:
        predicted: Class (n,) that the model predicts for each example, in the order of `names`.
        labels: Class (n,) of each example.
        names: Names of the classes.

    Returns:
        A sentence, where the best order raises the accuracy by at least `GAIN` and most examples of each class that it
        moves are answered so; else nothing.

    Source: The assignment of the highest sum over the confusion matrix (Kuhn, 1955, "The Hungarian method").
    """
    count = len(names)
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    classes, answers = linear_sum_assignment(confusion, maximize=True)
    present = confusion.sum(1)
    moved = [int(label) for label in classes if answers[label] != label and present[label]]
    before, after = np.trace(confusion) / len(labels), confusion[classes, answers].sum() / len(labels)
    if after < before + GAIN or any(2 * confusion[label, answers[label]] <= present[label] for label in moved):
        return ""
    pairs = ", ".join(f"{names[label]} is answered as {names[answers[label]]}" for label in moved[:SHOWN])
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return (
        f"the classes of the checkpoint seem to be in another order than those of the task: its accuracy is "
        f"{before:.3f}, and {after:.3f} if {pairs}{more}; name them in its config.json (id2label) as the task does"
    )


def listed(names: Sequence[str]) -> str:
    """Some names as a list in prose, at most `SHOWN` of them."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
