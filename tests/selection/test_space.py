import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import apart
from prunecast.cost import energy
from prunecast.errors import UserError
from prunecast.models import evaluation, zoo
from prunecast.models.prunable import prunable_weights
from prunecast.pruning.finetuning import Budget
from prunecast.pruning.sparse_linear import SparseLinear
from prunecast.selection import evaluator
from prunecast.selection.evaluator import ConfigurationEvaluator
from prunecast.selection.space import Configuration, Space, space_of

BUDGET = Budget(epochs=1, examples=96, batch_size=16, learning_rate=2e-3, distilled=0.5, bfloat16=False)
SPACE = Space(ratios=(0.5, 0.9), shares=(0.0, 0.5), layers=(0,), trained_ratios=(0.9,))
HALF = Configuration(form="removed", heads=0.5, neurons=0.5)
BOTH = HALF.model_copy(update={"ratio": 0.6})  # what is left of the half loses weights as well
EVERY = [*SPACE.configurations(), BOTH, BOTH.model_copy(update={"schedule": "gradual"})]
FEW = Space(ratios=(0.5,), shares=(0.5,), layers=(0,)).configurations()[:4]
UNMEASURED = energy.Meter("not measured", "")


@pytest.fixture(scope="module")
def measured(subject, tmp_path_factory):
    """Every configuration, built and measured: the workshop, and the candidates by their name."""
    workshop = ConfigurationEvaluator(apart(subject, tmp_path_factory.mktemp("configurations")), BUDGET, UNMEASURED, 2)
    return workshop, workshop.candidates(EVERY).set_index("configuration")


def _counting(stop_after=math.inf):
    """A meter that counts how many models it looked at, and is killed in the middle of one."""
    looks = []

    def read():
        if len(looks) >= stop_after:
            raise KeyboardInterrupt
        looks.append(None)
        return (float(len(looks)),)

    return energy.Meter("estimated", "", read, (math.inf,)), looks


def _files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "space",
    [
        SPACE,
        Space(
            ratios=tuple(percent / 100 for percent in range(1, 100)),
            shares=(0.0, 0.25, 1 / 3, 0.5, 2 / 3),
            layers=(0, 1, 2, 11),
            trained_ratios=(0.25, 0.5, 0.501),
        ),
    ],
)
def test_names_are_unique_and_can_name_a_file(space, tmp_path):
    found = space.configurations()
    assert found[0] == Configuration(form="dense")
    names = [one.name for one in found]
    assert len(set(names)) == len(set(found)) == len(found)
    for name in names:
        (tmp_path / f"{name}.json").write_text("")
    assert len(list(tmp_path.iterdir())) == len(found)


@pytest.mark.parametrize("wrong", [{"ratio": 1}, {"ratio": -0.1}, {"form": "thin"}, {"schedule": "lottery"}])
def test_a_configuration_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"for Configuration\n{next(iter(wrong))}"):
        Configuration(**{"form": "masked"} | wrong)


def test_every_configuration_is_a_row_with_costs_of_its_own(measured):
    workshop, found = measured
    assert list(found.index) == [one.name for one in EVERY]
    assert set(found["form"]) == {"dense", "masked", "removed", "sparse_kernel"}
    assert set(found["schedule"]) == {"none", "gradual", "one_shot"}
    ratios = found[[f"latency_ratio_{batch}" for batch in evaluator.BATCHES]]
    assert (ratios > 0).all(axis=None)
    assert found["accuracy"].between(0, 1).all()
    assert found["energy_ratio"].isna().all()
    assert set(found["energy_source"]) == {"not measured"}
    assert set(found["eval_examples"]) == {len(workshop.subject.examples)}
    assert set(found["model"]) == {"tiny"}


def test_the_dense_row_is_the_model_itself(measured):
    workshop, found = measured
    dense = found.loc["dense"]
    assert dense["accuracy"] == evaluation.evaluate(workshop.subject.model, workshop.subject.examples).accuracy
    assert dense["agreement"] == 1
    assert dense["sparsity"] == 0
    assert dense["flops_effective"] == dense["flops_dense"]
    assert dense["latency_ratio_1"] == dense["latency_ratio_32"] == 1


def test_zeros_save_effective_operations_and_removal_saves_both(measured):
    _, found = measured
    dense, removed = found.loc["dense"], found.query("form == 'removed' and sparsity > 0 and ratio == 0")
    for form in ("masked", "sparse_kernel"):
        rows = found[found["form"] == form]
        assert (rows["flops_dense"] == dense["flops_dense"]).all()
        assert (rows["flops_effective"] < dense["flops_effective"]).all()
        assert (rows["parameters"] == dense["parameters"]).all()
        assert (rows["parameters_nonzero"] < dense["parameters_nonzero"]).all()
        assert rows["sparsity"].to_list() == pytest.approx(rows["ratio"].to_list(), abs=1e-4)
    for column in ("flops_dense", "flops_effective", "parameters", "size_bytes"):
        assert (removed[column] < dense[column]).all()
    assert (removed["flops_dense"] == removed["flops_effective"]).all()


def test_what_is_removed_in_shares_is_gone_in_those(measured):
    workshop, found = measured
    layer = workshop.build(HALF).bert.encoder.layer[0]
    assert tuple(layer.attention.self.query.weight.shape) == (32, 64)
    assert tuple(layer.intermediate.dense.weight.shape) == (128, 64)
    gone = 4 * 32 * 64 + 2 * 128 * 64
    total = sum(weight.numel() for weight in workshop.subject.weights.values())
    assert found.loc["removed magnitude heads-0.5 neurons-0.5 layers-0", "sparsity"] == pytest.approx(gone / total)


def test_what_is_left_of_a_removed_model_can_lose_weights_as_well(measured):
    workshop, found = measured
    half = found.loc[HALF.name]
    total = sum(weight.numel() for weight in workshop.subject.weights.values())
    for how in EVERY[-2:]:
        weights = prunable_weights(workshop.build(how), 3).values()
        left, row = sum(weight.numel() for weight in weights), found.loc[how.name]
        nonzero = sum(int(weight.count_nonzero()) for weight in weights)
        assert nonzero == left - round(0.6 * left)
        assert row["sparsity"] == pytest.approx(1 - nonzero / total)
        assert half["sparsity"] == pytest.approx(1 - left / total)
        assert row["parameters"] == half["parameters"]
        assert row["parameters_nonzero"] == half["parameters_nonzero"] - (left - nonzero)
        assert row["flops_dense"] == half["flops_dense"] == half["flops_effective"] > row["flops_effective"]


def test_sparse_kernels_answer_as_the_masked_model(measured):
    workshop, found = measured
    sparse = found[found["form"] == "sparse_kernel"]
    for name, row in sparse.iterrows():
        masked = found.loc[name.replace("sparse_kernel", "masked")]
        for column in ("accuracy", "f1", "matthews", "sparsity", "parameters_nonzero", "flops_effective"):
            assert row[column] == masked[column]
    trained = Configuration(form="sparse_kernel", ratio=0.9, scope="layer", schedule="gradual")
    model = workshop.build(trained)
    assert sum(isinstance(module, SparseLinear) for module in model.modules()) == len(workshop.subject.weights)
    other = workshop.build(trained.model_copy(update={"form": "masked"}))
    answers, others = (evaluation.logits(m, workshop.subject.examples) for m in (model, other))
    torch.testing.assert_close(answers, others, atol=1e-4, rtol=0)


def test_the_dense_model_is_left_as_it_was(measured):
    workshop, _ = measured
    stored, _ = zoo.load(workshop.subject.folder)
    assert all(torch.equal(a, b) for a, b in zip(workshop.subject.model.parameters(), stored.parameters(), strict=True))


def test_training_on_keeps_what_was_pruned_and_agreement_is_that_of_before(measured):
    workshop, found = measured
    for name in ("masked magnitude layer 0.9 gradual", "removed taylor heads-0.5 neurons-0.5 layers-0 one_shot"):
        trained, plain = found.loc[name], found.loc[name.rpartition(" ")[0]]
        assert trained["agreement"] == plain["agreement"]
        assert trained["sparsity"] == pytest.approx(plain["sparsity"], abs=1e-4)
    how = Configuration(form="masked", ratio=0.9, scope="layer", schedule="gradual")
    assert evaluation.evaluate(workshop.build(how), workshop.subject.examples).mean_loss < (
        evaluation.evaluate(workshop.build(how.untrained), workshop.subject.examples).mean_loss
    )


def test_a_second_call_answers_from_disk_the_very_same(measured):
    workshop, found = measured
    before = _files(workshop.folder)
    again = ConfigurationEvaluator(workshop.subject, BUDGET, UNMEASURED, 2).candidates(EVERY)
    pd.testing.assert_frame_equal(again.set_index("configuration"), found)
    assert _files(workshop.folder) == before


def test_costs_of_all_forms_are_timed_in_one_run_beside_their_metrics(measured):
    workshop, found = measured
    some = [one for one in SPACE.configurations() if one.name in ("dense", "sparse_kernel magnitude global 0.9")]
    costs = workshop.costs(some, 2).set_index(["configuration", "batch"])
    assert list(costs.index) == [(one.name, batch) for batch in evaluator.BATCHES for one in some]
    for (name, _), row in costs.iterrows():
        for column in ("form", "accuracy", "sparsity", "parameters_nonzero", "size_bytes"):
            assert row[column] == found.loc[name, column]
    assert (costs["latency_ms_p10"] <= costs["latency_ms_p90"]).all()
    assert set(costs["threads"]) == {torch.get_num_threads()}


def test_a_killed_run_measures_what_is_missing_and_no_more(own_subject, monkeypatch):
    monkeypatch.setattr(evaluator, "WINDOW_S", 0.0)
    meter, looks = _counting()
    ConfigurationEvaluator(own_subject, BUDGET, meter, 1).candidates(FEW[:1])
    each = len(looks)  # readings that one configuration takes
    (own_subject.folder / "configurations").rename(own_subject.folder / "first")
    killed, _ = _counting(stop_after=2 * each + each // 2)
    with pytest.raises(KeyboardInterrupt):
        ConfigurationEvaluator(own_subject, BUDGET, killed, 1).candidates(FEW)
    kept = _files(own_subject.folder / "configurations")
    assert len(kept) == 2
    meter, looks = _counting()
    found = ConfigurationEvaluator(own_subject, BUDGET, meter, 1).candidates(FEW)
    assert len(looks) == 2 * each
    assert found["configuration"].to_list() == [one.name for one in FEW]
    assert (found["energy_ratio"] > 0).all()
    assert found.loc[0, "energy_ratio"] == 1  # the dense model beside itself
    assert {
        path: stamp for path, stamp in _files(own_subject.folder / "configurations").items() if path in kept
    } == kept


def test_a_model_killed_before_it_replaces_an_earlier_one_is_trained_anew(own_subject, monkeypatch):
    how = Configuration(form="removed", neurons=0.5, schedule="one_shot")
    one, other = (
        ConfigurationEvaluator(own_subject, BUDGET.model_copy(update={"epochs": epochs}), UNMEASURED, 1)
        for epochs in (1, 2)
    )
    first = one.build(how)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Path, "rename", _kill)
        other.build(how)
    again = one.build(how)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def _kill(*_):
    raise KeyboardInterrupt


def test_another_budget_is_measured_and_trained_anew(own_subject, monkeypatch):
    monkeypatch.setattr(evaluator, "WINDOW_S", 0.0)
    how = [Configuration(form="masked", ratio=0.5, schedule="gradual")]
    first, again, same = (_counting() for _ in range(3))
    ConfigurationEvaluator(own_subject, BUDGET, first[0], 1).candidates(how)
    weights = next((own_subject.folder / "configurations").rglob("model.safetensors"))
    before = weights.read_bytes()
    longer = BUDGET.model_copy(update={"epochs": 2.0})
    ConfigurationEvaluator(own_subject, longer, again[0], 1).candidates(how)
    assert weights.read_bytes() != before
    ConfigurationEvaluator(own_subject, longer, same[0], 1).candidates(how)
    assert len(first[1]) == len(again[1]) > 0
    assert not same[1]


def test_what_is_kept_is_one_readable_file_each(measured):
    workshop, found = measured
    kept = [json.loads(path.read_text())["row"] for path in workshop.folder.glob("*.json")]
    assert sorted(row["configuration"] for row in kept) == sorted(found.index)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [({"ratios": [90]}, "ratios.0 is 90: input should be less than 1"), ({"shares": [1.0]}, "shares.0 is 1.0")],
)
def test_a_space_that_cannot_be_is_refused_in_one_sentence(changed, complaint):
    with pytest.raises(UserError, match=complaint) as refusal:
        space_of(**{"ratios": [0.5], "shares": [0.0], "layers": [0]} | changed)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("more", [{"ratio": 0.5}, {"schedule": "gradual"}])
def test_a_dense_configuration_with_zeros_or_training_is_refused(more):
    with pytest.raises(ValueError, match="a dense configuration is neither pruned nor trained on"):
        Configuration(form="dense", **more)
