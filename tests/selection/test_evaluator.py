import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from prunecast.cost import energy
from prunecast.loading import storage
from prunecast.models import evaluation
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.prunable import prunable_weights
from prunecast.pruning.finetuning import Budget
from prunecast.pruning.sparse_linear import SparseLinear
from prunecast.selection import evaluator
from prunecast.selection.evaluator import ConfigurationEvaluator
from prunecast.selection.space import Configuration, Space

HALF = Configuration(form="removed", heads=0.5, neurons=0.5)
MASKED = Configuration(form="masked", ratio=0.9, scope="layer", schedule="gradual")
FEW = Space(ratios=(0.5,), heads=(0.5,), neurons=(0.5,), layers=(0,)).configurations()[:4]


def _counting(stop_after: float = math.inf) -> tuple[energy.Meter, list[int]]:
    """A meter that lists its readings, and is interrupted after some of them."""
    readings: list[int] = []

    def read() -> tuple[float, ...]:
        if len(readings) >= stop_after:
            raise KeyboardInterrupt
        readings.append(len(readings))
        return (float(len(readings)),)

    return energy.Meter("estimated", "", read, (math.inf,)), readings


def _files(folder: Path) -> dict[Path, int]:
    """Time of the last change of each file."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _nonzero(weights: dict[str, torch.Tensor]) -> int:
    return sum(int(weight.count_nonzero()) for weight in weights.values())


def _size(weights: dict[str, torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights.values())


@pytest.fixture(scope="session")
def rows(candidates: pd.DataFrame) -> pd.DataFrame:
    """The rows of the measured configurations, by name."""
    return candidates.set_index("configuration")


def test_every_configuration_is_a_row_with_costs_of_its_own(
    measured_evaluator: ConfigurationEvaluator, configurations: list[Configuration], rows: pd.DataFrame
) -> None:
    assert list(rows.index) == [one.name for one in configurations]
    assert set(rows["form"]) == {"dense", "masked", "removed", "sparse_kernel"}
    assert set(rows["schedule"]) == {"none", "gradual", "one_shot"}
    ratios = rows[[f"latency_ratio_{batch}" for batch in evaluator.BATCHES]]
    assert (ratios > 0).all(axis=None)
    assert rows["accuracy"].between(0, 1).all()
    assert (rows["energy_ratio"] > 0).all()
    assert set(rows["energy_source"]) == {"estimated"}
    assert set(rows["eval_examples"]) == {len(measured_evaluator.subject.examples)}
    assert set(rows["model"]) == {"tiny"}


def test_energy_without_a_meter_is_not_measured(own_subject: TrainedModel, budget: Budget) -> None:
    unmeasured = ConfigurationEvaluator(own_subject, budget, energy.Meter("not measured", ""), 1)
    rows = unmeasured.candidates(FEW[:2])
    assert rows["energy_ratio"].isna().all()
    assert set(rows["energy_source"]) == {"not measured"}
    assert (rows["latency_ratio_1"] > 0).all()


def test_the_dense_row_is_the_model_itself(measured_evaluator: ConfigurationEvaluator, rows: pd.DataFrame) -> None:
    dense, subject = rows.loc["dense"], measured_evaluator.subject
    assert dense["accuracy"] == evaluation.evaluate(subject.model, subject.examples).accuracy
    assert dense["agreement"] == 1
    assert dense["sparsity"] == 0
    assert dense["flops_effective"] == dense["flops_dense"]
    assert dense["latency_ratio_1"] == dense["latency_ratio_32"] == dense["energy_ratio"] == 1


def test_zeros_reduce_effective_operations_and_removal_reduces_both(rows: pd.DataFrame) -> None:
    dense, removed = rows.loc["dense"], rows.query("form == 'removed' and sparsity > 0 and ratio == 0")
    for form in ("masked", "sparse_kernel"):
        zeros = rows[rows["form"] == form]
        assert (zeros["flops_dense"] == dense["flops_dense"]).all()
        assert (zeros["flops_effective"] < dense["flops_effective"]).all()
        assert (zeros["parameters"] == dense["parameters"]).all()
        assert (zeros["parameters_nonzero"] < dense["parameters_nonzero"]).all()
        assert zeros["sparsity"].to_list() == pytest.approx(zeros["ratio"].to_list(), abs=1e-4)
    assert len(removed) == 5
    for column in ("flops_dense", "flops_effective", "parameters", "size_bytes"):
        assert (removed[column] < dense[column]).all()
    assert (removed["flops_dense"] == removed["flops_effective"]).all()


def test_parts_are_removed_in_their_shares(measured_evaluator: ConfigurationEvaluator, rows: pd.DataFrame) -> None:
    layer = measured_evaluator.build(HALF).get_submodule("bert.encoder.layer.0")
    assert tuple(layer.get_parameter("attention.self.query.weight").shape) == (32, 64)
    assert tuple(layer.get_parameter("intermediate.dense.weight").shape) == (128, 64)
    heads, neurons, total = 4 * 32 * 64, 2 * 128 * 64, _size(measured_evaluator.subject.weights)
    for part, removed in (("heads-0.5 neurons-0.5", heads + neurons), ("heads-0.5 neurons-0", heads)):
        assert rows.loc[f"removed magnitude {part} layers-0", "sparsity"] == pytest.approx(removed / total)
    assert rows.loc["removed magnitude heads-0 neurons-0.5 layers-0", "sparsity"] == pytest.approx(neurons / total)


def test_weights_that_a_removal_leaves_can_be_set_to_zero(
    measured_evaluator: ConfigurationEvaluator, configurations: list[Configuration], rows: pd.DataFrame
) -> None:
    half, total = rows.loc[HALF.name], _size(measured_evaluator.subject.weights)
    both = [how for how in configurations if how.form == "removed" and how.ratio]
    assert {how.schedule for how in both} == {"none", "gradual"}
    for how in both:
        weights, row = prunable_weights(measured_evaluator.build(how), 3), rows.loc[how.name]
        left, nonzero = _size(weights), _nonzero(weights)
        assert nonzero == left - round(0.6 * left)
        assert row["sparsity"] == pytest.approx(1 - nonzero / total)
        assert half["sparsity"] == pytest.approx(1 - left / total)
        assert row["parameters"] == half["parameters"]
        assert row["parameters_nonzero"] == half["parameters_nonzero"] - (left - nonzero)
        assert row["flops_dense"] == half["flops_dense"] == half["flops_effective"] > row["flops_effective"]


def test_sparse_kernels_have_the_outputs_of_the_masked_model(
    measured_evaluator: ConfigurationEvaluator, rows: pd.DataFrame
) -> None:
    sparse = rows[rows["form"] == "sparse_kernel"]
    assert len(sparse) == 3
    for name, row in sparse.iterrows():
        masked = rows.loc[str(name).replace("sparse_kernel", "masked")]
        for column in ("accuracy", "f1", "matthews", "sparsity", "parameters_nonzero", "flops_effective"):
            assert row[column] == masked[column]
    kernels = measured_evaluator.build(MASKED.model_copy(update={"form": "sparse_kernel"}))
    subject = measured_evaluator.subject
    assert sum(isinstance(module, SparseLinear) for module in kernels.modules()) == len(subject.weights)
    logits, others = (
        evaluation.logits(model, subject.examples) for model in (kernels, measured_evaluator.build(MASKED))
    )
    torch.testing.assert_close(logits, others, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("rows")
def test_the_dense_model_is_left_unchanged(measured_evaluator: ConfigurationEvaluator) -> None:
    stored, _ = storage.load(measured_evaluator.subject.folder)
    pairs = zip(measured_evaluator.subject.model.parameters(), stored.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_fine_tuning_keeps_the_zeros_and_agreement_is_that_before_it(
    measured_evaluator: ConfigurationEvaluator, rows: pd.DataFrame
) -> None:
    for name in (MASKED.name, "removed taylor heads-0.5 neurons-0.5 layers-0 one_shot"):
        trained, plain = rows.loc[name], rows.loc[name.rpartition(" ")[0]]
        assert trained["agreement"] == plain["agreement"]
        assert trained["sparsity"] == pytest.approx(plain["sparsity"], abs=1e-4)
    losses = [
        evaluation.evaluate(measured_evaluator.build(how), measured_evaluator.subject.examples).mean_loss
        for how in (MASKED, MASKED.untrained)
    ]
    assert losses[0] < losses[1]


def test_a_second_call_reads_the_same_rows_from_the_cache(
    measured_evaluator: ConfigurationEvaluator, configurations: list[Configuration], candidates: pd.DataFrame
) -> None:
    original, before = measured_evaluator, _files(measured_evaluator.folder)
    again = ConfigurationEvaluator(original.subject, original.budget, original.meter, original.rounds)
    pd.testing.assert_frame_equal(again.candidates(configurations), candidates)
    assert _files(original.folder) == before


def test_costs_of_all_forms_are_timed_in_one_run_beside_their_metrics(
    measured_evaluator: ConfigurationEvaluator,
    configurations: list[Configuration],
    rows: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured_evaluator, "meter", energy.Meter("not measured", ""))
    some = [one for one in configurations if one.name in ("dense", "sparse_kernel magnitude global 0.9")]
    costs = measured_evaluator.costs(some, 2).set_index(["configuration", "batch"])
    assert list(costs.index) == [(one.name, batch) for batch in evaluator.BATCHES for one in some]
    for batch in evaluator.BATCHES:
        for column in ("form", "accuracy", "sparsity", "parameters_nonzero", "size_bytes"):
            timed = costs[column].xs(batch, level="batch")
            assert timed.to_dict() == rows.loc[[one.name for one in some], column].to_dict()
    assert (costs["latency_ms_p10"] <= costs["latency_ms_p90"]).all()
    assert set(costs["threads"]) == {torch.get_num_threads()}


def test_an_interrupted_run_measures_what_is_missing_and_no_more(
    own_subject: TrainedModel, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "WINDOW_S", 0.0)
    folder = own_subject.folder / "configurations"
    meter, readings = _counting()
    ConfigurationEvaluator(own_subject, budget, meter, 1).candidates(FEW[:1])
    each = len(readings)  # of one configuration
    folder.rename(own_subject.folder / "first")
    interrupted, _ = _counting(stop_after=2 * each + each // 2)
    with pytest.raises(KeyboardInterrupt):
        ConfigurationEvaluator(own_subject, budget, interrupted, 1).candidates(FEW)
    cached = _files(folder)
    assert len(cached) == 2
    meter, readings = _counting()
    rows = ConfigurationEvaluator(own_subject, budget, meter, 1).candidates(FEW)
    assert len(readings) == 2 * each
    assert rows["configuration"].to_list() == [one.name for one in FEW]
    assert (rows["energy_ratio"] > 0).all()
    assert rows.loc[0, "energy_ratio"] == 1  # the dense model compared with itself
    assert {path: time for path, time in _files(folder).items() if path in cached} == cached


def test_an_interruption_before_a_cached_model_is_replaced_leaves_no_other_budget(
    own_subject: TrainedModel, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    how, few = Configuration(form="removed", neurons=0.5, schedule="one_shot"), {"examples": 16}
    meter = energy.Meter("not measured", "")
    one, other = (
        ConfigurationEvaluator(own_subject, budget.model_copy(update=few | {"epochs": epochs}), meter, 1)
        for epochs in (1, 2)
    )
    first = one.build(how)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", _interrupt)
        other.build(how)
    again = one.build(how)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_budget_is_measured_and_fine_tuned_again(
    own_subject: TrainedModel, budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "WINDOW_S", 0.0)
    how = [Configuration(form="masked", ratio=0.5, schedule="gradual")]
    short, longer = (budget.model_copy(update={"examples": 16, "epochs": epochs}) for epochs in (1.0, 2.0))
    first, again, same = (_counting() for _ in range(3))
    ConfigurationEvaluator(own_subject, short, first[0], 1).candidates(how)
    weights = next((own_subject.folder / "configurations").rglob("model.safetensors"))
    before = weights.read_bytes()
    ConfigurationEvaluator(own_subject, longer, again[0], 1).candidates(how)
    assert weights.read_bytes() != before
    ConfigurationEvaluator(own_subject, longer, same[0], 1).candidates(how)
    assert len(first[1]) == len(again[1]) > 0
    assert not same[1]


def test_the_cache_is_one_readable_file_for_each_measurement(
    measured_evaluator: ConfigurationEvaluator, rows: pd.DataFrame
) -> None:
    cached = [json.loads(path.read_text())["row"] for path in measured_evaluator.folder.glob("*.json")]
    assert sorted(row["configuration"] for row in cached) == sorted(rows.index)
