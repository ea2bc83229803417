import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import Pruner, Scope, cut, pruned_counts, rank
from prunecast.surrogates import benchmark
from prunecast.sweeps import proxies
from prunecast.sweeps.sweeper import grid
from tiny import apart

THRESHOLDS = grid(11)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_depletion_is_the_share_of_squares_that_pruning_takes_from_each_layer(
    subject: TrainedModel, scope: Scope
) -> None:
    rows = proxies.weight_proxies(subject.weights, THRESHOLDS).query("scope == @scope").set_index("threshold")
    ranking = rank(subject.weights, magnitude, scope)

    def squares() -> np.ndarray:
        return np.array([float((weight.detach().double() ** 2).sum()) for weight in subject.weights.values()])

    whole = squares()
    with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
        pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", 6)))
        lost = 1 - squares() / whole
    row = rows[rows.index == 6.0].iloc[0]
    expected = [lost.max(), lost.mean(), lost[0], lost[-1]]
    assert row[["lost_max", "lost_mean", "lost_first", "lost_last"]].to_list() == pytest.approx(expected, abs=1e-5)
    assert row["sparsity"] == pytest.approx(0.6, abs=1e-4)
    assert rows["lost_max"].iloc[-1] == pytest.approx(1)


def test_nothing_is_lost_of_a_layer_of_zeros_and_all_proxies_are_numbers() -> None:
    """Two of three layers are zero or constant; in global scope the zeros are pruned first, layer after layer."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        "random": torch.randn(20, 10, generator=generator),
        "zero": torch.zeros(30, 10),
        "constant": torch.full((10, 10), 5.0),
    }
    rows = proxies.weight_proxies(weights, THRESHOLDS)
    assert np.isfinite(rows.drop(columns="scope").to_numpy(float)).all()
    assert rows["sparsity"].to_list() == pytest.approx([*np.linspace(0, 1, 11)] * 2)
    squares = np.sort(weights["random"].double().flatten().numpy() ** 2)
    lost = rows[rows["scope"] == "global"].set_index("threshold")["lost_first"]
    assert lost[5.0] == 0  # 300 of 600, the zeros
    assert lost[7.0] == pytest.approx(squares[:120].sum() / squares.sum())
    mean = rows[(rows["scope"] == "layer") & (rows["threshold"] == 5)].iloc[0]["lost_mean"]
    assert mean == pytest.approx((squares[:100].sum() / squares.sum() + 0 + 0.5) / 3)
    assert (rows["n_eff_lowest"] == 0).all()
    assert (rows["n_eff_highest"] == 1).all()
    kurtosis = rows["kurtosis"].iloc[0] * 3 - 1 - 1
    assert kurtosis == pytest.approx(float(pd.Series(weights["random"].double().flatten()).pipe(_kurtosis)))


def _kurtosis(values: "pd.Series[float]") -> float:
    centred = values - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2)


def test_all_proxies_of_a_model_with_a_layer_of_zeros_are_numbers(subject: TrainedModel) -> None:
    emptied = replace(subject, model=copy.deepcopy(subject.model))
    with torch.no_grad():
        next(iter(emptied.weights.values())).zero_()
    measured = proxies.measure(emptied, 11, 10)["signals"]
    assert np.isfinite(measured.drop(columns=["scope", "model"]).to_numpy(float)).all()


def test_effective_numbers_are_those_of_the_mean_the_most_and_the_least_unequal_layer() -> None:
    weights = {"equal": torch.tensor([[2.0, -2.0], [2.0, 2.0]]), "one": torch.tensor([[0.0, 5.0, 0.0, 0.0]])}
    rows = proxies.weight_proxies(weights, THRESHOLDS)
    assert (rows["n_eff_lowest"] == 1 / 4).all()
    assert (rows["n_eff"] == 5 / 8).all()
    assert (rows["n_eff_highest"] == 1).all()


def test_curvature_grows_with_the_weights_pruned_and_leaves_the_model_unchanged(subject: TrainedModel) -> None:
    before = {name: weight.detach().clone() for name, weight in subject.weights.items()}
    curvatures = proxies.curvature(subject.model, subject.weights, subject.examples, np.arange(4), THRESHOLDS)
    for _, rows in curvatures.groupby("scope"):
        assert rows["curvature"].iloc[0] == 0
        assert (rows["curvature"].diff().dropna() >= 0).all()
        assert rows["curvature"].iloc[-1] > 0
    assert all(torch.equal(before[name], weight) for name, weight in subject.weights.items())


def test_probes_give_the_outcome_of_an_evaluation_for_each_example(subject: TrainedModel) -> None:
    rows = proxies.sample(subject.examples, 20, 0)
    agrees, correct = proxies.probe(subject.model, subject.weights, subject.examples, rows, "global", [0.0, 9.5, 10.0])
    assert agrees[0].all()
    assert correct[0].tolist() == evaluate(subject.model, subject.examples, torch.from_numpy(rows)).correct.tolist()
    for point, threshold in ((1, 9.5), (2, 10.0)):
        ranking = rank(subject.weights, magnitude, "global")
        with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
            pruner.prune(cut(ranking, pruned_counts(ranking, "percentile", threshold)))
            expected = evaluate(subject.model, subject.examples, torch.from_numpy(rows)).correct
        assert correct[point].tolist() == expected.tolist()


def test_proxies_are_measured_once_and_probes_are_read_back_as_measured(
    tiny_models: object, subject: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(subject, paths.run("small") / "models")
    first = proxies.probed(["tiny"], "small", 11, 20, 1, 0)
    monkeypatch.setattr(proxies, "measure", None)
    again = proxies.probed(["tiny"], "small", 11, 20, 1, 0)
    for table in proxies.TABLES:
        assert first[table].equals(again[table])
        tables.validate(table, first[table])
    agrees, correct = benchmark.outcomes_of(first["probes"], np.array(THRESHOLDS))["tiny", "layer"]
    rows = proxies.sample(subject.examples, 20, 0)
    measured = proxies.probe(subject.model, subject.weights, subject.examples, rows, "layer", THRESHOLDS)
    assert np.array_equal(agrees, measured[0])
    assert np.array_equal(correct, measured[1])


def test_a_stride_evaluates_fewer_thresholds_and_leaves_the_proxies_as_they_are(subject: TrainedModel) -> None:
    whole, strided = proxies.measure(subject, 101, 10), proxies.measure(subject, 101, 10, stride=5)
    pd.testing.assert_frame_equal(strided["signals"], whole["signals"])
    assert set(strided["probes"]["from_threshold"] * 2 % 1) == {0.0}
    with pytest.raises(UserError, match="stride is 3; it must divide 5"):
        proxies.measure(subject, 101, 10, stride=3)
