"""Choosing what to deploy: the largest safe ratio, the best configuration for a need, saved with its four figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast import pareto, search, tables, zoo
from prunecast.configurations import BATCHES, Configuration, Workshop
from prunecast.curves import safe_sparsity
from prunecast.errors import UserError
from prunecast.surrogates import recommend

ROUNDING = 1e-9  # accuracies that differ by less are the same
COARSE = [place / 10 for place in range(11)]  # what Algorithm 1 as printed may ask for
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


def scanned(sweeps: pd.DataFrame, forecasts: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """How many evaluations each way of finding the largest safe ratio takes on measured curves: rows of `scans`.

    `sweeps` holds magnitude curves on the percentile axis, `forecasts` those of models that the surrogate had not seen.
    """
    keys = ["model", "scope"]
    told = forecasts.assign(sparsity=forecasts["threshold"] / 10, accuracy=forecasts["predicted"])
    expected = {key: safe_sparsity(curve, epsilon) for key, curve in told.groupby(keys)}
    rows = []
    for key, curve in sweeps.groupby(keys):
        known = curve.set_index((curve["threshold"] / 10).round(6))["accuracy"].sort_index()
        steps = np.round(np.arange(len(known)) * known.index[1], 6)
        if not set(COARSE) <= set(known.index) or not np.array_equal(steps, known.index):
            raise UserError(f"the curve of {key[0]} was not measured at every tenth; take 11, 21, 51 or 101 points")
        for method, found in _searched(known, expected.get(key), epsilon).items():
            rows.append(
                dict(zip(keys, key, strict=True))
                | {"epsilon": epsilon, "method": method, "ratio": found.ratio, "accuracy": known[found.ratio]}
                | {"feasible": found.feasible, "evaluations": found.evaluations}
            )
    return pd.DataFrame(rows)


def _searched(known: pd.Series, expected: float | None, epsilon: float) -> dict[str, pareto.Selection]:
    """What each way finds on a curve, accuracy by ratio; the guided one only where a ratio is `expected`."""
    ratios = known.index[known.index < 1].to_numpy()

    def holds(ratio: float) -> bool:
        return bool(known[ratio] >= known[0.0] - epsilon)

    found = {
        "algorithm_1": pareto.algorithm_1(holds),
        "scan": pareto.algorithm_1(holds, step=round(float(ratios[1]), 6)),
        "halves": pareto.halved(holds, ratios),
    }
    return found if expected is None else found | {"guided": pareto.guided(holds, expected, ratios)}


def finalists(candidates: pd.DataFrame, measured: Sequence[int], epsilon: float) -> dict[str, list[int]]:
    """The rows that each rule would take among those `measured` of one model's candidates, the best first.

    Each need takes the least of its cost among what loses no more than epsilon; the knee asks for no epsilon.
    """
    recommend.checked(epsilon)
    candidates = candidates.reset_index(drop=True)
    dense = int((candidates["form"] == "dense").argmax())
    rows = [dense, *(row for row in measured if row != dense)]  # the dense model is known, and within any epsilon
    costs = search.objectives(candidates).assign(throughput=candidates["latency_ratio_32"]).iloc[rows]
    within = costs[costs["error"] <= costs["error"].iloc[0] + epsilon + ROUNDING]
    best = {need: within.nsmallest(FINALISTS, cost).index.tolist() for need, cost in NEEDS.items() if cost in within}
    return {"knee": [rows[pareto.knee(costs.drop(columns="throughput"))]]} | best


def deployed(workshop: Workshop, candidates: pd.DataFrame, searches: pd.DataFrame, epsilon: float) -> pd.DataFrame:
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


def save(workshop: Workshop, how: Configuration, figures: Mapping[str, float], folder: Path) -> None:
    """Write a configuration as a folder of safetensors, configuration, tokenizer and a model card with its `figures`.

    What a sparse kernel runs is saved masked, since safetensors hold no sparse weights. Raises UserError where one of
    the four figures is missing.
    """
    if absent := [name for name in FIGURES if name not in figures]:
        raise UserError(f"a selected model is saved with its four figures; {', '.join(absent)} is missing")
    stored = how.model_copy(update={"form": "masked"}) if how.form == "sparse_kernel" else how
    zoo.save(workshop.build(stored), workshop.retraining.tokenizer, folder)
    rows = "\n".join(f"| {FIGURES[name]} | {told(value)} |" for name, value in figures.items())
    card = CARD.format(model=workshop.subject.name, task=workshop.subject.task.name, how=how.name, rows=rows)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "selection.json").write_text(json.dumps(how.model_dump(), indent=1) + "\n", encoding="utf-8")


def told(value: float) -> str:
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
masked; `prunecast.pruning.kernels.sparse_kernel` turns it into what was timed.
"""
