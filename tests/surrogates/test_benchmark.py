from dataclasses import replace

import numpy as np
import pytest
from curves_to_learn import EXAMPLES, KNOWN, MODELS, THRESHOLDS, UNKNOWN, baseline_predictions, mean_errors, predictions
from numpy.typing import NDArray
from prunecast.surrogates import benchmark, lstm, splits


def test_all_hidden_points_are_forecast_and_no_others() -> None:
    (fold,) = splits.points(KNOWN, 0)
    assert fold.hidden is not None
    rows = baseline_predictions()
    rows = rows[(rows["protocol"] == "points") & (rows["surrogate"] == "mean_curve")]
    hidden = {(*KNOWN.names[curve], THRESHOLDS[step]) for curve, step in np.argwhere(fold.hidden)}
    assert set(rows[["model", "scope", "threshold"]].itertuples(index=False, name=None)) == hidden
    assert len(rows) == len(hidden)


@pytest.mark.slow
def test_few_shots_cost_their_evaluations_and_are_not_forecast() -> None:
    rows = predictions()
    rows = rows[rows["surrogate"] == "lstm"]
    three = rows[rows["protocol"] == "few_shot_3"]
    assert (three["samples"] == 3 * EXAMPLES).all()
    assert (three["probes"] == 3).all()
    assert (three.groupby(["model", "scope"]).size() == len(THRESHOLDS) - 3 - 1).all()  # nor is the dense point
    none = rows[rows["protocol"] == "leave_one_architecture_out"]
    assert mean_errors(three)["lstm"] < mean_errors(none)["lstm"]


def test_one_evaluation_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lstm, "STEPS", 20)  # the cost does not depend on the quality
    few = KNOWN.at(np.isin(KNOWN.models, MODELS[3:5]))  # of two architectures: two surrogates to train
    outcomes = {name: _outcomes(KNOWN.names.index(name)) for name in few.names}
    rows = benchmark.forecast(few, ("leave_one_architecture_out",), 0, outcomes, ("lstm_agreement",))
    once = rows[rows["protocol"] == "one_evaluation"]
    assert set(once["surrogate"]) == {"lstm_agreement", "agreement"}
    assert (once.groupby(["surrogate", "model", "scope"]).size() == len(THRESHOLDS) - 1).all()
    assert (once["samples"] <= EXAMPLES).all()
    assert (once["samples"] > EXAMPLES / 2).all()
    reused = rows[rows["protocol"] == "one_evaluation_reused"].set_index(["model", "scope", "threshold"])
    ours = once[once["surrogate"] == "lstm_agreement"].set_index(["model", "scope", "threshold"])
    assert ours["predicted"].equals(reused["predicted"])
    for name in few.names:  # the truth of the rest: all examples less the first ones, whose labels were spent
        spent = round((reused.loc[name, "samples"].iloc[0] - 8 * 22) / 5)
        correct = outcomes[name][1][:, :spent].sum(1)[1:]
        rest = (KNOWN.accuracy[KNOWN.names.index(name), 1:] * EXAMPLES - correct) / (EXAMPLES - spent)
        assert ours.loc[name, "accuracy"].to_numpy() == pytest.approx(rest, abs=1e-5)


def test_few_shots_are_given_and_judged_where_all_points_were_measured() -> None:
    measured = np.ones(KNOWN.accuracy.shape, bool)
    measured[2:, 5] = False
    rows = benchmark.forecast(
        replace(KNOWN, measured=measured), ("leave_one_architecture_out",), 0, {}, ("mean_curve",)
    )
    shots, none = (rows[rows["protocol"] == name] for name in ("few_shot_1", "leave_one_architecture_out"))
    assert set(shots["model"]) == {MODELS[0]}
    assert set(none["model"]) == set(MODELS)
    assert (~none["measured"]).sum() == len(KNOWN.names) - 2


def test_no_forecast_of_the_dense_point_is_judged_and_every_surrogate_passes_through_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lstm, "STEPS", 5)
    assert (baseline_predictions()["threshold"] > 0).all()
    for name, entry in benchmark.ENTRIES.items():
        forecast = entry.make(0).fit(KNOWN).predict(UNKNOWN)
        assert forecast.predicted[:, 0] == pytest.approx(KNOWN.accuracy[:, 0], abs=1e-6), name


def _outcomes(index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    chance = np.random.default_rng(index).random(100)
    correct = KNOWN.accuracy[index][:, None] > chance
    return correct == correct[0], correct
