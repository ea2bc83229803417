"""Choosing what to deploy: the largest safe ratio, the best configuration for a need, saved with its four figures."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast import tables
from prunecast.errors import UserError
from prunecast.models import zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.pruning.masks import MAXIMUM, SCOPES
from prunecast.selection import pareto, search
from prunecast.selection.evaluator import BATCHES, ConfigurationEvaluator
from prunecast.selection.space import Configuration
from prunecast.sweeps import curve_metrics
from prunecast.sweeps.adaptive import Evaluate, last_safe
from prunecast.sweeps.curve_metrics import ROUNDING, safe_sparsity
from prunecast.sweeps.sweeper import Sweeper, grid

RATIOS = np.arange(100) / 100  # among which the largest safe one is looked for
NEEDS = {"phone": "latency", "server": "throughput", "batch": "energy"}  # what each wants least of
UNSEEN = "protocol == 'leave_one_architecture_out' and surrogate == 'lstm_agreement' and seed == 0"
ALGORITHM = "algorithm_1"
FINALISTS = 3  # configurations that are timed again for each need
TIMED = 100  # calls of that timing, at each batch size
DENSE = Configuration(form="dense")
FIGURES = {  # and what each is called on a model card
    "accuracy": "accuracy",
    "flops_effective": "effective operations of one inference",
    "latency_ms_median": "median latency at batch 1, ms",
    "energy_j": "energy of 1,000 inferences at batch 32, J",
}


def scanned(subject: TrainedModel, forecasts: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """What it takes to find the largest safe ratio of a model in each way, measured: rows of `scans`.

    `forecasts` are curves of models that the surrogate had not seen; a search begins there if this one is among them.
    """
    curve_metrics.check_epsilon(epsilon)
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", subject.seed)
    told = forecasts.assign(sparsity=forecasts["threshold"] / MAXIMUM, accuracy=forecasts["predicted"])
    expected = {key: safe_sparsity(curve, epsilon) for key, curve in told.groupby(["model", "scope"])}
    parts = []
    for scope in SCOPES:
        with sweeper.looking("magnitude", scope, grid(len(RATIOS) + 1)[:-1]) as (look, _, _):
            found = search_methods(look, len(subject.examples), epsilon, expected.get((subject.name, scope)))
        parts.append(found.assign(model=subject.name, scope=scope, epsilon=epsilon))
    return pd.concat(parts, ignore_index=True)


def search_methods(look: Evaluate, examples: int, epsilon: float, expected: float | None) -> pd.DataFrame:
    """What each way finds for the largest of `RATIOS` that is safe: a row each, by method, as in the table `scans`.

    `look` is as in `prunecast.sweeps.adaptive`, a point being a place in `RATIOS`. `expected` is a forecast ratio: the
    guided way needs one, the adaptive one begins there, or half-way without.
    """

    @cache
    def accuracy(ratio: float) -> float:
        return look(round(ratio * len(RATIOS)), np.arange(examples)).accuracy

    def holds(ratio: float) -> bool:
        return accuracy(ratio) >= accuracy(0.0) - epsilon - ROUNDING

    start = len(RATIOS) // 2 if expected is None else round(expected * len(RATIOS))
    safe = last_safe(look, len(RATIOS), examples, epsilon, start)
    found = {
        ALGORITHM: pareto.algorithm_1(holds),
        "scan": pareto.algorithm_1(holds, step=float(RATIOS[1])),
        "halves": pareto.halved(holds, RATIOS),
        "adaptive": pareto.Selection(float(RATIOS[safe.point]), safe.point > 0, safe.evaluated / examples),
    }
    if expected is not None:
        found["guided"] = pareto.guided(holds, expected, RATIOS)
    rows = [{"method": way, "accuracy": accuracy(chosen.ratio)} | vars(chosen) for way, chosen in found.items()]
    return pd.DataFrame(rows)


def finalists(candidates: pd.DataFrame, measured: Sequence[int], epsilon: float) -> dict[str, list[int]]:
    """The rows that each rule would take among those `measured` of one model's candidates, the best first.

    Each need takes the least of its cost among what loses no more than epsilon; the knee asks for no epsilon.
    """
    curve_metrics.check_epsilon(epsilon)
    candidates = candidates.reset_index(drop=True)
    dense = int((candidates["form"] == "dense").argmax())
    rows = [dense, *(row for row in measured if row != dense)]  # the dense model is known, and within any epsilon
    costs = search.objectives(candidates).assign(throughput=candidates["latency_ratio_32"]).iloc[rows]
    within = costs[costs["error"] <= costs["error"].iloc[0] + epsilon + ROUNDING]
    best = {need: within.nsmallest(FINALISTS, cost).index.tolist() for need, cost in NEEDS.items() if cost in within}
    return {"knee": [rows[pareto.knee(costs.drop(columns="throughput"))]]} | best


def deployed(
    workshop: ConfigurationEvaluator, candidates: pd.DataFrame, searches: pd.DataFrame, epsilon: float
) -> pd.DataFrame:
    """What each rule chooses from what a guided search measured, built, timed and saved: rows of `selections`.

    The search is that of the first seed in `searches`. A search times briefly, and the least of many brief timings is
    lucky: so the best few for each need are timed again beside the dense model, all in one run, and the least is taken.
    Beside them stands what Algorithm 1 as printed answers, by masks in global scope.
    """
    candidates = candidates.reset_index(drop=True)
    told = searches[searches["model"] == workshop.subject.name]
    budget, seed = int(told["evaluations"].max()), int(told["seed"].min())
    measured = search.found(candidates, workshop.subject.task.majority_accuracy, budget, seed)
    running = finalists(candidates, measured, epsilon)
    forms = {
        row: Configuration.model_validate(candidates.iloc[row].to_dict()) for row in set().union(*running.values())
    }
    scan = pareto.algorithm_1(lambda ratio: workshop.loss(_masked(ratio)) <= epsilon + ROUNDING)
    answer = _masked(scan.ratio) if scan.feasible else DENSE
    costs = workshop.costs(list({how.name: how for how in (DENSE, answer, *forms.values())}.values()), TIMED)
    one, many = (costs[costs["batch"] == batch] for batch in BATCHES)
    dense, dense_many = (part[part["form"] == "dense"].iloc[0] for part in (one, many))
    timed = one.assign(latency=one["latency_ms_median"], energy=many["energy_j"].to_numpy())
    spent: Any = timed.assign(throughput=many["latency_ms_median"].to_numpy()).set_index("configuration")
    picked = {ALGORITHM: answer}
    for rule, places in running.items():
        by_name = {forms[row].name: forms[row] for row in places}
        picked[rule] = by_name[str(spent.loc[list(by_name), NEEDS.get(rule, "latency")].idxmin())]
    rules = pd.DataFrame({"method": list(picked), "configuration": [how.name for how in picked.values()]})
    rows = (
        rules.merge(one.drop(columns="energy_j"), on="configuration")
        .merge(many[["configuration", "energy_j"]], on="configuration")
        .rename(columns={"sparsity": "ratio"})
        .assign(
            epsilon=epsilon,
            dense_accuracy=dense["accuracy"],
            flops_ratio=lambda table: table["flops_effective"] / dense["flops_effective"],
            latency_ratio=lambda table: table["latency_ms_median"] / dense["latency_ms_median"],
            energy_ratio=lambda table: table["energy_j"] / dense_many["energy_j"],
            feasible=lambda table: table["accuracy"] >= dense["accuracy"] - epsilon - ROUNDING,
            evaluations=lambda table: [scan.evaluations if rule == ALGORITHM else budget for rule in table["method"]],
        )
    )
    for row in rows.to_dict("records"):
        figures = {name: row[name] for name in FIGURES}
        save(workshop, picked[row["method"]], figures, workshop.subject.folder / "selected" / row["method"])
    return rows[list(tables.contracts()["selections"]["columns"])]


def _masked(ratio: float) -> Configuration:
    return Configuration(form="masked", ratio=ratio)


def save(workshop: ConfigurationEvaluator, how: Configuration, figures: Mapping[str, float], folder: Path) -> None:
    """Write a configuration as a folder of safetensors, configuration, tokenizer and a model card with its `figures`.

    What a sparse kernel runs is saved masked, since safetensors hold no sparse weights. Raises UserError where one of
    the four figures is missing.
    """
    if absent := [name for name in FIGURES if name not in figures]:
        raise UserError(f"a selected model is saved with its four figures; {', '.join(absent)} is missing")
    stored = how.model_copy(update={"form": "masked"}) if how.form == "sparse_kernel" else how
    zoo.save(workshop.build(stored), workshop.retraining.tokenizer, folder)
    rows = "\n".join(f"| {FIGURES[name]} | {formatted(value)} |" for name, value in figures.items())
    card = CARD.format(model=workshop.subject.name, task=workshop.subject.task.name, how=how.name, rows=rows)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "selection.json").write_text(json.dumps(how.model_dump(), indent=1) + "\n", encoding="utf-8")


def formatted(value: float) -> str:
    """A figure of a model card."""
    return "not measured" if pd.isna(value) else f"{value:.6g}"


CARD = """---
library_name: transformers
pipeline_tag: text-classification
---
# {model}, pruned

Task: {task}. What was done: {how}.

| figure | value |
|---|---|
{rows}

Load it with `prunecast.pruning.structured.load_removed`; where no heads were removed,
`AutoModelForSequenceClassification.from_pretrained` reads it as well. A configuration with sparse kernels is stored
masked; `prunecast.pruning.sparse_linear.sparse_kernel` turns it into what was timed.
"""
