import numpy as np
import pandas as pd
import pytest
from prunecast.surrogates import leaderboard, protocols
from prunecast.surrogates.baselines import MeanCurve, StraightLine
from prunecast.surrogates.features import Curves, curves_on
from prunecast.surrogates.lstm import LSTMSurrogate

THRESHOLDS = np.linspace(0, 10, 41)
MODELS = [f"model{index}" for index in range(6)]


@pytest.fixture(scope="module")
def curves() -> Curves:
    """Six models, two scopes: each falls where its majority accuracy says, so that a context can be learnt."""
    names = [(model, scope) for model in MODELS for scope in ("global", "layer")]
    majority = np.repeat(np.linspace(0.1, 0.5, len(MODELS)), 2)
    fall = 3 + 8 * majority + np.tile([0.0, 1.5], len(MODELS))
    left = 1 / (1 + np.exp(2.5 * (THRESHOLDS - fall[:, None])))
    accuracy = majority[:, None] + (0.9 - majority[:, None]) * left
    scope = np.tile([0.0, 1.0], len(MODELS))
    context = np.column_stack([np.full(12, 0.9), majority, np.full(12, 0.5), np.full(12, 0.6), scope])
    return Curves("percentile", names, THRESHOLDS, np.tile(THRESHOLDS / 10, (12, 1)), accuracy, context)


@pytest.fixture(scope="module")
def predictions(curves) -> pd.DataFrame:
    surrogates = {"lstm": LSTMSurrogate, "straight_line": StraightLine, "mean_curve": MeanCurve}
    return protocols.forecast(curves, surrogates, seed=0)


def _models() -> pd.DataFrame:
    return pd.DataFrame(
        {"model": MODELS, "dense_accuracy": 0.9, "majority_accuracy": np.linspace(0.1, 0.5, len(MODELS))}
    )


def test_the_straight_line_recovers_a_straight_line(curves):
    straight = 0.9 - 0.05 * np.tile(THRESHOLDS, (12, 1))
    known = Curves(curves.axis, curves.names, THRESHOLDS, curves.sparsity, straight, curves.context)
    half = np.random.default_rng(0).random(straight.shape) < 0.5
    assert StraightLine().fit(known, half).predict(known) == pytest.approx(straight)


def test_the_mean_curve_averages_what_it_saw_and_bridges_what_it_did_not(curves):
    seen = np.ones_like(curves.accuracy, dtype=bool)
    assert MeanCurve().fit(curves, seen).predict(curves)[0] == pytest.approx(curves.accuracy.mean(0))
    seen[:, 20] = False
    bridged = curves.accuracy.mean(0)[[19, 21]].mean()
    assert MeanCurve().fit(curves, seen).predict(curves)[0, 20] == pytest.approx(bridged)


def test_the_lstm_forecasts_unseen_models_better_than_the_baselines(predictions):
    unseen = predictions[predictions["protocol"] == "leave_one_model_out"]
    errors = (unseen["predicted"] - unseen["accuracy"]).abs().groupby(unseen["surrogate"]).mean()
    assert errors["lstm"] < 0.6 * errors["mean_curve"] < errors["straight_line"]


def test_shuffled_curves_leave_the_lstm_no_skill(curves):
    order = np.array([6, 7, 2, 3, 10, 11, 0, 1, 8, 9, 4, 5])
    shuffled = Curves(curves.axis, curves.names, THRESHOLDS, curves.sparsity, curves.accuracy[order], curves.context)
    found = protocols.forecast(shuffled, {"lstm": LSTMSurrogate, "mean_curve": MeanCurve}, seed=0)
    unseen = found[found["protocol"] == "leave_one_model_out"]
    errors = (unseen["predicted"] - unseen["accuracy"]).abs().groupby(unseen["surrogate"]).mean()
    assert errors["lstm"] > 0.9 * errors["mean_curve"]


def test_the_same_seed_gives_the_same_forecast(curves):
    seen = np.ones_like(curves.accuracy, dtype=bool)
    one, two = (LSTMSurrogate(seed=3).fit(curves, seen).predict(curves) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_no_point_is_both_learnt_from_and_forecast(curves, name):
    folds = list(protocols.PROTOCOLS[name](curves, 0))
    for seen, held_out in folds:
        assert not (seen & held_out).any()
    if name == "leave_one_model_out":
        assert len(folds) == len(MODELS)
        for seen, held_out in folds:
            hidden = set(curves.models[held_out.any(axis=1)])
            assert len(hidden) == 1
            assert hidden.isdisjoint(curves.models[seen.any(axis=1)])


def test_an_unseen_model_was_probed_nowhere_and_is_forecast_everywhere(predictions):
    unseen = predictions[predictions["protocol"] == "leave_one_model_out"]
    assert (unseen["probes"] == 0).all()
    assert (unseen.groupby(["surrogate", "model", "scope"]).size() == len(THRESHOLDS)).all()
    assert (predictions[predictions["protocol"] == "points"]["probes"] > 0).all()


def test_the_leaderboard_can_be_recomputed_from_the_predictions(predictions):
    board = leaderboard.errors(predictions, _models(), seed=0)
    rows = predictions.query("protocol == 'points' and surrogate == 'lstm'")
    summary = board.loc[("points", "percentile", "lstm")]
    assert summary["mae"] == pytest.approx((rows["predicted"] - rows["accuracy"]).abs().mean())
    assert summary["low"] < summary["mae"] < summary["high"]


def test_the_interval_is_as_wide_as_the_models_differ():
    rows = pd.DataFrame({"model": np.repeat(MODELS, 50), "accuracy": 0.5, "scope": "global", "threshold": 1.0})
    rows = rows.assign(protocol="points", axis="sigma", surrogate="lstm")
    alike = leaderboard.errors(rows.assign(predicted=0.6), _models(), seed=0).iloc[0]
    apart = leaderboard.errors(rows.assign(predicted=np.repeat([0.5, 0.5, 0.5, 0.7, 0.7, 0.7], 50)), _models(), 0).iloc[
        0
    ]
    assert alike["high"] - alike["low"] == pytest.approx(0)
    assert apart["mae"] == pytest.approx(alike["mae"])
    assert apart["high"] - apart["low"] > 0.05


def test_tables_become_curves_with_their_own_context():
    sweeps = pd.DataFrame(
        {
            "model": ["b", "b", "a", "a"], "scope": "layer", "axis": "sigma", "threshold": [1.0, 0.0, 0.0, 1.0],
            "sparsity": [0.3, 0.0, 0.0, 0.4], "accuracy": [0.7, 0.8, 0.9, 0.6],
        }
    )  # fmt: skip
    random = sweeps.assign(criterion="random", accuracy=0.1)
    sweeps = pd.concat([random, sweeps.assign(criterion="magnitude"), sweeps.assign(criterion="magnitude", model="c")])
    models = pd.DataFrame({"model": ["a", "b"], "dense_accuracy": [0.9, 0.8], "majority_accuracy": [0.1, 0.5]}).assign(
        classes=10, prunable_parameters=10**6
    )
    found = curves_on("sigma", sweeps, models)
    assert found.names == [("a", "layer"), ("b", "layer")]
    assert found.accuracy.tolist() == [[0.9, 0.6], [0.8, 0.7]]
    assert found.dense_accuracy[:, 0].tolist() == [0.9, 0.8]
    assert found.context[0].tolist() == pytest.approx([0.9, 0.1, 1.0, 0.6, 1.0])


def test_the_gain_is_the_share_of_the_straight_lines_error_that_is_avoided(predictions):
    board = leaderboard.errors(predictions, _models(), seed=0)["gain"].xs("points", level="protocol").droplevel("axis")
    errors = (predictions["predicted"] - predictions["accuracy"]).abs()[predictions["protocol"] == "points"]
    mae = errors.groupby(predictions["surrogate"]).mean()
    assert board["straight_line"] == 0
    assert board["lstm"] == pytest.approx(1 - mae["lstm"] / mae["straight_line"])
