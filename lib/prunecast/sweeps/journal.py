"""Journals of sweeps: every outcome is written to disk before the next evaluation, so that a killed sweep resumes."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from prunecast.cache import Key, difference
from prunecast.errors import UserError
from prunecast.models.evaluation import Outcome
from prunecast.progress import note
from prunecast.sweeps.adaptive import Evaluate, Rows
from prunecast.tables import write_atomically

Scalar = TypeVar("Scalar", bound=np.generic)


class Journal:
    """The evaluations of a model's sweep in the order in which they were made, a line of JSON each, after a key.

    Attributes:
        path: File of the journal.
        lines: The parsed lines: first the key, then the evaluations.
    """

    def __init__(self, path: Path, key: Key):
        """Open or begin a journal.

        A journal with another key is emptied and begun again. A last line cut short by a kill is removed.

        Args:
            path: File of the journal.
            key: What its outcomes depend on: stage versions, weights, task and settings.

        Raises:
            UserError: If the file cannot be written to.
        """
        self.path, header = path, {"key": key}
        self.lines = whole_lines(path)
        if self.lines[:1] != [header]:
            if self.lines:
                note(f"{path.parent.name}/{path.name} is begun anew: {difference(self.lines[0].get('key'), key)}")
            path.write_bytes(b"")
            self.lines = []
            self._append(header)
        elif not (content := path.read_bytes()).endswith(b"\n"):
            with path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)

    def recorded(self, curve: str, evaluate: Evaluate) -> Evaluate:
        """The same evaluations, read from the journal as far as it reaches, and from there on made and written to it.

        Which evaluation a sweep makes next depends on its settings and on the outcomes of earlier ones alone, so a
        resumed sweep repeats the sequence of the interrupted one. From the first recorded evaluation on that was made
        at another point or on other examples, the evaluations of the curve are dropped, with a note, and made anew.

        Args:
            curve: Name of the curve that the evaluations belong to.
            evaluate: Outcome of some examples at a point; called beyond the recorded evaluations only.

        Returns:
            A function to use in place of `evaluate`; it raises UserError if the file cannot be written to.
        """
        earlier = [line for line in self.lines[1:] if line["curve"] == curve]

        def recording(point: int, rows: Rows) -> Outcome:
            what = {"curve": curve, "point": point, "examples": len(rows), "rows": _hash(rows)}
            # lines of an earlier version have no hash; those that are still read are of exact curves, of all examples
            if earlier and {name: earlier[0].get(name, what[name]) for name in what} != what:
                self._drop(earlier)
                earlier.clear()
            if earlier:
                return _unpacked(earlier.pop(0))
            started = time.monotonic()
            line = what | _packed(evaluate(point, rows))
            line["seconds"] = round(time.monotonic() - started, 3)
            self._append(line)
            return _unpacked(line)

        return recording

    def _drop(self, lines: list[dict[str, Any]]) -> None:
        curve = lines[0]["curve"]
        note(f"{self.path.parent.name}/{self.path.name}: {curve} is begun anew, since it records other evaluations")
        self.lines = [line for line in self.lines if all(line is not other for other in lines)]
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        write_atomically(self.path, lambda part: part.write_text(text, encoding="utf-8"))

    def _append(self, line: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            name = f"{self.path.name} of {self.path.parent.name}"
            raise UserError(
                f"{name} was not written to: {error.strerror}; it needs a writable disk with space"
            ) from None
        self.lines.append(line)


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The parsed lines of a journal without one cut short at the end.

    Args:
        path: File of the journal; it need not exist.

    Returns:
        The lines, first the key; none where there is no file.
    """
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def _hash(rows: Rows) -> str:
    return hashlib.sha256(rows.astype(np.int64).tobytes()).hexdigest()[:16]


def _packed(outcome: Outcome) -> dict[str, Any]:
    return {
        "correct": _text(np.packbits(outcome.correct.numpy())),
        "loss": _text(outcome.loss.numpy()),
        "margin": _text(outcome.margin.numpy()),
    }


def _unpacked(line: dict[str, Any]) -> Outcome:
    correct = np.unpackbits(_array(line["correct"], np.uint8), count=line["examples"]).astype(bool)
    return Outcome(
        torch.from_numpy(correct),
        torch.from_numpy(_array(line["loss"], np.float64)),
        torch.from_numpy(_array(line["margin"], np.float32)),
    )


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _array(text: str, kind: type[Scalar]) -> NDArray[Scalar]:
    return np.frombuffer(base64.b64decode(text), kind).copy()
