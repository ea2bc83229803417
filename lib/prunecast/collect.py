"""One model end to end: trained or reused, swept or resumed, as rows of `models` and `sweeps`."""

import ast
import hashlib
import inspect
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pandas as pd
import torch
from torch import nn

from prunecast import evaluation, paths, sweep, tables, training, vision, zoo
from prunecast.progress import note, track
from prunecast.pruning import criteria, masks
from prunecast.seeds import seed_everything
from prunecast.tasks import Task

TRAINED_BY = (zoo, training, vision)
SWEPT_BY = (sweep, evaluation, criteria, masks)


@dataclass(frozen=True)
class Trained:
    """A trained model with what is needed to evaluate it."""

    name: str
    spec: zoo.ModelSpec
    task: Task
    model: nn.Module
    batches: list[evaluation.Batch]
    folder: Path
    seed: int

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The prunable weights by layer."""
        return zoo.prunable_weights(self.model)


def collect(models: Sequence[str], run: str, points: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train or reuse each model, sweep or resume it, and return the tables `models` and `sweeps`."""
    for name in models:
        zoo.task_of(zoo.spec_of(name))  # a wrong name or a missing task is refused before the first hour is spent
    rows, curves = [], []
    for name in track(models, "models"):
        subject = trained(name, run, seed)
        curves.append(swept(subject, points))
        rows.append(describe(subject, curves[-1]["accuracy"].iloc[0]))
    return pd.DataFrame(rows), pd.concat(curves, ignore_index=True)


def trained(name: str, run: str, seed: int) -> Trained:
    """Train the registry's model `name`, or reuse the checkpoint in `run` if nothing it depends on has changed."""
    spec = zoo.spec_of(name)
    task = zoo.task_of(spec)
    folder = paths.run(run) / "models" / name
    key = _key(TRAINED_BY, spec.model_dump_json(), zoo.parent_hash(spec), task.fingerprint, seed)
    if _trained_key(folder / "trained.json") != key:
        _train_into(folder, key, name, spec, task, seed)
    model, tokenizer = zoo.load(folder)
    batches = evaluation.prepare(task.validation, tokenizer, spec.max_length)
    return Trained(name, spec, task, model, batches, folder, seed)


def describe(subject: Trained, dense_accuracy: float) -> dict[str, Any]:
    """The row of `models` for a trained model."""
    config = getattr(subject.model, "config", None)
    return {
        "model": subject.name,
        "architecture": config.model_type if config else subject.spec.architecture,
        "parent": subject.spec.checkpoint or None,
        "initialisation": subject.spec.initialisation,
        "task": subject.task.name,
        "door": subject.task.door,
        "classes": subject.task.classes,
        "parameters": sum(weight.numel() for weight in subject.model.parameters()),
        "prunable_parameters": sum(weight.numel() for weight in subject.weights.values()),
        "dense_accuracy": dense_accuracy,
        "majority_accuracy": subject.task.majority_accuracy,
        "train_examples": len(subject.task.train),
        "eval_examples": len(subject.task.validation),
        "seed": subject.seed,
    }


def swept(subject: Trained, points: int) -> pd.DataFrame:
    """The rows of `sweeps` for one model at `points` thresholds an axis, resumed where an earlier sweep was killed."""
    thresholds = sweep.grid(points)
    key = _key(SWEPT_BY, _file_hash(subject.folder / "model.safetensors"), subject.task.fingerprint, points)
    curve = pd.DataFrame(_resumed(subject, thresholds, key))
    rows = sweep.read_on_axes(subject.model, curve, thresholds)
    return rows.assign(
        model=subject.name,
        task=subject.task.name,
        criterion="magnitude",
        eval_examples=len(subject.task.validation),
        seed=subject.seed,
    )


def record(run: str, name: str) -> dict[str, Any]:
    """Where a model of a run comes from: sha256 of its inputs and weights, seconds of training and of measuring."""
    folder = paths.run(run) / "models" / name
    kept = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
    return {
        "inputs": kept["inputs"],
        "weights": _file_hash(folder / "model.safetensors"),
        "train_s": kept["seconds"],
        "sweep_s": round(sum(point["seconds"] for point in _lines(folder / "curve.jsonl")[1:]), 1),
    }


def _resumed(subject: Trained, thresholds: list[float], key: str) -> list[sweep.Point]:
    """All points of a sweep; those already in the journal are taken from there, the others go into it."""
    journal = subject.folder / "curve.jsonl"
    lines = _lines(journal)
    known = lines[1:] if lines and lines[0] == {"key": key} else []
    header = "".join(json.dumps(line) + "\n" for line in [{"key": key}, *known])
    tables.write_atomically(journal, lambda part: part.write_text(header, encoding="utf-8"))
    points, started = [], time.monotonic()
    with journal.open("a", encoding="utf-8") as file:
        for point in sweep.measure(subject.model, subject.batches, thresholds, known):
            if "seconds" not in point:
                point["seconds"] = round(time.monotonic() - started, 3)
                file.write(json.dumps(point) + "\n")
                file.flush()
            points.append(point)
            started = time.monotonic()
    note(f"{subject.name}: swept, {len(points)} points, {len(known)} of them from an earlier run")
    return points


def _lines(journal: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; a last line cut short by a kill is left out."""
    if not journal.exists():
        return []
    whole = journal.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in whole]


def _train_into(folder: Path, key: str, name: str, spec: zoo.ModelSpec, task: Task, seed: int) -> None:
    started = time.monotonic()
    seed_everything(seed, "build", name)
    model, tokenizer = zoo.build(spec, task)
    training.train(model, tokenizer, task.train, spec, seed, name)
    took = round(time.monotonic() - started, 1)
    kept = {"key": key, "seconds": took, "inputs": {spec.task: task.fingerprint} | zoo.parent_hash(spec)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as work:  # a checkpoint appears whole or not at all
        zoo.save(model, tokenizer, Path(work) / name)
        (Path(work) / name / "trained.json").write_text(json.dumps(kept), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(work) / name).rename(folder)
    note(f"{name}: trained in {took} s")


def _trained_key(path: Path) -> str | None:
    return json.loads(path.read_text(encoding="utf-8"))["key"] if path.exists() else None


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _key(rooms: tuple[ModuleType, ...], *inputs: object) -> str:
    """sha256 of the inputs and of the code that turns them into a product; comments and layout do not count."""
    code = [ast.dump(ast.parse(inspect.getsource(room))) for room in rooms]
    return hashlib.sha256(json.dumps([*code, *map(str, inputs)]).encode()).hexdigest()
