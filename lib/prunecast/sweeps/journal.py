"""Journals: what was measured is on disk before the work goes on, so that no kill can take it away."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prunecast.cache import Key, difference
from prunecast.errors import UserError
from prunecast.models.evaluation import Outcome
from prunecast.progress import note
from prunecast.sweeps.adaptive import Evaluate


class Journal:
    """The looks of a model's sweep in the order they were taken, a line of JSON each; the first line is a key.

    A journal with another key is begun anew. A last line cut short by a kill is dropped.
    """

    def __init__(self, path: Path, key: Key):
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

    def kept(self, curve: str, look: Evaluate) -> Evaluate:
        """The same look, answered from the journal as far as that goes, and written to it from there on.

        Which looks a sweep takes depends on the outcomes of earlier ones alone, so a resumed sweep asks again what
        the interrupted one asked.
        """
        earlier = iter([line for line in self.lines[1:] if line["curve"] == curve])

        def keeping(point: int, rows: np.ndarray) -> Outcome:
            line = next(earlier, None)
            if line is None:
                started = time.monotonic()
                line = {"curve": curve, "point": point} | _packed(look(point, rows))
                line["seconds"] = round(time.monotonic() - started, 3)
                self._append(line)
            return _unpacked(line)

        return keeping

    def _append(self, line: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path.name} of {self.path.parent.name} was not written to: {error.strerror}"
            ) from None
        self.lines.append(line)


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal but for one cut short; none where there is no journal."""
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def _packed(outcome: Outcome) -> dict[str, Any]:
    return {
        "examples": len(outcome.correct),
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


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _array(text: str, kind: type) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).copy()
