"""Choice of what to deploy: the largest safe ratio, the best configuration for each use, and its model card."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast import tables
from prunecast.errors import UserError, check_epsilon
from prunecast.loading import storage
from prunecast.models.checkpoints import TrainedModel
from prunecast.pruning.masks import MAXIMUM, SCOPES
from prunecast.selection import pareto, search
from prunecast.selection.evaluator import BATCHES, ConfigurationEvaluator
from prunecast.selection.space import Configuration
from prunecast.sweeps.adaptive import Evaluate
from prunecast.sweeps.curve_metrics import safe_sparsity, within_epsilon
from prunecast.sweeps.safe_search import search_safe
from prunecast.sweeps.sweeper import Sweeper, grid

RATIOS = np.arange(100) / 100  # among which the largest safe one is searched for
NEEDS = {"phone": "latency", "server": "throughput", "batch": "energy"}  # the cost that each use minimises
UNSEEN = "protocol == 'leave_one_architecture_out' and surrogate == 'lstm_agreement' and seed == 0"
ALGORITHM = "algorithm_1"
SHORTLISTED = 3  # configurations that are timed again for each use
TIMED_CALLS = 100  # of that timing, at each batch size
DENSE = Configuration(form="dense")
FIGURES = {  # a column of the table `selections`: its label on a model card
    "accuracy": "accuracy",
    "flops_effective": "effective operations of one inference",
    "latency_ms_median": "median latency at batch 1, ms",
    "energy_j": "energy of 1,000 inferences at batch 32, J",
}


def scan_safe_ratios(subject: TrainedModel, forecasts: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """Search for the largest safe ratio of a model by each method, in both scopes.

    Args:
        subject: The model; its weights are restored.
        forecasts: Rows of the table `predictions` for models that the surrogate was not trained on. If the model is
            among them, its forecast safe ratio is where the adaptive and the guided search start.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Rows of the table `scans`, one for each scope and method.

    Raises:
        UserError: If epsilon does not lie between 0 and 1.
    """
    check_epsilon(epsilon)
    sweeper = Sweeper(subject.model, subject.weights, subject.examples, "float32", subject.seed)
    curves = forecasts.assign(sparsity=forecasts["threshold"] / MAXIMUM, accuracy=forecasts["predicted"])
    forecast = {key: safe_sparsity(curve, epsilon) for key, curve in curves.groupby(["model", "scope"])}
    parts = []
    for scope in SCOPES:
        with sweeper.masked_evaluation("magnitude", scope, grid(len(RATIOS) + 1)[:-1]) as (evaluate_at, _, _):
            rows = search_methods(evaluate_at, len(subject.examples), epsilon, forecast.get((subject.name, scope)))
        parts.append(rows.assign(model=subject.name, scope=scope, epsilon=epsilon))
    return pd.concat(parts, ignore_index=True)


def search_methods(evaluate_at: Evaluate, examples: int, epsilon: float, forecast: float | None) -> pd.DataFrame:
    """Search for the largest safe ratio of `RATIOS` by each method, and count the evaluations.

    Args:
        evaluate_at: Outcome of some examples at a ratio, by its index in `RATIOS`.
        examples: Number of examples.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        forecast: Forecast of the largest safe ratio, a fraction. Without it the guided search is left out, and the
            adaptive one starts half-way.

    Returns:
        A row for each method, with the columns method, accuracy and ratio (fractions), feasible, and evaluations (in
        units of all examples) of the table `scans`.
    """

    @cache
    def accuracy(ratio: float) -> float:
        return evaluate_at(round(ratio * len(RATIOS)), np.arange(examples)).accuracy

    def holds(ratio: float) -> bool:
        return bool(within_epsilon(accuracy(ratio), accuracy(0.0), epsilon))

    start = len(RATIOS) // 2 if forecast is None else round(forecast * len(RATIOS))
    safe = search_safe(evaluate_at, len(RATIOS), examples, epsilon, start)
    selections = {
        ALGORITHM: pareto.algorithm_1(holds),
        "scan": pareto.algorithm_1(holds, step=float(RATIOS[1])),
        "halves": pareto.bisection(holds, RATIOS),
        "adaptive": pareto.Selection(float(RATIOS[safe.point]), safe.point > 0, safe.evaluated / examples),
    }
    if forecast is not None:
        selections["guided"] = pareto.guided_bisection(holds, forecast, RATIOS)
    rows = [
        {"method": method, "accuracy": accuracy(selection.ratio)} | vars(selection)
        for method, selection in selections.items()
    ]
    return pd.DataFrame(rows)


def shortlists(candidates: pd.DataFrame, measured: Sequence[int], epsilon: float) -> dict[str, list[int]]:
    """The configurations that come into question for each use, and the knee of the front.

    Args:
        candidates: Rows of the table `candidates` of one model.
        measured: Indices of the rows that a search measured; the dense model counts as measured anyway.
        epsilon: Loss of accuracy that is accepted for a use, as a fraction; the knee does not depend on it.

    Returns:
        Indices of at most `SHORTLISTED` rows by rule: `knee`, and each of `NEEDS` whose cost was measured, with the
        rows of least cost first.

    Raises:
        UserError: If epsilon does not lie between 0 and 1.
    """
    check_epsilon(epsilon)
    candidates = candidates.reset_index(drop=True)
    dense = int((candidates["form"] == "dense").argmax())
    rows = [dense, *(row for row in measured if row != dense)]
    costs = search.objectives(candidates).assign(throughput=candidates["latency_ratio_32"]).iloc[rows]
    accuracy = 1 - costs["error"]
    within = costs[within_epsilon(accuracy, accuracy.iloc[0], epsilon)]
    best = {need: within.nsmallest(SHORTLISTED, cost).index.tolist() for need, cost in NEEDS.items() if cost in within}
    return {"knee": [rows[pareto.knee(costs.drop(columns="throughput"))]]} | best


def deploy(
    evaluator: ConfigurationEvaluator, candidates: pd.DataFrame, searches: pd.DataFrame, epsilon: float
) -> pd.DataFrame:
    """Choose a configuration by each rule among what a guided search measured, build, time and save it.

    The search is the one of smallest seed in `searches`. Its timings are short, and the least of many short timings is
    biased: therefore the configurations of `shortlists` are timed again together with the dense model, all in one run,
    and the one of least cost is chosen. The answer of Algorithm 1 as printed, for masks in global scope, is added.

    Args:
        evaluator: Evaluator of the model; the models are saved in the folder `selected` of its subject.
        candidates: Rows of the table `candidates` of this model.
        searches: Rows of the table `searches`, of this model among others.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Rows of the table `selections`, one for each rule.

    Raises:
        UserError: If epsilon does not lie between 0 and 1.
    """
    candidates = candidates.reset_index(drop=True)
    own = searches[searches["model"] == evaluator.subject.name]
    budget, seed = int(own["evaluations"].max()), int(own["seed"].min())
    measured = search.guided_selection(candidates, evaluator.subject.task.majority_accuracy, budget, seed)
    shortlist = shortlists(candidates, measured, epsilon)
    configurations = {
        row: Configuration.model_validate(candidates.iloc[row].to_dict()) for row in set().union(*shortlist.values())
    }
    scan = pareto.algorithm_1(lambda ratio: bool(within_epsilon(-evaluator.loss(_masked(ratio)), 0, epsilon)))
    answer = _masked(scan.ratio) if scan.feasible else DENSE
    timed = list({how.name: how for how in (DENSE, answer, *configurations.values())}.values())
    costs = evaluator.costs(timed, TIMED_CALLS)
    single, batched = (costs[costs["batch"] == batch] for batch in BATCHES)
    dense, dense_batched = (part[part["form"] == "dense"].iloc[0] for part in (single, batched))
    by_name: Any = single.assign(
        latency=single["latency_ms_median"],
        energy=batched["energy_j"].to_numpy(),
        throughput=batched["latency_ms_median"].to_numpy(),
    ).set_index("configuration")
    chosen = {ALGORITHM: answer}
    for rule, listed in shortlist.items():
        own_names = {configurations[row].name: configurations[row] for row in listed}
        chosen[rule] = own_names[str(by_name.loc[list(own_names), NEEDS.get(rule, "latency")].idxmin())]
    rules = pd.DataFrame({"method": list(chosen), "configuration": [how.name for how in chosen.values()]})
    rows = (
        rules.merge(single.drop(columns="energy_j"), on="configuration")
        .merge(batched[["configuration", "energy_j"]], on="configuration")
        .rename(columns={"sparsity": "ratio"})
        .assign(
            epsilon=epsilon,
            dense_accuracy=dense["accuracy"],
            flops_ratio=lambda table: table["flops_effective"] / dense["flops_effective"],
            latency_ratio=lambda table: table["latency_ms_median"] / dense["latency_ms_median"],
            energy_ratio=lambda table: table["energy_j"] / dense_batched["energy_j"],
            feasible=lambda table: within_epsilon(table["accuracy"], dense["accuracy"], epsilon),
            evaluations=lambda table: [scan.evaluations if rule == ALGORITHM else budget for rule in table["method"]],
        )
    )
    for row in rows.to_dict("records"):
        figures = {name: row[name] for name in FIGURES}
        save(evaluator, chosen[row["method"]], figures, evaluator.subject.folder / "selected" / row["method"])
    return rows[list(tables.contracts()["selections"]["columns"])]


def _masked(ratio: float) -> Configuration:
    return Configuration(form="masked", ratio=ratio)


def save(evaluator: ConfigurationEvaluator, how: Configuration, figures: Mapping[str, float], folder: Path) -> None:
    """Save a configuration as a folder of safetensors, config, tokenizer, model card and `selection.json`.

    A sparse kernel is saved as the masked model, since safetensors store no sparse weights.

    Args:
        evaluator: Evaluator of the model.
        how: The configuration.
        figures: Its value of each of `FIGURES`, in the unit of the label; NaN where not measured.
        folder: Where it is saved.

    Raises:
        UserError: If one of the four figures is missing.
    """
    if absent := [name for name in FIGURES if name not in figures]:
        raise UserError(f"a selected model is saved with its four figures; {', '.join(absent)} is missing")
    stored = how.model_copy(update={"form": "masked"}) if how.form == "sparse_kernel" else how
    storage.save(evaluator.build(stored), evaluator.retraining.tokenizer, folder)
    rows = "\n".join(f"| {FIGURES[name]} | {formatted(value)} |" for name, value in figures.items())
    card = CARD.format(model=evaluator.subject.name, task=evaluator.subject.task.name, how=how.name, rows=rows)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "selection.json").write_text(json.dumps(how.model_dump(), indent=1) + "\n", encoding="utf-8")


def formatted(value: float) -> str:
    """A figure of a model card, with six significant digits."""
    return "not measured" if pd.isna(value) else f"{value:.6g}"


CARD = """---
library_name: transformers
pipeline_tag: text-classification
---
# {model}, pruned

Task: {task}. Configuration: {how}.

| figure | value |
|---|---|
{rows}

Load it with `prunecast.pruning.structured.load_removed`; where no heads were removed,
`AutoModelForSequenceClassification.from_pretrained` reads it as well. A configuration with sparse kernels is stored
masked; `prunecast.pruning.sparse_linear.sparse_kernel` turns it into what was timed.
"""
