"""Tables of swept models: each trained or reused, swept or resumed, as rows of `models`, `sweeps` and `engines`."""

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
from prunecast.sweeps import adaptive, axes, search_costs
from prunecast.sweeps.journal import Journal
from prunecast.sweeps.recalibration import recalibrating
from prunecast.sweeps.sweeper import Engine, Sweeper, grid, name_of, worth_measuring

JOURNAL = "evaluations.jsonl"


class Plan(BaseModel):
    """How the models of a study are trained and swept; the fields are parameters of the page `collect_sweeps`.

    Attributes:
        points: Number of thresholds on each axis, at least 2.
        criteria: Names of the pruning criteria.
        exact: Names of the models measured at every point on all examples; the others adaptively.
        precision: Precision of the forward passes.
        seed: Seed of the training, of the random criterion and of the audit of the adaptive engine.
        recalibrate: Number of unlabelled training images over which networks with batch norms take their running
            statistics anew after each pruning; 0 for none.
    """

    model_config = ConfigDict(frozen=True)

    points: int = Field(ge=2)
    criteria: tuple[CriterionName, ...]
    exact: tuple[str, ...] = Field(description="models measured at every point; the others adaptively")
    precision: evaluation.Precision
    seed: int
    recalibrate: int = 0


def plan_of(**parameters: Any) -> Plan:
    """The plan with some parameters, validated.

    Args:
        parameters: The fields of `Plan`.

    Returns:
        The plan.

    Raises:
        UserError: If a parameter is unknown, missing or outside its range.
    """
    return validated(Plan, **parameters)


@dataclass(frozen=True)
class Collected:
    """The tables of one or more models.

    Attributes:
        models: Rows of the table `models`, one a model.
        sweeps: Rows of the table `sweeps`, one for each criterion, scope, axis and threshold.
        engines: Rows of the table `engines`, one a curve.
        safe_searches: Rows of the table `safe_searches`, replayed on each exact curve by magnitude.
    """

    models: pd.DataFrame
    sweeps: pd.DataFrame
    engines: pd.DataFrame
    safe_searches: pd.DataFrame


def collect(models: Sequence[str], run: str, plan: Plan) -> Collected:
    """Train each model or reuse its checkpoint, and sweep it or resume its sweep.

    Args:
        models: Names in the registry of models.
        run: Name of the run whose folder holds the products.
        plan: How the models are trained and swept.

    Returns:
        The tables of all models, in the order of their names.

    Raises:
        UserError: If a model or its task does not exist; nothing has been trained then.
    """
    for name in (*models, *plan.exact):
        zoo.task_of(zoo.spec_of(name))  # a wrong name or a missing task is refused before the first training
    parts = [swept(trained_classifier(name, run, plan.seed), plan) for name in track(models, "models")]
    tables = ([getattr(part, field.name) for part in parts] for field in fields(Collected))
    return Collected(*(pd.concat(frames, ignore_index=True) for frames in tables))


def swept(subject: TrainedModel, plan: Plan) -> Collected:
    """The tables of one trained model; a sweep that was interrupted is resumed from its journal.

    Args:
        subject: The model, its examples and its folder, which receives the journal.
        plan: How it is swept.

    Returns:
        Its rows of the four tables.

    Raises:
        UserError: If the journal cannot be written to.
    """
    subject, thresholds = recalibrating(subject, plan.recalibrate), grid(plan.points)
    images = subject.recalibrate_on
    engine: Engine = "exact" if subject.name in plan.exact else "adaptive"
    weights_hash = file_hash(subject.folder / "model.safetensors")
    settings = plan.model_dump(exclude={"exact", *(() if images else ("recalibrate",))}) | {"engine": engine}
    stages = ["evaluation"] if engine == "exact" else ["evaluation", "adaptive"]
    key = key_of(stages, weights_hash, subject.task.fingerprint, settings)
    measured, engines, searches = [], [], []
    with alone(subject.folder):
        journal = Journal(subject.folder / JOURNAL, key)
        sweeper = Sweeper(subject.model, subject.weights, subject.examples, plan.precision, subject.seed, images)
        for criterion, scope in worth_measuring(plan.criteria):
            name = name_of(criterion, scope)
            recorded = partial(journal.recorded, name)
            points, curve = sweeper.curve(criterion, scope, thresholds, engine, recorded)
            measured.append(points)
            which = {"criterion": criterion, "scope": scope}
            engines.append(which | _engine_row(curve, subject.seed, name))
            if curve.outcomes and criterion == "magnitude":
                searches.append(search_costs.search_costs(curve.outcomes, subject.seed).assign(**which))
    note(f"{subject.name}: swept, {len(journal.lines) - 1} evaluations")
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
        pd.DataFrame(engines).assign(**common, recalibrated=len(images) if images else 0),
        _searches(searches).assign(model=subject.name, task=subject.task.name, seed=subject.seed),
    )


def _searches(rows: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*search_costs.COLUMNS])


def _engine_row(measured: adaptive.MeasuredCurve, seed: int, name: str) -> dict[str, Any]:
    """The evaluations and the audit of the adaptive engine, and its distance from the exact one where that was used."""
    simulated = adaptive.simulate_adaptive(measured, seed, name)
    error = np.abs(simulated.accuracy - measured.accuracy) if measured.outcomes else np.array([np.nan])
    return {
        "points": len(simulated.accuracy),
        "adaptive_examples": int(simulated.evaluated.sum()),
        "audited": simulated.audited,
        "audit_misses": simulated.audit_misses,
        "audit_error_bound": simulated.audit_error_bound(),
        "largest_error": error.max(),
        "mean_error": error.mean(),
    }
