"""Products that are kept on disk: a key for each, a lock for each folder, and one way to read or to make them."""

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock, Timeout

from prunecast import tables
from prunecast.progress import note

# Raise the version of a stage when an edit changes the numbers it gives: what an earlier version kept is then made
# anew. `tests/test_golden.py` fails where numbers move and the version stays.
VERSIONS = {
    "docstrings": 1,  # the sentences of the task `docstrings`
    "training": 3,  # a classifier: built, trained
    "language_training": 1,  # a causal language model: tokenizer, built, trained
    "evaluation": 1,  # which weights a mask leaves, and the accuracy and loss of what is left
    "adaptive": 3,  # which points and examples an adaptive sweep evaluates
    "proxies": 2,  # zero-cost proxies of a pruned model
    "finetuning": 1,  # parts removed, schedules, training after pruning
    "costs": 2,  # a configuration built and timed
    "effective_number": 2,  # what the rule keeps, and its controls
    "regimes": 1,  # networks of a grid of the three regimes: trained, pruned, trained again, compared
    "edges": 1,  # random networks over graphs, and how surrogates of their losses score
    "surrogate": 2,  # features, networks and calibration of the pretrained surrogate
}
LIBRARIES = ("torch", "transformers")  # whose minor version may change numbers
STAMP = "key.json"

Key = dict[str, Any]


def key_of(stages: Sequence[str], *inputs: object) -> Key:
    """The key of a product: versions of the `stages` and libraries that make it, and a hash of its `inputs`.

    Args:
        stages: Names in `VERSIONS`.
        inputs: Whatever else the product depends on, each with a text that says all of it.

    Returns:
        A dictionary that can be written as JSON and compared.
    """
    minor = {name: ".".join(importlib.metadata.version(name).split(".")[:2]) for name in LIBRARIES}
    digest = hashlib.sha256(json.dumps([*map(str, inputs)]).encode()).hexdigest()
    return {"stages": {stage: VERSIONS[stage] for stage in stages}, "libraries": minor, "inputs": digest}


def difference(kept: Any, key: Key) -> str:
    """Why what was kept under the key `kept` does not serve for `key`, as a clause."""
    if not isinstance(kept, dict) or set(kept) != set(key):
        return "an earlier version of Prunecast made it"
    for what, kind in (("stages", "stage "), ("libraries", "")):
        for name, version in key[what].items():
            if (before := kept[what].get(name)) != version:
                return f"version {before} of {kind}{name} made it, and the version is {version} now"
    return "its inputs or parameters have changed"


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one run at a time works on a folder; a second one waits, and then finds the work done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        note(f"{folder.name}: another run works on it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def kept_row(path: Path, key: Key, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row of figures: read from the JSON file `path` if its key is `key`, else made and written whole."""
    row = row_at(path, key)
    return keep_row(path, key, make()) if row is None else row


def row_at(path: Path, key: Key) -> dict[str, Any] | None:
    """The row of figures in the JSON file `path`; None where there is no such file or its key is another."""
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content["key"] == key:
        return dict(content["row"])
    note(f"{path.parent.parent.name}/{path.name} is made anew: {difference(content['key'], key)}")
    return None


def keep_row(path: Path, key: Key, row: dict[str, Any]) -> dict[str, Any]:
    """Write a row of figures with its key to the JSON file `path`, whole, and return it."""
    text = json.dumps({"key": key, "row": row})
    tables.write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
    return row


def kept_folder(folder: Path, key: Key, fill: Callable[[Path], Mapping[str, Any] | None], stamp: str = STAMP) -> None:
    """Leave `folder` as it is if its key is `key`, else have it filled anew; it appears whole or not at all.

    Args:
        folder: Where the product is or will be; whatever else it holds goes with an old product.
        key: The key of the product.
        fill: Writes the product into the empty folder it is given, and may return facts to be kept with the key.
        stamp: Name of the JSON file in the folder that holds the key, the seconds that filling took, and the facts.
    """
    path = folder / stamp
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept = kept.get("key") if isinstance(kept, dict) else kept
        if kept == key:
            return
        note(f"{folder.name} is made anew: {difference(kept, key)}")
    started = time.monotonic()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        new = Path(work) / folder.name
        new.mkdir()
        facts = fill(new) or {}
        content = {"key": key, "seconds": round(time.monotonic() - started, 1), **facts}
        (new / stamp).write_text(json.dumps(content), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
