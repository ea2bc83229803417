import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import apart
from prunecast import tables
from prunecast.cost import energy, profile
from prunecast.errors import UserError
from prunecast.models import evaluation
from prunecast.models.prunable import prunable_weights
from prunecast.pruning.finetuning import Budget
from prunecast.pruning.sparse_linear import SparseLinear, sparse_kernel
from prunecast.pruning.structured import load_removed
from prunecast.selection import deployment, evaluator, pareto, search
from prunecast.selection.evaluator import ConfigurationEvaluator
from prunecast.selection.space import Configuration, Space
from prunecast.sweeps import sweeper

BUDGET = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
SPACE = Space(ratios=(0.9,), shares=(0.0, 0.5), layers=(0,), trained_ratios=(0.6,))
EVALUATIONS, SEED, EPSILON = 12, 3, 0.05
SHORT_S = 0.02  # of each window of energy
EXAMPLES = 1000
FIGURES = {"accuracy": 0.9, "flops_effective": 10, "latency_ms_median": 1.5, "energy_j": 2.5}
SPARSE = Configuration(form="sparse_kernel", ratio=0.9)


def _look(safe):
    """A hundred examples of small margins fail past the ratio `safe`, others later, the more the further."""
    ratios = deployment.RATIOS[:, None]
    breaks = np.concatenate([np.full(100, safe), np.linspace(safe + 0.005, 2, EXAMPLES - 100)])
    margins = breaks - ratios + 1e-6

    def look(point, rows):
        margin = torch.from_numpy(margins[point, rows])
        return evaluation.Outcome(margin > 0, margin.neg().exp(), margin)

    return look


def _found(safe, forecast, epsilon=0.02):
    return deployment.search_methods(_look(safe), EXAMPLES, epsilon, forecast).set_index("method")


@pytest.mark.parametrize("forecast", [0.0, 0.62, 1.0])
@pytest.mark.parametrize("safe", [0.07, 0.3, 0.62, 0.99])
def test_all_ways_but_the_coarse_one_find_the_safe_ratio_of_a_falling_curve(safe, forecast):
    found = _found(safe, forecast)
    assert found.loc[["scan", "halves", "guided", "adaptive"], "ratio"].to_list() == [safe] * 4
    assert found.loc["algorithm_1", "ratio"] == pytest.approx(math.floor(10 * safe + 1e-9) / 10)
    assert found["feasible"].to_list() == [method != "algorithm_1" or safe > 0.1 for method in found.index]
    assert set(found["accuracy"]) == {1.0}


@pytest.mark.parametrize(
    ("safe", "coarse", "fine"), [(0.07, 3, 24), (0.3, 2, 2), (0.62, 5, 34), (0.99, 7, 70), (0.0, 3, 30)]
)
def test_every_pruned_model_that_is_looked_at_is_counted(safe, coarse, fine):
    counts = _found(safe, safe)["evaluations"]
    assert counts[["algorithm_1", "scan"]].to_list() == [coarse, fine]
    assert counts["guided"] <= counts["halves"] <= math.ceil(math.log2(len(deployment.RATIOS))) + len(pareto.BELOW)
    assert counts["guided"] <= 4 + len(pareto.BELOW)
    assert counts["adaptive"] <= 5


def test_where_no_pruning_holds_every_way_answers_with_the_dense_model():
    found = _found(safe=0.0, forecast=0.5)
    assert set(found["ratio"]) == {0.0}
    assert set(found["accuracy"]) == {1.0}
    assert not found["feasible"].any()


def test_a_larger_epsilon_allows_a_larger_ratio():
    assert (_found(0.5, 0.5, epsilon=0.2)["ratio"] > _found(0.5, 0.5)["ratio"]).all()


def test_a_model_is_searched_in_both_scopes_and_guided_where_it_was_forecast(subject):
    told = pd.DataFrame({"model": "tiny", "scope": "layer", "threshold": [0, 5, 10], "predicted": [1, 0.99, 0.3]})
    found = tables.validate("scans", deployment.scanned(subject, told, 0.02)).set_index(["scope", "method"])
    assert {scope for scope, method in found.index if method == "guided"} == {"layer"}
    for scope in ("global", "layer"):
        with sweeper.Sweeper(subject.model, subject.weights, subject.examples, "float32", 0).looking(
            "magnitude", scope, sweeper.grid(101)
        ) as (look, _, _):
            curve = [look(point, np.arange(len(subject.examples))).accuracy for point in range(101)]
        chosen = found.loc[scope]
        assert [curve[round(100 * ratio)] for ratio in chosen["ratio"]] == chosen["accuracy"].to_list()
        assert (chosen["accuracy"] >= curve[0] - 0.02 - 1e-9).all()
        assert curve[round(100 * chosen.loc["adaptive", "ratio"]) + 1] < curve[0] - 0.02


def _first(candidates, measured, epsilon):
    return {rule: rows[0] for rule, rows in deployment.finalists(candidates, measured, epsilon).items()}


def _candidates():
    """A few made-up configurations; the dense one is in row 1."""
    rows = [
        ("removed", 0.80, 0.1, 0.1, 0.1, 0.1),  # cheapest, but it loses too much
        ("dense", 0.90, 1.0, 1.0, 1.0, 1.0),
        ("removed", 0.89, 0.8, 0.5, 0.9, 0.9),
        ("masked", 0.885, 0.8, 0.8, 0.4, 0.8),
        ("removed", 0.89, 0.8, 0.7, 0.7, 0.3),
        ("removed", 0.895, 0.2, 0.2, 0.2, 0.2),  # best of those that lose little
    ]
    columns = ["form", "accuracy", "flops_effective", "latency_ratio_1", "latency_ratio_32", "energy_ratio"]
    return pd.DataFrame(rows, columns=columns)


def test_each_need_takes_the_least_of_its_cost_among_what_was_measured():
    picked = _first(_candidates(), [0, 2, 3, 4], 0.02)
    assert {need: picked[need] for need in deployment.NEEDS} == {"phone": 2, "server": 3, "batch": 4}
    everything = _first(_candidates(), range(6), 0.02)
    assert {everything[need] for need in deployment.NEEDS} == {5}
    generous = _first(_candidates(), range(6), 0.11)
    assert {generous[need] for need in deployment.NEEDS} == {0}


def test_a_loss_of_exactly_epsilon_is_allowed():
    assert _first(_candidates(), [3], 0.015)["server"] == 3
    assert _first(_candidates(), [3], 0.0149)["server"] == 1


@pytest.mark.parametrize("measured", [[], [0, 2, 3, 4], [4, 1, 0]])
def test_where_nothing_else_holds_each_need_takes_the_dense_model(measured):
    picked = _first(_candidates(), measured, 0.001)
    assert {picked[need] for need in deployment.NEEDS} == {1}


def test_the_knee_asks_for_no_epsilon_and_lies_on_the_front_of_what_was_measured():
    measured = [0, 2, 3, 4]
    knees = {_first(_candidates(), measured, epsilon)["knee"] for epsilon in (0.001, 0.02, 0.5)}
    assert len(knees) == 1
    rows = [1, *measured]
    front = pareto.front(search.objectives(_candidates()).iloc[rows])
    assert knees < {row for row, kept in zip(rows, front, strict=True) if kept}


def test_where_energy_was_not_measured_nothing_is_chosen_for_it():
    picked = _first(_candidates().assign(energy_ratio=math.nan), range(6), 0.02)
    assert picked.keys() == {"knee", "phone", "server"}


@pytest.mark.parametrize("epsilon", [0, -0.1, 1, math.nan])
def test_an_epsilon_that_cannot_be_is_refused(epsilon):
    with pytest.raises(UserError, match="epsilon is .*; it is the accuracy one would give up"):
        _first(_candidates(), [2], epsilon)


@pytest.fixture(scope="module")
def workshop(subject, tmp_path_factory):
    """A workshop for the small model, with an estimate of energy."""
    folder = tmp_path_factory.mktemp("selection")
    meter = energy.meter(torch.device("cpu"), 4.0, powercap=folder)
    return ConfigurationEvaluator(apart(subject, folder), BUDGET, meter, 2)


@pytest.fixture(scope="module")
def deployed(workshop):
    """The candidates of a small space, and what was chosen and saved: rows of `selections`."""
    real = profile.costs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "WINDOW_S", SHORT_S)
        candidates = workshop.candidates(SPACE.configurations())
        patch.setattr(profile, "costs", partial(real, window_s=SHORT_S))
        searches = pd.DataFrame(
            {"model": ["tiny", "tiny", "other"], "evaluations": [5, EVALUATIONS, 99], "seed": [SEED, SEED, 0]}
        )
        return candidates, deployment.deployed(workshop, candidates, searches, EPSILON)


def test_what_is_deployed_keeps_the_contract_and_was_measured_by_the_search(workshop, deployed):
    candidates, rows = deployed
    tables.validate("selections", rows)
    assert rows["method"].to_list() == ["algorithm_1", "knee", *deployment.NEEDS]
    rows = rows[rows["method"] != "algorithm_1"]
    measured = search.found(candidates, workshop.subject.task.majority_accuracy, EVALUATIONS, SEED)
    assert set(rows["configuration"]) <= {"dense", *candidates["configuration"].iloc[measured]}
    assert set(rows["evaluations"]) == {EVALUATIONS}
    assert set(rows["epsilon"]) == {EPSILON}
    dense = evaluation.evaluate(workshop.subject.model, workshop.subject.examples).accuracy
    assert set(rows["dense_accuracy"]) == {dense}
    assert (rows["feasible"] == (rows["accuracy"] >= dense - EPSILON)).all()
    assert rows.loc[rows["method"].isin(deployment.NEEDS), "feasible"].all()
    assert (rows["energy_j"] > 0).all()
    assert (rows["configuration"] != "dense").any()
    beside = rows.merge(candidates, on="configuration", suffixes=("", "_candidate"))
    assert len(beside) == len(rows)
    assert (beside["ratio"] == beside["sparsity"]).all()
    for column in ("accuracy", "flops_effective"):
        assert (beside[column] == beside[f"{column}_candidate"]).all()


def test_each_saved_model_loads_again_with_the_accuracy_and_the_figures_its_row_says(workshop, deployed):
    for row in deployed[1].to_dict("records"):
        folder = workshop.subject.folder / "selected" / row["method"]
        loaded = load_removed(folder)
        assert evaluation.evaluate(loaded, workshop.subject.examples).accuracy == row["accuracy"]
        how = Configuration(**json.loads((folder / "selection.json").read_text()))
        assert how.name == row["configuration"]
        _, head, card = (folder / "README.md").read_text().split("---\n", 2)
        assert yaml.safe_load(head) == {"library_name": "transformers", "pipeline_tag": "text-classification"}
        assert f"What was done: {how.name}." in card
        lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
        told = {line[0]: line[1] for line in lines if len(line) == 2}
        for name in FIGURES:
            assert float(told[deployment.FIGURES[name]]) == pytest.approx(row[name], rel=1e-5)


def test_a_model_is_not_saved_without_its_four_figures(workshop, tmp_path):
    few = {name: FIGURES[name] for name in ("accuracy", "latency_ms_median")}
    with pytest.raises(UserError, match="four figures; flops_effective, energy_j is missing"):
        deployment.save(workshop, Configuration(form="dense"), few, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "how", [SPARSE, Configuration(form="sparse_kernel", ratio=0.6, scope="layer", schedule="gradual")]
)
def test_what_a_sparse_kernel_runs_is_saved_masked_and_answers_the_same(workshop, tmp_path, how):
    deployment.save(workshop, how, FIGURES, tmp_path / "kept")
    loaded = load_removed(tmp_path / "kept")
    assert not any(isinstance(module, SparseLinear) for module in loaded.modules())
    weights = prunable_weights(loaded, 3).values()
    zeros, size = (sum(int(count(weight)) for weight in weights) for count in (_zeros, torch.numel))
    assert zeros / size == pytest.approx(how.ratio, abs=1e-4)
    ran, again = (
        evaluation.logits(m, workshop.subject.examples) for m in (workshop.build(how), sparse_kernel(loaded, 3))
    )
    torch.testing.assert_close(again, ran)
    assert json.loads((tmp_path / "kept" / "selection.json").read_text())["form"] == "sparse_kernel"


def _zeros(weight):
    return (weight == 0).sum()
