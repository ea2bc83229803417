"""One file, or one folder of images by class, as a task to evaluate on: what a user has at hand."""

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prunecast.datasets import columns, image_files
from prunecast.datasets.columns import Table
from prunecast.datasets.tasks import Split, Task, checked
from prunecast.errors import UserError

SPLIT = "split"  # the column that names the split of a row
HELD_OUT = ("validation", "valid", "val", "dev", "test")  # names of the split to evaluate on, the preferred one first
DELIMITERS = ",;\t|"


def read_data(path: Path, *, text: str = "text", pair: str = "", label: str = "label", split: str = "") -> Task:
    """Read labelled examples of a user.

    A file is CSV in UTF-8 (.csv, .tsv; commas, semicolons, tabs or bars between the columns), JSON lines or a JSON
    array (.jsonl, .ndjson, .json) or parquet (.parquet). A folder has a sub-folder of PNG or JPEG files for each
    class, all images of one size; above the classes there may be sub-folders of splits, such as train and validation.

    Labels are words, which name the classes in alphabetical order, or whole numbers from 0, also as text. A parquet
    file that the library datasets wrote also names the classes of the numbers.

    Args:
        path: The file or folder.
        text: Column of the texts.
        pair: Column of the second texts, where an example is a pair of texts.
        label: Column of the labels.
        split: Which rows of a file with a column `split`, or which folder of splits, to read; by default the
            validation split, or else the test split. A file without that column is read whole.

    Returns:
        The task; all examples are for evaluation, and there are none to train on.

    Raises:
        UserError: The path, a column or the split does not exist, the file cannot be read, a text or label is missing,
            a label is no class, all examples are of one class, or an image cannot be read or is of another size.
    """
    if path.is_dir():
        return _images(path, split)
    wanted = [text, pair, label] if pair else [text, label]
    table = _chosen(_read(path, wanted), split, wanted)
    first = columns.texts(table, text)
    inputs = list(zip(first, columns.texts(table, pair), strict=True)) if pair else first
    values = table.column(label)
    names = tuple(table.class_names.get(label, ())) or columns.label_names(columns.labels(values, table.at))
    validation = Split(inputs, columns.indices(values, names, table.at))
    return _task(path, "text", names, Split([], np.empty(0, np.int64)), validation)


def _images(folder: Path, split: str) -> Task:
    images, files = image_files.by_class(_split_folder(folder, split))
    classes = [path.parent.name for path in files]

    def at(row: int) -> str:
        return str(files[row].relative_to(folder))

    names = columns.label_names(columns.labels(classes, at))
    validation = Split(images, columns.indices(classes, names, at))
    return _task(folder, "image", names, Split(images[:0], np.empty(0, np.int64)), validation)


def _task(path: Path, kind: Any, names: tuple[str, ...], train: Split, validation: Split) -> Task:
    return checked(Task(path.resolve().name, kind, "file", names, train, validation), ("validation",))


def _split_folder(folder: Path, split: str) -> Path:
    names = [path.name for path in image_files.visible(folder) if path.is_dir()]
    if split and split not in names:
        raise UserError(f"folder {folder} has no sub-folder {split!r}: it has {columns.listed(names) or 'none'}")
    if split:
        return folder / split
    if names and set(names) <= {"train", *HELD_OUT}:
        return folder / _held_out(names, f"folder {folder}", "its sub-folders are")
    return folder


def _chosen(table: Table, split: str, wanted: Collection[str]) -> Table:
    if not table.header:
        raise UserError(f"{table.name} is empty")
    if not all(table.column(name) for name in wanted):
        raise UserError(f"{table.name} has no rows")
    if SPLIT not in table.header or SPLIT in wanted:
        if split:
            raise UserError(f"{table.name} has no column {SPLIT!r} from which to take the split {split!r}")
        return table
    values = [str(value).strip() for value in table.column(SPLIT)]
    known = list(dict.fromkeys(values))
    if split and split not in known:
        raise UserError(
            f"{table.name} has no rows of the split {split!r}: its column {SPLIT!r} has {columns.listed(known)}"
        )
    chosen = split or _held_out(known, table.name, f"its column {SPLIT!r} has")
    return table.select([row for row, value in enumerate(values) if value == chosen])


def _held_out(known: Collection[str], where: str, has: str) -> str:
    for name in HELD_OUT:
        if name in known:
            return name
    raise UserError(
        f"{where} has no validation or test split: {has} {columns.listed(list(known))}; name one as the split"
    )


def _read(path: Path, wanted: Collection[str]) -> Table:
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path.name} is none of the files that can be read, which end in {', '.join(READERS)}")
    try:
        return reader(path, {*wanted, SPLIT})
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or type(error).__name__})") from None


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"0x{error.object[error.start]:02x}"
        raise UserError(f"{path.name}, line {line}: byte {byte} is not UTF-8; save the file in UTF-8") from None


def _from_csv(path: Path, wanted: set[str]) -> Table:
    content = _decoded(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))
    first_line = re.split(r"[\r\n]", content, maxsplit=1)[0]
    candidates = {mark: _stripped(next(csv.reader([first_line], delimiter=mark), [])) for mark in DELIMITERS}
    delimiter = next((mark for mark, names in candidates.items() if wanted <= {SPLIT, *names}), ",")
    records = _records(path, content, delimiter)
    header = _stripped(next(records, (1, []))[1])
    rows, lines = [], []
    for line, fields in records:
        if len(fields) != len(header):
            raise UserError(f"{path.name}, line {line}: there are {len(fields)} fields, the header has {len(header)}")
        rows.append(fields)
        lines.append(line)
    read = {name: [row[index] for row in rows] for index, name in enumerate(header) if name in wanted}
    return Table(path.name, header, read, lambda row: f"line {lines[row]}")


def _stripped(names: list[str]) -> list[str]:
    return [name.strip() for name in names]


def _records(path: Path, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not a blank line, with the line on which it starts, counted from 1."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path.name}, line {line}: {error}; a text that holds quotes is written in quotes, with each of its own "
            "doubled"
        ) from None


def _from_json(path: Path, wanted: set[str]) -> Table:
    content = _decoded(path)
    if content.lstrip().startswith("["):
        entries, places = _parsed(path, 1, content), None
    else:
        numbered = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
        places = [number for number, _ in numbered]
        entries = [_parsed(path, number, line) for number, line in numbered]

    def place(row: int) -> str:
        return f"line {places[row]}" if places else f"entry {row + 1} (counted from 1)"

    for row, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path.name}, {place(row)}: this is no JSON object with a name for each column")
    header = list(dict.fromkeys(name for entry in entries for name in entry))
    read = {name: [entry.get(name) for entry in entries] for name in header if name in wanted}
    return Table(path.name, header, read, place)


def _parsed(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path.name}, line {line + error.lineno - 1}: this is no JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise UserError(f"{path.name}, line {line}: this JSON cannot be read ({columns.first_line(error)})") from None


def _from_parquet(path: Path, wanted: set[str]) -> Table:
    return columns.from_parquet(path, path.name, wanted)


READERS: dict[str, Callable[[Path, set[str]], Table]] = {
    ".csv": _from_csv,
    ".tsv": _from_csv,
    ".jsonl": _from_json,
    ".ndjson": _from_json,
    ".json": _from_json,
    ".parquet": _from_parquet,
}
