"""Columns of a file of examples, checked value by value: texts, and labels as class names or class numbers."""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.errors import UserError

MOST_CLASSES = 100_000  # a larger label is an identifier, not the number of a class
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+|inf)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Table:
    """Rows of a file of examples.

    Attributes:
        name: The file, as errors name it.
        header: Names of all its columns.
        columns: Values of those columns that were read, by name.
        place: From the index of a row to where it is in the file, such as "line 3".
        class_names: Names of the classes of those columns for which the file states them.
    """

    name: str
    header: Sequence[str]
    columns: dict[str, list[Any]]
    place: Callable[[int], str]
    class_names: dict[str, list[str]] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        """The values of a column.

        Raises:
            UserError: There is no such column, or there are two.
        """
        count = list(self.header).count(name)
        if count != 1:
            has = f"has {count} columns" if count else "has no column"
            raise UserError(f"{self.name} {has} {name!r}: its columns are {listed(self.header)}")
        return self.columns[name]

    def at(self, row: int) -> str:
        """The file and the place of a row, as errors name them."""
        return f"{self.name}, {self.place(row)}"

    def select(self, chosen: Sequence[int]) -> "Table":
        """The table of the `chosen` rows alone."""
        columns = {name: [values[row] for row in chosen] for name, values in self.columns.items()}
        return replace(self, columns=columns, place=lambda row: self.place(chosen[row]))


def from_parquet(path: Path, name: str, wanted: Collection[str]) -> Table:
    """Read columns of a parquet file.

    Args:
        path: The file.
        name: How errors name it.
        wanted: The columns to read, those of them that the file has.

    Returns:
        The table; a place is a row counted from 0. Names of classes are those that the library datasets writes.

    Raises:
        UserError: The file cannot be read as parquet.
    """
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            header, stated = file.schema_arrow.names, file.schema_arrow.metadata or {}
            read = file.read(columns=[column for column in header if column in wanted])
        columns = {column: read.column(column).to_pylist() for column in read.column_names}
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise UserError(f"{name} cannot be read as parquet ({first_line(error)})") from None
    return Table(name, header, columns, row_place, _class_names(stated.get(b"huggingface", b"{}")))


def from_frame(frame: Any, name: str, wanted: Collection[str]) -> Table:
    """Read columns of a data frame of pandas.

    Args:
        frame: The data frame; its index says where its rows come from.
        name: How errors name it.
        wanted: The columns to read, those of them that it has.

    Returns:
        The table.
    """
    read = {column: frame[column].tolist() for column in frame if column in wanted}
    return Table(name, [*map(str, frame)], read, lambda row: row_place(frame.index[row]))


def from_folder(folder: Path, splits: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Table]]:
    """Read the texts of a local task.

    Args:
        folder: A folder with a parquet file for each split (columns text and label), and meta.json with the names of
            the labels under `labels`.
        splits: Names of the splits.

    Returns:
        The names of the labels, and the table of each split.

    Raises:
        UserError: A file is missing or cannot be read, or meta.json does not list names.
    """
    files = {split: folder / f"{split}.parquet" for split in splits}
    for path in (*files.values(), folder / "meta.json"):
        if not path.exists():
            raise UserError(
                f"task folder {folder.name} has no {path.name}: it needs train.parquet, validation.parquet "
                f"(columns text and label) and meta.json (label names under labels), or for images {folder.name}.npz, "
                "or labels.npz with tiles"
            )
    where = f"task folder {folder.name}"
    try:
        content = json.loads((folder / "meta.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: meta.json is no JSON in UTF-8 ({first_line(error)})") from None
    names = content.get("labels") if isinstance(content, dict) else None
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name.strip() for name in names)):
        raise UserError(f'{where}: meta.json needs the names of the labels as a list: {{"labels": ["bad", "good"]}}')
    tables = {split: from_parquet(path, f"{where}, {path.name}", ("text", "label")) for split, path in files.items()}
    return tuple(names), tables


def texts(table: Table, column: str) -> list[str]:
    """Check a column of texts.

    Args:
        table: The table.
        column: Name of the column.

    Returns:
        The texts as they are.

    Raises:
        UserError: There is no such column, or a value is missing, empty, no text, or no valid Unicode.
    """
    values = table.column(column)
    for row, value in enumerate(values):
        if _is_missing(value):
            raise UserError(f"{table.at(row)}: the text in column {column!r} is empty; drop the row or fill it")
        if isinstance(value, int | float):
            raise UserError(f"{table.at(row)}: column {column!r} holds numbers, not texts")
        if not isinstance(value, str):
            raise UserError(
                f"{table.at(row)}: column {column!r} holds values of type {type(value).__name__}, not texts"
            )
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            raise UserError(
                f"{table.at(row)}: the text in column {column!r} holds half of a surrogate pair, which is no character"
            )
    return values


def labels(values: Sequence[Any], at: Callable[[int], str], names: Collection[str] = ()) -> list[int] | list[str]:
    """Tell numbers of classes from names of classes.

    Args:
        values: Labels as they were read.
        at: From the index of a value to where it is, as errors name it.
        names: Names of the classes; texts that are all among them are names even where they have the form of numbers.

    Returns:
        Whole numbers from 0 where all values are numbers or texts of numbers, also of such as LABEL_0, the names that
        the library transformers makes up; else words without surrounding spaces.

    Raises:
        UserError: A label is missing, neither a word nor a number, or a number that is not a whole one from 0.
    """
    found = [_label(value, at, row) for row, value in enumerate(values)]
    numerals = [str(label).removeprefix("LABEL_") for label in found]
    if not all(map(_NUMBER.fullmatch, numerals)) or all(label in names for label in found):
        return [str(label) for label in found]
    numbers = [float(numeral) for numeral in numerals]
    for row, number in enumerate(numbers):
        if not (number.is_integer() and 0 <= number < MOST_CLASSES):
            raise UserError(f"{at(row)}: label {found[row]} is not the number of a class, a whole number from 0")
    return [int(number) for number in numbers]


def label_names(found: Sequence[int] | Sequence[str]) -> tuple[str, ...]:
    """Name the classes of a file that does not name them.

    Args:
        found: What `labels` returned, at least one.

    Returns:
        The words in alphabetical order, or "0", "1" and so on up to the largest number.
    """
    words = sorted({label for label in found if isinstance(label, str)})
    return tuple(words) or tuple(str(number) for number in range(1 + max(map(int, found))))


def indices(values: Sequence[Any], names: Sequence[str], at: Callable[[int], str]) -> NDArray[np.int64]:
    """Convert labels to indices of classes.

    Args:
        values: Labels as they were read: names of classes, or their numbers from 0.
        names: Name of each class.
        at: From the index of a value to where it is, as errors name it.

    Returns:
        Index (n,) in `names` of the class of each value.

    Raises:
        UserError: A label is missing, no label at all, or outside the `names`.
    """
    position = {name: index for index, name in enumerate(names)}
    found = labels(values, at, position)
    for row, label in enumerate(found):
        if isinstance(label, str) and label not in position:
            raise UserError(f"{at(row)}: label {label!r} is not among the label names {listed(names)}")
        if isinstance(label, int) and label >= len(names):
            raise UserError(f"{at(row)}: label {label} is outside 0 to {len(names) - 1}, the {len(names)} label names")
    return np.array([position[label] if isinstance(label, str) else label for label in found], np.int64)


def row_place(row: int) -> str:
    """Where a row is in a file without lines, as errors name it."""
    return f"row {row} (counted from 0)"


def listed(names: Sequence[str]) -> str:
    """Names for an error: the first ten, each cut to 40 characters."""
    short = [name if len(name) <= 40 else f"{name[:39]}…" for name in map(str, names[:10])]
    return ", ".join(short) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def first_line(error: BaseException) -> str:
    """The first line of what a library says, at most 100 characters, or the type of its error where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:100].rstrip(".:") if lines else type(error).__name__


def _is_missing(value: object) -> bool:
    return (
        value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and not value.strip())
    )


def _class_names(stated: bytes) -> dict[str, list[str]]:
    try:
        features = json.loads(stated)["info"]["features"]
        return {column: feature["names"] for column, feature in features.items() if feature["_type"] == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _label(value: Any, at: Callable[[int], str], row: int) -> int | float | str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if _is_missing(value):
        raise UserError(f"{at(row)}: the label is missing")
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return value.strip()
    raise UserError(f"{at(row)}: a label of type {type(value).__name__} is neither a word nor a whole number")
