from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from curves_to_learn import MODELS, THRESHOLDS, curves, models
from prunecast.errors import UserError
from prunecast.forecasting import ablation, pretrained, recommendation
from prunecast.surrogates import benchmark, conformal, splits
from prunecast.surrogates.baselines import (
    GaussianProcess,
    Isotonic,
    Logistic,
    MeanCurve,
    NearestCurve,
    StraightLine,
    Tabular,
    extra_trees,
)
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import (
    AGREEMENT,
    COLUMNS,
    CURVATURE,
    EFFECTIVE,
    FREE,
    KURTOSIS,
    curves_on,
    input_names,
    inputs,
    samples,
)
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.surrogates.scores import errors
from prunecast.sweeps import curve_metrics

KNOWN = curves()
BLIND = KNOWN.knowing(np.zeros(KNOWN.accuracy.shape, bool))
NAMES = ("lstm", "mean_curve", "straight_line")


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    return benchmark.forecast(KNOWN, ("points", "leave_one_model_out", "leave_one_architecture_out"), 0, {}, NAMES)


def _mae(rows: pd.DataFrame) -> pd.Series:
    return (rows["predicted"] - rows["accuracy"]).abs().groupby(rows["surrogate"]).mean()


def test_the_straight_line_recovers_a_straight_line():
    straight = replace(KNOWN, accuracy=0.9 - 0.05 * np.tile(THRESHOLDS, (12, 1)))
    assert StraightLine().fit(straight).predict(straight).predicted == pytest.approx(straight.accuracy)


def test_the_mean_curve_averages_what_it_saw_and_bridges_what_it_did_not():
    gap = replace(KNOWN, accuracy=np.where(THRESHOLDS[20] == THRESHOLDS, np.nan, KNOWN.accuracy))
    means = MeanCurve().fit(gap).means["global"]
    whole = KNOWN.retained[KNOWN.scopes == "global"].mean(0)
    assert np.delete(means, 20) == pytest.approx(np.delete(whole, 20))
    assert means[20] == pytest.approx(whole[[19, 21]].mean())


@pytest.mark.parametrize(
    "surrogate",
    [
        MeanCurve(),
        NearestCurve(),
        GaussianProcess(),
        Isotonic(),
        Tabular(lambda: extra_trees(0)),
        CurvePosterior(MeanCurve),
    ],
    ids=lambda surrogate: type(surrogate).__name__,
)
def test_a_measured_point_is_on_the_forecast_and_none_elsewhere_is_looked_at(surrogate):
    known = np.zeros(KNOWN.accuracy.shape, bool)
    known[:, [10, 25]] = True
    asked = KNOWN.knowing(known)
    fitted = surrogate.fit(KNOWN)
    found = fitted.predict(asked).predicted
    assert found[:, [10, 25]] == pytest.approx(KNOWN.accuracy[:, [10, 25]], abs=0.02)
    scrambled = replace(KNOWN, accuracy=KNOWN.accuracy[::-1].copy())
    scrambled.accuracy[:, [0, 10, 25]] = KNOWN.accuracy[:, [0, 10, 25]]
    assert np.array_equal(found, fitted.predict(scrambled.knowing(known)).predicted)


def test_a_logistic_curve_is_recovered_from_three_of_its_points():
    odds = np.log(np.clip(THRESHOLDS / 10, 1e-6, 1 - 1e-6) / (1 - np.clip(THRESHOLDS / 10, 1e-6, 1 - 1e-6)))
    left = 1 - 0.98 / (1 + np.exp(-(odds - 0.8) / 0.3))
    logistic = replace(KNOWN, accuracy=KNOWN.accuracy_of(np.tile(left, (12, 1))))
    known = np.zeros(KNOWN.accuracy.shape, bool)
    known[:, [26, 28, 31]] = True
    found = Logistic().fit(KNOWN).predict(logistic.knowing(known)).predicted
    assert np.abs(found - logistic.accuracy).mean() < 0.01


def test_the_lstm_forecasts_unseen_models_better_than_the_baselines(predictions):
    errors = _mae(predictions[predictions["protocol"] == "leave_one_model_out"])
    assert errors["lstm"] < 0.6 * errors["mean_curve"]
    assert errors["lstm"] < 0.6 * errors["straight_line"]


def test_curves_permuted_among_models_leave_the_lstm_no_skill():
    shuffled = ablation.permuted(KNOWN, 1)
    assert sorted(shuffled.retained[:, 20]) == pytest.approx(sorted(KNOWN.retained[:, 20]))
    found = _mae(benchmark.forecast(shuffled, ("leave_one_model_out",), 0, {}, ("lstm", "mean_curve")))
    assert found["lstm"] > 0.9 * found["mean_curve"]


def test_the_same_seed_gives_the_same_forecast_and_another_one_another():
    one, two, three = (
        CurvePosterior(lambda s=s: LSTMSurrogate(s), s).fit(KNOWN).predict(BLIND).lower for s in (3, 3, 4)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_points_that_are_hidden_are_not_learned_from_and_all_are_forecast(predictions):
    (fold,) = splits.points(KNOWN, 0)
    assert np.isnan(fold.training.accuracy[fold.hidden]).all()
    asked = predictions[(predictions["protocol"] == "points") & (predictions["surrogate"] == "lstm")]
    assert len(asked) == fold.hidden.sum()


@pytest.mark.parametrize("split", ["leave_one_model_out", "leave_one_architecture_out", "vgg16"])
def test_no_model_that_is_forecast_was_learned_from(split):
    for fold in splits.SPLITS[split](KNOWN, 0):
        assert not set(fold.training.models) & set(fold.tested.models)
        if split == "leave_one_architecture_out":
            assert not set(fold.training.facts["architecture"]) & set(fold.tested.facts["architecture"])
        if split == "vgg16":
            assert set(fold.training.facts["architecture"]) == {"bert", "electra", "gpt2"}
            assert set(fold.tested.facts["architecture"]) == {"vgg16_bn"}


def test_models_are_relatives_through_a_parent_or_an_architecture():
    table = pd.DataFrame(
        {"architecture": ["bert", "bert", "electra", "fc2", "fc12"], "parent": ["p", None, "p", None, None]}
    )
    bert, sibling, electra, shallow, deep = splits.relatives(table)
    assert bert == sibling == electra != shallow == deep


def test_few_shots_cost_what_they_say_and_are_not_forecast(predictions):
    three = predictions[(predictions["protocol"] == "few_shot_3") & (predictions["surrogate"] == "lstm")]
    assert (three["samples"] == 3 * 1000).all()
    assert (three["probes"] == 3).all()
    assert (three.groupby(["model", "scope"]).size() == len(THRESHOLDS) - 3).all()
    none = predictions[predictions["protocol"] == "leave_one_architecture_out"]
    assert _mae(three)["lstm"] < _mae(none)["lstm"]


def test_one_evaluation_is_not_overspent():
    outcomes = {name: _outcomes(index) for index, name in enumerate(KNOWN.names)}
    found = benchmark.forecast(KNOWN, ("leave_one_architecture_out",), 0, outcomes, ("lstm_agreement",))
    once = found[found["protocol"] == "one_evaluation"]
    assert set(once["surrogate"]) == {"lstm_agreement", "agreement"}
    assert (once["samples"] <= 1000).all()
    assert (once["samples"] > 500).all()


def _outcomes(index: int) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(index).random(100)
    correct = KNOWN.accuracy[index][:, None] > chance
    return correct == correct[0], correct


def test_the_interval_holds_nine_points_of_ten_and_contains_its_forecast(predictions):
    rows = predictions[predictions["protocol"] == "leave_one_architecture_out"]
    lstm = rows[rows["surrogate"] == "lstm"]
    assert lstm["predicted"].between(lstm["lower"] - 1e-5, lstm["upper"] + 1e-5).all()
    inside = rows["accuracy"].between(rows["lower"], rows["upper"])
    assert 0.8 < inside.mean() <= 1


def test_the_margin_is_the_quantile_over_models_not_points():
    scores = np.concatenate([np.zeros(1000), np.ones(10)])
    named = np.array(["many"] * 1000 + ["few"] * 10)
    assert conformal.interval_margin(scores, named, 0.5) == 0
    assert conformal.interval_margin(scores, named, 0.6) == 1


def test_the_search_recommends_only_what_was_measured_and_ends_at_the_optimum():
    found = pd.concat(recommendation.searched(KNOWN, recommendation.by_halves, 0.01, 6))
    assert (found["loss"] <= 0.01).all()
    last = found[found["measurements"] == 6]
    assert last["recommended"].to_numpy() == pytest.approx(last["optimum"].to_numpy(), abs=0.026)


def test_a_forecast_is_trusted_less_where_other_models_were_unsafe():
    bold = recommendation.unverified(KNOWN, KNOWN.accuracy + np.where(KNOWN.sparsity < 0.9, 0.3, 0), 0.01)
    true = recommendation.unverified(KNOWN, KNOWN.accuracy, 0.01)
    assert (true["recommended"] == true["optimum"]).all()
    assert (bold["loss"] <= 0.05).mean() >= 0.8


@pytest.mark.parametrize("epsilon", [0, 1, -0.1, 3])
def test_an_epsilon_that_no_one_could_give_up_is_refused(epsilon):
    with pytest.raises(UserError, match="between 0 and 1"):
        curve_metrics.check_epsilon(epsilon)


def test_inputs_are_named_and_priced():
    assert input_names((*FREE, AGREEMENT))[-1] == "agreement"
    assert inputs(KNOWN, FREE).shape == (*KNOWN.accuracy.shape, 8)
    assert inputs(KNOWN, (*FREE, EFFECTIVE)).shape[-1] == 8 + 3
    assert inputs(KNOWN, (*FREE, KURTOSIS)).shape[-1] == 8 + 1
    assert samples((*FREE, EFFECTIVE, KURTOSIS)) == 0
    assert samples([AGREEMENT]) == 8 * 22
    assert samples([CURVATURE]) == 32 * 3


@pytest.mark.parametrize("groups", ablation.ABLATIONS.values(), ids=ablation.ABLATIONS)
def test_every_set_of_inputs_can_be_named_and_read(groups):
    assert inputs(KNOWN, groups).shape[-1] - (AGREEMENT in groups) == len(input_names(groups))


def test_a_frozen_surrogate_forecasts_the_same_after_it_was_loaded(tmp_path):
    warped = CurvePosterior(lambda: LSTMSurrogate(0, pretrained.GROUPS), 0).fit(KNOWN)
    ranges = {"prunable_parameters": (1e5, 1e7), "layers": (4.0, 20.0), "classes": (2.0, 8.0)}
    kept = pretrained.PretrainedSurrogate(warped, ranges, 0.02, {0.01: 0.5, 0.1: 0.2}, tuple(MODELS))
    pretrained.save(kept, tmp_path)
    loaded = pretrained.load(tmp_path)
    assert np.array_equal(kept.forecast(BLIND).lower, loaded.forecast(BLIND).lower)
    assert loaded.recommended(BLIND, 0.05) == pytest.approx(kept.recommended(BLIND, 0.05))


def test_a_model_outside_the_training_range_gets_a_wider_interval_and_a_sentence():
    warped = CurvePosterior(lambda: LSTMSurrogate(0, pretrained.GROUPS), 0).fit(KNOWN)
    kept = pretrained.PretrainedSurrogate(warped, {"classes": (2.0, 8.0)}, 0.02, {0.01: 0.5}, tuple(MODELS))
    strange = replace(BLIND, facts=BLIND.facts.assign(classes=1000))
    assert kept.doubts(BLIND) == []
    assert kept.doubts(strange) == ["classes is 1,000, outside the 2 to 8 of the training models"]
    strict = pretrained.PretrainedSurrogate(warped, {"classes": (2.0, 3.0)}, 0.02, {0.01: 0.5}, tuple(MODELS)).forecast(
        BLIND
    )
    easy = kept.forecast(BLIND)
    assert (strict.upper - strict.lower).mean() > (easy.upper - easy.lower).mean()


def test_the_leaderboard_can_be_recomputed_from_the_predictions(predictions):
    board = errors(predictions, models(), seed=0)
    rows = predictions.query("protocol == 'leave_one_model_out' and surrogate == 'lstm'")
    summary = board.loc[("leave_one_model_out", "percentile", "lstm")]
    assert summary["mae"] == pytest.approx((rows["predicted"] - rows["accuracy"]).abs().mean())
    assert summary["low"] < summary["mae"] < summary["high"]
    line = board.loc[("leave_one_model_out", "percentile", "straight_line"), "mae"]
    assert summary["gain"] == pytest.approx(1 - summary["mae"] / line)


def test_the_bootstrap_interval_is_as_wide_as_the_models_differ():
    rows = pd.DataFrame({"model": np.repeat(MODELS, 50), "accuracy": 0.5, "scope": "global", "threshold": 1.0})
    rows = rows.assign(protocol="points", axis="sigma", surrogate="lstm", lower=0.0, upper=1.0, samples=0)
    alike = errors(rows.assign(predicted=0.6), models(), seed=0).iloc[0]
    halves = rows.assign(predicted=np.repeat([0.5, 0.5, 0.5, 0.7, 0.7, 0.7], 50))
    apart = errors(halves, models(), seed=0).iloc[0]
    assert alike["high"] - alike["low"] == pytest.approx(0)
    assert apart["mae"] == pytest.approx(alike["mae"])
    assert apart["high"] - apart["low"] > 0.05


def test_tables_become_curves_with_signals_read_at_their_sparsity():
    sweeps = pd.DataFrame(
        {
            "model": ["b", "b", "a", "a"], "scope": "layer", "axis": "sigma", "threshold": [1.0, 0.0, 0.0, 1.0],
            "sparsity": [0.3, 0.0, 0.0, 0.4], "accuracy": [0.7, 0.8, 0.9, 0.6],
        }
    )  # fmt: skip
    random = sweeps.assign(criterion="random", accuracy=0.1)
    sweeps = pd.concat([random, sweeps.assign(criterion="magnitude"), sweeps.assign(criterion="magnitude", model="c")])
    table = pd.DataFrame({"model": ["a", "b"], "dense_accuracy": [0.9, 0.8], "majority_accuracy": [0.1, 0.5]})
    steps = pd.DataFrame({"threshold": [0.0, 5.0, 10.0], "sparsity": [0.0, 0.5, 1.0], "scope": "layer"})
    signals = pd.concat([steps.assign(model=name, **dict.fromkeys(COLUMNS, steps["sparsity"])) for name in "ab"])
    found = curves_on("sigma", sweeps, table, signals)
    assert found.names == [("a", "layer"), ("b", "layer")]
    assert found.accuracy.tolist() == [[0.9, 0.6], [0.8, 0.7]]
    assert found.majority[:, 0].tolist() == [0.1, 0.5]
    assert found.signals[0, 1, 0] == pytest.approx(0.4)
