import numpy as np
import pytest
import torch
from prunecast import tables
from prunecast.errors import UserError
from prunecast.forecasting import predict, pretrained
from prunecast.models import checkpoints
from prunecast.models.evaluation import evaluate
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import Pruner, cut, pruned_counts, rank
from prunecast.surrogates import benchmark
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import unmeasured
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.sweeps import proxies
from prunecast.sweeps.sweeper import grid

THRESHOLDS = grid(11)


@pytest.fixture
def subject(tiny_models):
    return checkpoints.trained_classifier("tiny", "small", 0)


@pytest.fixture
def surrogate(subject):
    """A surrogate that learned from one curve, for what a forecast needs beside skill."""
    found = predict._signals(subject)
    curves = unmeasured(predict._facts(subject, 1.0), found)
    falling = curves.accuracy_of(1 - curves.sparsity**4)
    known = curves.__class__(**{**vars(curves), "accuracy": falling})
    warped = CurvePosterior(lambda: LSTMSurrogate(0, pretrained.GROUPS), 0).fit(known)
    return pretrained.PretrainedSurrogate(warped, {"layers": (1.0, 99.0)}, 0.02, {0.01: 0.1, 0.1: 0.1}, ("tiny",))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_depletion_is_what_pruning_really_takes_from_each_layer(subject, scope):
    found = proxies.weight_proxies(subject.weights, THRESHOLDS).query("scope == @scope").set_index("threshold")
    ranking = rank(subject.weights, magnitude, scope)
    whole = {name: float((weight.double() ** 2).sum()) for name, weight in subject.weights.items()}
    with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
        pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", 6)))
        lost = [1 - float((weight.double() ** 2).sum()) / whole[name] for name, weight in subject.weights.items()]
    row = found.loc[6.0]
    expected = [max(lost), np.mean(lost), lost[0], lost[-1]]
    assert row[["lost_max", "lost_mean", "lost_first", "lost_last"]].to_list() == pytest.approx(expected, abs=1e-5)
    assert row["sparsity"] == pytest.approx(0.6, abs=1e-4)
    assert found["lost_max"].iloc[-1] == pytest.approx(1)


def test_effective_numbers_are_those_of_the_mean_the_most_and_the_least_unequal_layer():
    weights = {"equal": torch.tensor([[2.0, -2.0], [2.0, 2.0]]), "one": torch.tensor([[0.0, 5.0, 0.0, 0.0]])}
    found = proxies.weight_proxies(weights, THRESHOLDS)
    assert (found["n_eff_lowest"] == 1 / 4).all()
    assert (found["n_eff"] == 5 / 8).all()
    assert (found["n_eff_highest"] == 1).all()


def test_curvature_grows_with_what_is_pruned_and_leaves_the_model_alone(subject):
    before = {name: weight.detach().clone() for name, weight in subject.weights.items()}
    found = proxies.curvature(subject.model, subject.weights, subject.examples, np.arange(4), THRESHOLDS)
    for _, rows in found.groupby("scope"):
        assert rows["curvature"].iloc[0] == 0
        assert (rows["curvature"].diff().dropna() >= 0).all()
        assert rows["curvature"].iloc[-1] > 0
    assert all(torch.equal(before[name], weight) for name, weight in subject.weights.items())


def test_probes_say_of_each_example_what_an_evaluation_says(subject):
    rows = proxies.sample(subject.examples, 20, 0)
    agrees, correct = proxies.probe(subject.model, subject.weights, subject.examples, rows, "global", [0.0, 9.5, 10.0])
    assert agrees[0].all()
    assert correct[0].tolist() == evaluate(subject.model, subject.examples, torch.from_numpy(rows)).correct.tolist()
    for point, threshold in ((1, 9.5), (2, 10.0)):
        ranking = rank(subject.weights, magnitude, "global")
        with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
            pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", threshold)))
            found = evaluate(subject.model, subject.examples, torch.from_numpy(rows)).correct
        assert correct[point].tolist() == found.tolist()


def test_signals_are_measured_once_and_probes_come_back_as_they_were(subject, monkeypatch):
    first = proxies.probed(["tiny"], "small", 11, 20, 0)
    monkeypatch.setattr(proxies, "measure", None)
    again = proxies.probed(["tiny"], "small", 11, 20, 0)
    for table in proxies.TABLES:
        assert first[table].equals(again[table])
        tables.validate(table, first[table])
    agrees, correct = benchmark.outcomes_of(first["probes"], np.array(THRESHOLDS))["tiny", "layer"]
    rows = proxies.sample(subject.examples, 20, 0)
    measured = proxies.probe(subject.model, subject.weights, subject.examples, rows, "layer", THRESHOLDS)
    assert np.array_equal(agrees, measured[0])
    assert np.array_equal(correct, measured[1])


def test_a_checkpoint_is_forecast_pruned_saved_and_read_back(subject, surrogate, tmp_path):
    loaded, tokenizer = predict.subject_of(str(subject.folder), "colours")
    dense = evaluate(loaded.model, loaded.examples).accuracy
    found = predict.predict(loaded, surrogate, 0.05, dense)
    assert set(found.recommended) == {"global", "layer"}
    assert len(found.curve) == 2 * 101
    assert (found.curve["lower"] <= found.curve["upper"]).all()
    assert found.curve["predicted"].iloc[0] == pytest.approx(dense)
    ratio, safe = predict.largest_safe(loaded, "layer", 0.05, found.recommended["layer"])
    assert safe.accuracy >= dense - 0.05
    assert 0 < ratio < 1
    predict.save_pruned(loaded, tokenizer, "layer", ratio, tmp_path / "pruned")
    again, _ = predict.subject_of(str(tmp_path / "pruned"), "colours")
    zeros = sum(int((weight == 0).sum()) for weight in again.weights.values())
    assert zeros / sum(weight.numel() for weight in again.weights.values()) == pytest.approx(ratio, abs=1e-3)
    assert evaluate(again.model, again.examples).accuracy == safe.accuracy
    assert evaluate(loaded.model, loaded.examples).accuracy == dense
    predict.save_pruned(loaded, tokenizer, "layer", ratio + 0.01, tmp_path / "further")
    further, _ = predict.subject_of(str(tmp_path / "further"), "colours")
    assert evaluate(further.model, further.examples).accuracy < dense - 0.05
    with pytest.raises(UserError, match="between 0 and 1"):
        predict.largest_safe(loaded, "layer", 1.5, 0.5)


@pytest.mark.parametrize(("dense", "epsilon", "sentence"), [(0.35, 0.01, "not learned"), (1.0, 1.5, "between 0 and 1")])
def test_what_has_no_curve_to_forecast_is_refused_in_one_sentence(subject, surrogate, dense, epsilon, sentence):
    with pytest.raises(UserError, match=sentence) as refusal:
        predict.predict(subject, surrogate, epsilon, dense)
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_of_other_classes_is_refused(subject):
    with pytest.raises(UserError, match="tells 3 classes apart, task 'docstrings' has"):
        predict.subject_of(str(subject.folder), "docstrings")
