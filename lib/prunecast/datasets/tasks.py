"""Text and image classification tasks from three sources with one interface: built in, a local folder, the hub."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from prunecast import paths
from prunecast.datasets import columns, image_files
from prunecast.errors import UserError

SPLITS = ("train", "validation")

Source = Literal["built-in", "folder", "hub", "file"]
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Split:
    """Examples of one split.

    Attributes:
        inputs: n texts or pairs of texts, or images (n, height, width, channels) with values from 0 to 255.
        labels: Index (n,) of the class of each example.
    """

    inputs: Sequence[str] | Sequence[tuple[str, str]] | NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> NDArray[np.uint8]:
        """The inputs (n, height, width, channels) of a split of images."""
        assert isinstance(self.inputs, np.ndarray), "only a split of images has images"
        return self.inputs

    def first(self, count: int | None) -> "Split":
        """Cut the split.

        Args:
            count: Number of examples; None for all.

        Returns:
            The first `count` examples, or all where there are fewer.
        """
        return self if count is None else Split(self.inputs[:count], self.labels[:count])

    def sample(self, count: int, seed: int) -> "Split":
        """Draw examples at random, each at most once.

        Args:
            count: Number of examples.
            seed: Seed of the draw.

        Returns:
            `count` examples in their order in the split, or all where there are fewer.
        """
        if len(self) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False))
        inputs: Any = self.inputs[rows] if isinstance(self.inputs, np.ndarray) else [self.inputs[row] for row in rows]
        return Split(inputs, self.labels[rows])


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: Name by which it is loaded.
        kind: What the inputs are.
        source: Where the data came from.
        label_names: Name of each class, in the order of the labels; "0", "1" and so on where the data name none.
        train: Examples to train on; none in a task that was read from a user's file.
        validation: Examples to evaluate on.
    """

    name: str
    kind: Literal["text", "image"]
    source: Source
    label_names: tuple[str, ...]
    train: Split
    validation: Split

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.label_names)

    @property
    def names_known(self) -> bool:
        """Whether the label names are names, and not the numbers of the classes written as text."""
        return self.label_names != tuple(str(number) for number in range(self.classes))

    @cached_property
    def majority_accuracy(self) -> float:
        """Accuracy, as a fraction, of always predicting the most frequent class of the validation split."""
        return float(np.bincount(self.validation.labels).max() / len(self.validation))

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the kind, the label names, and all inputs and labels of both splits."""
        digest = hashlib.sha256(json.dumps([self.kind, self.label_names]).encode())
        for split in (self.train, self.validation):
            content = (
                split.inputs.tobytes()
                if isinstance(split.inputs, np.ndarray)
                else json.dumps(list(split.inputs)).encode()
            )
            digest.update(content + split.labels.tobytes())
        return digest.hexdigest()


@cache
def load_task(name: str) -> Task:
    """Load a task from the first source that has it: built in, then the folder `PRUNECAST_DATA`, then the hub.

    Args:
        name: Name of the task.

    Returns:
        The task; a second call with the same name returns the same object.

    Raises:
        UserError: No source has a task of that name, a file is missing or damaged, a split is missing or has no
            examples or one class alone, a text is empty, a label is missing or outside the label names, or the hub
            cannot be reached.
    """
    if name in BUILT_IN:
        return checked(BUILT_IN[name]())
    folder = paths.task_folder()
    if folder and (folder / name).is_dir():
        return checked(_from_folder(folder / name))
    if name in (known := hub_tasks()):
        return checked(from_hub(name, known[name]))
    local = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder and folder.is_dir() else []
    raise UserError(
        f"there is no task {name!r}: built in are {', '.join(BUILT_IN)}; PRUNECAST_DATA "
        f"{'holds ' + ', '.join(local) if local else 'names no folder of tasks'}; "
        f"the hub has {', '.join(known)}"
    )


def hub_tasks() -> dict[str, dict[str, str]]:
    """Read `data/tasks.yml`.

    Returns:
        By task name: its path on the hub, and the names that its columns and splits have there.
    """
    entries: dict[str, dict[str, str]] = yaml.safe_load((paths.DATA / "tasks.yml").read_text(encoding="utf-8"))
    return entries


def from_hub(name: str, entry: dict[str, str]) -> Task:
    """Download a task through `datasets`, or through torchvision where the entry names one of its datasets.

    Args:
        name: Name that the task gets.
        entry: Its entry of `data/tasks.yml`.

    Returns:
        The task, its examples in a fixed random order where they come through `datasets`.

    Raises:
        UserError: The hub cannot be reached, a split or the texts are missing there, or labels are no whole numbers.
    """
    if "torchvision" in entry:
        cache_folder = paths.run(".cache") / "torchvision"
        images = _downloaded(name, lambda: image_files.from_torchvision(entry["torchvision"], cache_folder))
        return _image_task(name, "hub", images)
    import datasets

    splits = {split: entry.get(split, split) for split in SPLITS}
    source: Any = _downloaded(
        name,
        lambda: datasets.load_dataset(entry["path"], entry.get("config"), revision=entry.get("revision")),
    )
    missing = [split for split in splits.values() if split not in source]
    if missing:
        raise UserError(f"task {name!r} on the hub has no split {missing[0]!r}: it has {', '.join(source)}")
    text, label = entry.get("text", "text"), entry.get("label", "label")
    tables = {}
    for split, there in splits.items():
        # Shuffled, because some splits are sorted by class, and a study may use the first examples alone.
        frame = source[there].to_pandas().sample(frac=1, random_state=0)
        tables[split] = columns.from_frame(frame, f"task {name!r}, split {there}", (text, label))
    values = tables["train"].column(label)
    names = getattr(source[splits["train"]].features[label], "names", None)
    names = names or columns.label_names(columns.labels(values, tables["train"].at))
    return _text_task(name, "hub", tuple(names), tables, text, label)


def _downloaded(name: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"task {name!r} is not in PRUNECAST_DATA and the hub could not serve it "
            f"({type(error).__name__}): connect to the network, or put the task into a local folder"
        ) from None


def _docstrings() -> Task:
    from prunecast.datasets import docstrings  # here, because it imports pandas

    frame = docstrings.sentences().sample(frac=1, random_state=0)
    held_out = frame.groupby("label").head(64)
    frames = {"train": frame.drop(held_out.index), "validation": held_out}
    tables = {k: columns.from_frame(f, f"task 'docstrings', split {k}", ("text", "label")) for k, f in frames.items()}
    return _text_task("docstrings", "built-in", docstrings.PACKAGES, tables)


def _digits() -> Task:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    train, held_out, train_labels, held_out_labels = train_test_split(
        images, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    arrays = image_files.Images(train, train_labels, held_out, held_out_labels, tuple("0123456789"))
    return _image_task("digits", "built-in", arrays)


BUILT_IN = {"docstrings": _docstrings, "digits": _digits}


def _from_folder(folder: Path) -> Task:
    if images := image_files.from_folder(folder):
        return _image_task(folder.name, "folder", images)
    names, tables = columns.from_folder(folder, SPLITS)
    return _text_task(folder.name, "folder", names, tables)


def _text_task(
    name: str,
    source: Source,
    label_names: tuple[str, ...],
    tables: dict[str, columns.Table],
    text: str = "text",
    label: str = "label",
) -> Task:
    train, validation = (
        Split(columns.texts(table, text), columns.indices(table.column(label), label_names, table.at))
        for table in (tables[split] for split in SPLITS)
    )
    return Task(name, "text", source, label_names, train, validation)


def _image_task(name: str, source: Source, images: image_files.Images) -> Task:
    train = Split(images.train, images.train_labels)
    validation = Split(images.held_out, images.held_out_labels)
    return Task(name, "image", source, images.label_names, train, validation)


def checked(task: Task, splits: Sequence[str] = SPLITS) -> Task:
    """Check what holds for every task.

    Args:
        task: The task.
        splits: Names of the splits that must have examples.

    Returns:
        The task.

    Raises:
        UserError: Two classes have one name, or a split has no examples or one class alone.
    """
    if twice := [name for name, count in Counter(task.label_names).items() if count > 1]:
        raise UserError(f"task {task.name!r}: the label name {twice[0]!r} occurs twice")
    for name in splits:
        split: Split = getattr(task, name)
        if not len(split):
            raise UserError(f"task {task.name!r}, split {name}: there are no examples")
        if len(present := np.unique(split.labels)) == 1:
            raise UserError(
                f"task {task.name!r}, split {name}: all {len(split)} examples are of the class "
                f"{task.label_names[present[0]]!r}; at least two classes are needed"
            )
    return task
