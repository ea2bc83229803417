"""Signals and probes of the trained models of a run, measured once and kept beside each model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from prunecast import signals, tables
from prunecast.cache import alone, file_hash, kept_folder, key_of
from prunecast.collect import Trained, trained
from prunecast.progress import note, track
from prunecast.pruning.masks import SCOPES
from prunecast.sweep import grid

TABLES = ("signals", "probes")


def probed(models: Sequence[str], run: str, points: int, examples: int, seed: int) -> dict[str, pd.DataFrame]:
    """The tables `signals` and `probes` of some models of a run, at `points` thresholds, with `examples` probed."""
    found = [_kept(trained(name, run, seed), points, examples) for name in track(models, "models")]
    return {table: pd.concat([part[table] for part in found], ignore_index=True) for table in TABLES}


def measure(subject: Trained, points: int, examples: int) -> dict[str, pd.DataFrame]:
    """The rows of one trained model in both tables."""
    thresholds = grid(points)
    rows = signals.sample(subject.examples, examples, subject.seed)
    sparse = thresholds[:: signals.EVERY]
    parts, outcomes = [], []
    for scope in SCOPES:
        agrees, correct = signals.probe(subject.model, subject.weights, subject.examples, rows, scope, thresholds)
        looked = agrees[:: signals.EVERY, : signals.AGREEING].mean(1)
        parts.append(pd.DataFrame({"scope": scope, "agreement": np.interp(thresholds, sparse, looked)}))
        outcomes.append(_runs(agrees, correct, rows, thresholds).assign(scope=scope))
    free = signals.weight_signals(subject.weights, thresholds)
    curved = signals.curvature(subject.model, subject.weights, subject.examples, rows[: signals.GRADIENTS], thresholds)
    together = free.assign(curvature=curved["curvature"], agreement=pd.concat(parts)["agreement"].to_numpy())
    return {
        "signals": together.round(6).assign(model=subject.name),
        "probes": pd.concat(outcomes).assign(model=subject.name),
    }


def _runs(agrees: np.ndarray, correct: np.ndarray, rows: np.ndarray, thresholds: Sequence[float]) -> pd.DataFrame:
    """A row for each example and each threshold from which on its outcome is another one."""
    state = 2 * agrees + correct
    changed = np.vstack([np.ones((1, len(rows)), bool), state[1:] != state[:-1]])
    draw, step = np.nonzero(changed.T)
    columns = {"draw": draw, "example": rows[draw], "from_threshold": np.array(thresholds)[step]}
    return pd.DataFrame(columns | {"agrees": agrees[step, draw], "correct": correct[step, draw]})


def _kept(subject: Trained, points: int, examples: int) -> dict[str, pd.DataFrame]:
    folder = subject.folder / "signals"
    weights = file_hash(subject.folder / "model.safetensors")
    key = key_of(["evaluation", "proxies"], weights, subject.task.fingerprint, points, examples, subject.seed)

    def fill(new: Path) -> None:
        for table, frame in measure(subject, points, examples).items():
            tables.write(table, frame, new)
        note(f"{subject.name}: signals measured")

    with alone(subject.folder):
        kept_folder(folder, key, fill)
        return {table: tables.read(table, folder) for table in TABLES}
