"""Choosing what to deploy: the largest safe ratio, the best configuration for a need, saved with its four figures."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from prunecast import pareto, search, zoo
from prunecast.configurations import Configuration, Workshop
from prunecast.curves import safe_sparsity
from prunecast.errors import UserError
from prunecast.surrogates import recommend

FINE = 0.01  # ratios between which a search tells apart, as the sweeps do
NEEDS = {"phone": "latency", "server": "throughput", "batch": "energy"}  # what each wants least of
FIGURES = ("accuracy", "flops_effective", "latency_ms_median", "energy_j")


def scanned(sweeps: pd.DataFrame, forecasts: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """How many evaluations each way of finding the largest safe ratio takes on measured curves: rows of `scans`.

    `sweeps` holds magnitude curves on the percentile axis, `forecasts` those of models that the surrogate had not seen.
    """
    keys = ["model", "scope"]
    told = forecasts.assign(sparsity=forecasts["threshold"] / 10, accuracy=forecasts["predicted"])
    expected = {key: safe_sparsity(curve, epsilon) for key, curve in told.groupby(keys)}
    rows = []
    for key, curve in sweeps.groupby(keys):
        known = curve.set_index((curve["threshold"] / 10).round(6))["accuracy"]
        ratios = known.index[known.index < 1].to_numpy()
        ways: dict[str, Callable[[pareto.Holds], pareto.Selection]] = {
            "algorithm_1": pareto.algorithm_1,
            "scan": lambda holds: pareto.algorithm_1(holds, step=FINE),
            "halves": lambda holds, ratios=ratios: pareto.halved(holds, ratios),  # type: ignore[misc]
        }
        if key in expected:
            ways["guided"] = lambda holds, key=key, ratios=ratios: pareto.guided(holds, expected[key], ratios)  # type: ignore[misc]
        for method, way in ways.items():
            found = way(lambda ratio, known=known: known[ratio] >= known[0.0] - epsilon)  # type: ignore[misc]
            rows.append(
                dict(zip(keys, key, strict=True))
                | {"epsilon": epsilon, "method": method, "ratio": found.ratio, "accuracy": known[found.ratio]}
                | {"feasible": found.feasible, "evaluations": found.evaluations}
            )
    return pd.DataFrame(rows)


def chosen(candidates: pd.DataFrame, measured: list[int], epsilon: float) -> dict[str, int]:
    """The row that each rule takes among those `measured` of one model's candidates, by the name of the rule.

    Each need takes the least of its cost among what loses no more than epsilon; the knee asks for no epsilon.
    """
    recommend.checked(epsilon)
    part = candidates.iloc[measured]
    costs = search.objectives(part).assign(throughput=part["latency_ratio_32"])
    dense = float(candidates.loc[candidates["form"] == "dense", "accuracy"].iloc[0])
    budget = {"error": 1 - dense + epsilon + 1e-9}
    found = {"knee": pareto.knee(costs.drop(columns="throughput"))}
    for need, cost in NEEDS.items():
        if cost in costs:
            found[need] = pareto.within(costs, budget, cost)  # type: ignore[assignment]  # the dense model is within
    return {rule: measured[place] for rule, place in found.items()}


def save(workshop: Workshop, how: Configuration, figures: Mapping[str, float | str], folder: Path) -> None:
    """Write a configuration as a folder of safetensors, configuration, tokenizer and a model card with its `figures`.

    What a sparse kernel runs is saved masked, since safetensors hold no sparse weights. Raises UserError where one of
    the four figures is missing.
    """
    if absent := [name for name in FIGURES if name not in figures]:
        raise UserError(f"a selected model is saved with its four figures; {', '.join(absent)} is missing")
    stored = how.model_copy(update={"form": "masked"}) if how.form == "sparse_kernel" else how
    zoo.save(workshop.build(stored), workshop.retraining.tokenizer, folder)
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in figures.items())
    card = CARD.format(model=workshop.subject.name, task=workshop.subject.task.name, how=how.name, rows=rows)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "selection.json").write_text(json.dumps(how.model_dump(), indent=1) + "\n", encoding="utf-8")


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
