"""One model end to end: trained or reused, swept or resumed, as rows of `models` and `sweeps`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from prunecast.cache import alone, file_hash, key_of
from prunecast.errors import validated
from prunecast.models import evaluation, zoo
from prunecast.models.checkpoints import TrainedModel, describe, trained_classifier
from prunecast.progress import note, track
from prunecast.pruning.criteria import CriterionName
from prunecast.sweeps import adaptive, axes
from prunecast.sweeps.journal import Journal
from prunecast.sweeps.sweeper import Engine, Sweeper, grid, worth_measuring

JOURNAL = "looks.jsonl"


class Plan(BaseModel):
    """How the models of a study are trained and swept; the fields are parameters of the page `collect_sweeps`."""

    model_config = ConfigDict(frozen=True)

    points: int = Field(ge=2)
    criteria: tuple[CriterionName, ...]
    exact: tuple[str, ...] = Field(description="models measured at every point; the others adaptively")
    precision: evaluation.Precision
    seed: int


def plan_of(**parameters: Any) -> Plan:
    """The plan with these parameters; raises UserError for one that cannot be."""
    return validated(Plan, **parameters)


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
    parts = [swept(trained_classifier(name, run, plan.seed), plan) for name in track(models, "models")]
    tables = ([getattr(part, field.name) for part in parts] for field in fields(Collected))
    return Collected(*(pd.concat(frames, ignore_index=True) for frames in tables))


def swept(subject: TrainedModel, plan: Plan) -> Collected:
    """The rows of one model, resumed where an earlier sweep was killed."""
    thresholds = grid(plan.points)
    engine: Engine = "exact" if subject.name in plan.exact else "adaptive"
    weights_hash = file_hash(subject.folder / "model.safetensors")
    settings = plan.model_dump(exclude={"exact"}) | {"engine": engine}
    stages = ["evaluation"] if engine == "exact" else ["evaluation", "adaptive"]
    key = key_of(stages, weights_hash, subject.task.fingerprint, settings)
    measured, engines = [], []
    with alone(subject.folder):
        journal = Journal(subject.folder / JOURNAL, key)
        sweeper = Sweeper(subject.model, subject.weights, subject.examples, plan.precision, subject.seed)
        for criterion, scope in worth_measuring(plan.criteria):
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


def _engine_row(measured: adaptive.MeasuredCurve) -> dict[str, Any]:
    """What the adaptive engine asked for, and how far it is from the exact one where that was used."""
    frugal = adaptive.rehearse(measured)
    error = np.abs(frugal.accuracy - measured.accuracy) if measured.outcomes else np.array([np.nan])
    return {
        "points": len(frugal.accuracy),
        "adaptive_examples": int(frugal.evaluated.sum()),
        "audited": frugal.audited,
        "audit_misses": frugal.surprises,
        "audit_error_bound": frugal.belief_error_bound(),
        "largest_error": error.max(),
        "mean_error": error.mean(),
    }
