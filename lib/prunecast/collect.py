"""One model end to end: trained or reused, swept or resumed, as rows of `models` and `sweeps`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from prunecast import adaptive, axes, evaluation, paths, sweep, training, zoo
from prunecast.cache import alone, file_hash, kept_folder, key_of
from prunecast.errors import made
from prunecast.journal import Journal, whole_lines
from prunecast.progress import note, track
from prunecast.pruning import criteria, prunable
from prunecast.seeds import seed_everything
from prunecast.tasks import Task

JOURNAL = "looks.jsonl"
TRAINED = "trained.json"


class Plan(BaseModel):
    """How the models of a study are trained and swept; the fields are parameters of the page `collect_sweeps`."""

    model_config = ConfigDict(frozen=True)

    points: int = Field(ge=2)
    criteria: tuple[criteria.CriterionName, ...]
    exact: tuple[str, ...] = Field(description="models measured at every point; the others adaptively")
    precision: evaluation.Precision
    seed: int


@dataclass(frozen=True)
class Trained:
    """A trained model with what is needed to evaluate it."""

    name: str
    spec: zoo.ModelSpec
    task: Task
    model: nn.Module
    examples: evaluation.Examples
    folder: Path
    seed: int

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The prunable weights by layer."""
        return prunable.prunable_weights(self.model, self.task.classes)


def plan_of(**parameters: Any) -> Plan:
    """The plan with these parameters; raises UserError for one that cannot be."""
    return made(Plan, **parameters)


@dataclass(frozen=True)
class Collected:
    """The tables of one or more models: rows of `models`, `sweeps` and `engines`."""

    models: pd.DataFrame
    sweeps: pd.DataFrame
    engines: pd.DataFrame


def collect(models: Sequence[str], run: str, plan: Plan) -> Collected:
    """Train or reuse each model, sweep or resume it."""
    for name in (*models, *plan.exact):
        zoo.task_of(zoo.spec_of(name))  # a wrong name or a missing task is refused before the first hour is spent
    parts = [swept(trained(name, run, plan.seed), plan) for name in track(models, "models")]
    tables = ([getattr(part, field.name) for part in parts] for field in fields(Collected))
    return Collected(*(pd.concat(frames, ignore_index=True) for frames in tables))


def trained(name: str, run: str, seed: int) -> Trained:
    """Train the registry's model `name`, or reuse the checkpoint in `run` if nothing it depends on has changed."""
    spec = zoo.spec_of(name)
    task = zoo.task_of(spec)
    folder = paths.run(run) / "models" / name
    key = key_of(["training"], spec.model_dump_json(), zoo.parent_hash(spec), task.fingerprint, seed)
    with alone(folder):
        kept_folder(folder, key, lambda new: _train_into(new, name, spec, task, seed), TRAINED)
        model, tokenizer = zoo.load(folder)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    examples = evaluation.prepare(task.validation, tokenizer, spec.max_length)
    return Trained(name, spec, task, model, examples, folder, seed)


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
        "layers": len(subject.weights),
        "prunable_parameters": sum(weight.numel() for weight in subject.weights.values()),
        "dense_accuracy": dense_accuracy,
        "majority_accuracy": subject.task.majority_accuracy,
        "epochs": subject.spec.epochs,
        "batch_size": subject.spec.batch_size,
        "weight_decay": subject.spec.weight_decay,
        "train_examples": len(subject.task.train),
        "eval_examples": len(subject.task.validation),
        "seed": subject.seed,
    }


def swept(subject: Trained, plan: Plan) -> Collected:
    """The rows of one model, resumed where an earlier sweep was killed."""
    thresholds = sweep.grid(plan.points)
    engine: sweep.Engine = "exact" if subject.name in plan.exact else "adaptive"
    weights_hash = file_hash(subject.folder / "model.safetensors")
    settings = plan.model_dump(exclude={"exact"}) | {"engine": engine}
    stages = ["evaluation"] if engine == "exact" else ["evaluation", "adaptive"]
    key = key_of(stages, weights_hash, subject.task.fingerprint, settings)
    measured, engines = [], []
    with alone(subject.folder):
        journal = Journal(subject.folder / JOURNAL, key)
        sweeper = sweep.Sweeper(subject.model, subject.weights, subject.examples, plan.precision, subject.seed)
        for criterion, scope in sweep.worth_measuring(plan.criteria):
            keep = partial(journal.kept, f"{criterion}, {scope}")
            points, curve = sweeper.curve(criterion, scope, thresholds, engine, keep)
            measured.append(points)
            engines.append({"criterion": criterion, "scope": scope} | _engine_row(curve))
    note(f"{subject.name}: swept, {len(journal.lines) - 1} looks")
    read = axes.read_on_axes(subject.weights, pd.concat(measured, ignore_index=True), thresholds)
    examples = len(subject.task.validation)
    common: dict[str, Any] = {
        "model": subject.name,
        "engine": engine,
        "precision": plan.precision,
        "eval_examples": examples,
    }
    return Collected(
        pd.DataFrame([describe(subject, measured[0]["accuracy"].iloc[0])]),
        read.assign(**common, measured=read["evaluated"] == examples, task=subject.task.name, seed=subject.seed),
        pd.DataFrame(engines).assign(**common),
    )


def _engine_row(measured: adaptive.Curve) -> dict[str, Any]:
    """What the adaptive engine asked for, and how far it is from the exact one where that was used."""
    frugal = adaptive.rehearse(measured)
    error = np.abs(frugal.accuracy - measured.accuracy) if measured.outcomes else np.array([np.nan])
    return {
        "points": len(frugal.accuracy),
        "adaptive_examples": int(frugal.evaluated.sum()),
        "audited": frugal.audited,
        "surprises": frugal.surprises,
        "belief_error_bound": frugal.belief_error_bound(),
        "largest_error": error.max(),
        "mean_error": error.mean(),
    }


def record(folder: Path) -> dict[str, Any]:
    """Where a trained model comes from: sha256 of its inputs and weights, seconds of training and of its sweep."""
    kept = json.loads((folder / TRAINED).read_text(encoding="utf-8"))
    return {
        "inputs": kept["inputs"],
        "weights": file_hash(folder / "model.safetensors"),
        "train_s": kept["seconds"],
        "sweep_s": round(sum(line["seconds"] for line in whole_lines(folder / JOURNAL)[1:]), 1),
    }


def _train_into(folder: Path, name: str, spec: zoo.ModelSpec, task: Task, seed: int) -> dict[str, Any]:
    seed_everything(seed, "build", name)
    model, tokenizer = zoo.build(spec, task)
    if not spec.fine_tuned:
        training.train(model, tokenizer, task.train, spec, seed, name)
    zoo.save(model, tokenizer, folder)
    note(f"{name}: trained")
    return {"inputs": {spec.task: task.fingerprint} | zoo.parent_hash(spec)}
