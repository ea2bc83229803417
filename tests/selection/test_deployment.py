import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from prunecast import tables
from prunecast.cost import profile
from prunecast.errors import UserError
from prunecast.models import evaluation
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.pruning.masks import SCOPES
from prunecast.pruning.sparse_linear import SparseLinear, sparse_kernel
from prunecast.pruning.structured import load_removed
from prunecast.selection import deployment, pareto, search
from prunecast.selection.evaluator import ConfigurationEvaluator
from prunecast.selection.space import Configuration
from prunecast.sweeps import sweeper
from prunecast.sweeps.adaptive import Evaluate, Rows

EVALUATIONS, SEED, EPSILON = 9, 3, 0.05
EXAMPLES = 1000
FIGURES = {"accuracy": 0.9, "flops_effective": 10, "latency_ms_median": 1.5, "energy_j": 2.5}
SPARSE = Configuration(form="sparse_kernel", ratio=0.9)


def _curve(safe: float) -> Evaluate:
    """A hundred examples of small margins fail past the ratio `safe`, others at larger ratios one after the other."""
    ratios = deployment.RATIOS[:, None]
    breaks = np.concatenate([np.full(100, safe), np.linspace(safe + 0.005, 2, EXAMPLES - 100)])
    margins = breaks - ratios + 1e-6

    def evaluate_at(point: int, rows: Rows) -> evaluation.Outcome:
        margin = torch.from_numpy(margins[point, rows])
        return evaluation.Outcome(margin > 0, margin.neg().exp(), margin)

    return evaluate_at


def _scans(safe: float, forecast: float, epsilon: float = 0.02) -> pd.DataFrame:
    scans: pd.DataFrame = deployment.search_methods(_curve(safe), EXAMPLES, epsilon, forecast)
    return scans.set_index("method")


@pytest.mark.parametrize("forecast", [0.0, 0.62, 1.0])
@pytest.mark.parametrize("safe", [0.07, 0.3, 0.62, 0.99])
def test_all_methods_but_the_coarse_one_find_the_safe_ratio_of_a_falling_curve(safe: float, forecast: float) -> None:
    scans = _scans(safe, forecast)
    assert scans.loc[["scan", "halves", "guided", "adaptive"], "ratio"].to_list() == [safe] * 4
    assert scans.loc["algorithm_1", "ratio"] == pytest.approx(math.floor(10 * safe + 1e-9) / 10)
    assert scans["feasible"].to_list() == [method != "algorithm_1" or safe > 0.1 for method in scans.index]
    assert set(scans["accuracy"]) == {1.0}


@pytest.mark.parametrize(
    ("safe", "coarse", "fine"), [(0.07, 3, 24), (0.3, 2, 2), (0.62, 5, 34), (0.99, 7, 70), (0.0, 3, 30)]
)
def test_every_pruned_model_that_is_evaluated_is_counted(safe: float, coarse: int, fine: int) -> None:
    counts = _scans(safe, safe)["evaluations"].to_dict()
    assert [counts["algorithm_1"], counts["scan"]] == [coarse, fine]
    assert counts["guided"] <= counts["halves"] <= math.ceil(math.log2(len(deployment.RATIOS))) + len(pareto.BELOW)
    assert counts["guided"] <= 4 + len(pareto.BELOW)
    assert counts["adaptive"] <= 5


def test_where_no_ratio_is_safe_every_method_answers_with_the_dense_model() -> None:
    scans = _scans(safe=0.0, forecast=0.5)
    assert set(scans["ratio"]) == {0.0}
    assert set(scans["accuracy"]) == {1.0}
    assert not scans["feasible"].any()


def test_a_larger_epsilon_allows_a_larger_ratio() -> None:
    assert (_scans(0.5, 0.5, epsilon=0.2)["ratio"] > _scans(0.5, 0.5)["ratio"]).all()


def test_a_model_is_searched_in_both_scopes_and_guided_where_it_was_forecast(subject: TrainedModel) -> None:
    forecasts = pd.DataFrame({"model": "tiny", "scope": "layer", "threshold": [0, 5, 10], "predicted": [1, 0.99, 0.3]})
    scans = tables.validate("scans", deployment.scan_safe_ratios(subject, forecasts, 0.02))
    assert set(scans.loc[scans["method"] == "guided", "scope"]) == {"layer"}
    for scope in SCOPES:
        methods = scans[scans["scope"] == scope].set_index("method")
        ratios = {method: float(ratio) for method, ratio in methods["ratio"].items()}
        points = sorted({0, *(round(100 * ratio) for ratio in ratios.values()), round(100 * ratios["adaptive"]) + 1})
        own = sweeper.Sweeper(subject.model, subject.weights, subject.examples, "float32", 0)
        with own.masked_evaluation("magnitude", scope, sweeper.grid(101)) as (evaluate_at, _, _):
            curve = {point: evaluate_at(point, np.arange(len(subject.examples))).accuracy for point in points}
        assert [curve[round(100 * ratio)] for ratio in ratios.values()] == methods["accuracy"].to_list()
        assert (methods["accuracy"] >= curve[0] - 0.02 - 1e-9).all()
        assert curve[round(100 * ratios["adaptive"]) + 1] < curve[0] - 0.02


def _first(candidates: pd.DataFrame, measured: Sequence[int], epsilon: float) -> dict[str, int]:
    return {rule: rows[0] for rule, rows in deployment.shortlists(candidates, measured, epsilon).items()}


def _made_up() -> pd.DataFrame:
    """A few candidates; the dense one is in row 1."""
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


def test_each_use_takes_the_least_of_its_cost_among_what_was_measured() -> None:
    some = _first(_made_up(), [0, 2, 3, 4], 0.02)
    assert {need: some[need] for need in deployment.NEEDS} == {"phone": 2, "server": 3, "batch": 4}
    everything = _first(_made_up(), range(6), 0.02)
    assert {everything[need] for need in deployment.NEEDS} == {5}
    generous = _first(_made_up(), range(6), 0.11)
    assert {generous[need] for need in deployment.NEEDS} == {0}


def test_a_loss_of_exactly_epsilon_is_allowed() -> None:
    assert _first(_made_up(), [3], 0.015)["server"] == 3
    assert _first(_made_up(), [3], 0.0149)["server"] == 1


@pytest.mark.parametrize("measured", [[], [0, 2, 3, 4], [4, 1, 0]])
def test_where_no_other_is_within_epsilon_each_use_takes_the_dense_model(measured: list[int]) -> None:
    first = _first(_made_up(), measured, 0.001)
    assert {first[need] for need in deployment.NEEDS} == {1}


def test_the_knee_does_not_depend_on_epsilon_and_lies_on_the_front_of_what_was_measured() -> None:
    measured = [0, 2, 3, 4]
    knees = {_first(_made_up(), measured, epsilon)["knee"] for epsilon in (0.001, 0.02, 0.5)}
    assert len(knees) == 1
    rows = [1, *measured]
    front = pareto.front(search.objectives(_made_up()).iloc[rows])
    assert knees < {row for row, on_front in zip(rows, front, strict=True) if on_front}


def test_where_energy_was_not_measured_nothing_is_chosen_for_it() -> None:
    first = _first(_made_up().assign(energy_ratio=math.nan), range(6), 0.02)
    assert first.keys() == {"knee", "phone", "server"}


@pytest.mark.parametrize("epsilon", [0, -0.1, 1, math.nan])
def test_an_epsilon_outside_0_to_1_is_refused(epsilon: float) -> None:
    with pytest.raises(UserError, match="epsilon is .*; it is the accuracy one would give up"):
        _first(_made_up(), [2], epsilon)


@pytest.fixture(scope="module")
def deployed(own_evaluator: ConfigurationEvaluator, candidates: pd.DataFrame) -> pd.DataFrame:
    """What was chosen and saved: rows of `selections`."""
    searches = pd.DataFrame(
        {"model": ["tiny", "tiny", "other"], "evaluations": [5, EVALUATIONS, 99], "seed": [SEED, SEED, 0]}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "costs", partial(profile.costs, window_s=0.0))
        patch.setattr(deployment, "TIMED_CALLS", 3)
        patch.setattr("prunecast.selection.evaluator.WINDOW_S", 0.0)
        selections: pd.DataFrame = deployment.deploy(own_evaluator, candidates, searches, EPSILON)
    return selections


@pytest.mark.slow
def test_what_is_deployed_follows_the_contract_and_was_measured_by_the_search(
    own_evaluator: ConfigurationEvaluator, candidates: pd.DataFrame, deployed: pd.DataFrame
) -> None:
    tables.validate("selections", deployed)
    assert deployed["method"].to_list() == ["algorithm_1", "knee", *deployment.NEEDS]
    rows, subject = deployed[deployed["method"] != "algorithm_1"], own_evaluator.subject
    measured = search.guided_selection(candidates, subject.task.majority_accuracy, EVALUATIONS, SEED)
    assert 0 < len(measured) < len(candidates) - 1
    assert set(rows["configuration"]) <= {"dense", *candidates["configuration"].iloc[measured]}
    assert set(rows["evaluations"]) == {EVALUATIONS}
    assert set(rows["epsilon"]) == {EPSILON}
    dense = evaluation.evaluate(subject.model, subject.examples).accuracy
    assert set(rows["dense_accuracy"]) == {dense}
    assert (rows["feasible"] == (rows["accuracy"] >= dense - EPSILON)).all()
    assert rows.loc[rows["method"].isin(deployment.NEEDS), "feasible"].all()
    assert (rows["energy_j"] > 0).all()
    assert (rows["configuration"] != "dense").any()
    joined = rows.merge(candidates, on="configuration", suffixes=("", "_candidate"))
    assert len(joined) == len(rows)
    assert (joined["ratio"] == joined["sparsity"]).all()
    for column in ("accuracy", "flops_effective"):
        assert (joined[column] == joined[f"{column}_candidate"]).all()


def test_each_saved_model_loads_with_the_accuracy_and_the_figures_of_its_row(
    own_evaluator: ConfigurationEvaluator, deployed: pd.DataFrame
) -> None:
    for row in deployed.to_dict("records"):
        folder = own_evaluator.subject.folder / "selected" / row["method"]
        loaded = load_removed(folder)
        assert evaluation.evaluate(loaded, own_evaluator.subject.examples).accuracy == row["accuracy"]
        how = Configuration(**json.loads((folder / "selection.json").read_text()))
        assert how.name == row["configuration"]
        _, head, card = (folder / "README.md").read_text().split("---\n", 2)
        assert yaml.safe_load(head) == {"library_name": "transformers", "pipeline_tag": "text-classification"}
        assert f"Configuration: {how.name}." in card
        lines = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]
        figures = {line[0]: line[1] for line in lines if len(line) == 2}
        for name in FIGURES:
            assert float(figures[deployment.FIGURES[name]]) == pytest.approx(row[name], rel=1e-5)


def test_a_model_is_not_saved_without_its_four_figures(own_evaluator: ConfigurationEvaluator, tmp_path: Path) -> None:
    few = {name: FIGURES[name] for name in ("accuracy", "latency_ms_median")}
    with pytest.raises(UserError, match="four figures; flops_effective, energy_j is missing"):
        deployment.save(own_evaluator, Configuration(form="dense"), few, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("how", [SPARSE, SPARSE.model_copy(update={"scope": "layer", "schedule": "gradual"})])
def test_a_sparse_kernel_is_saved_masked_with_the_same_outputs(
    own_evaluator: ConfigurationEvaluator, tmp_path: Path, how: Configuration
) -> None:
    deployment.save(own_evaluator, how, FIGURES, tmp_path / "saved")
    loaded = load_removed(tmp_path / "saved")
    assert not any(isinstance(module, SparseLinear) for module in loaded.modules())
    weights = prunable_weights(loaded, 3).values()
    zeros, size = sum(int((weight == 0).sum()) for weight in weights), sum(weight.numel() for weight in weights)
    assert zeros / size == pytest.approx(how.ratio, abs=1e-4)
    models = (sparse_kernel(loaded, 3), own_evaluator.build(how))
    again, built = (evaluation.logits(model, own_evaluator.subject.examples) for model in models)
    torch.testing.assert_close(again, built)
    assert json.loads((tmp_path / "saved" / "selection.json").read_text())["form"] == "sparse_kernel"
