import numpy as np
import pandas as pd
import pytest
from curves_to_learn import MODELS, baseline_predictions, models
from prunecast.surrogates.scores import errors


def _rows(**columns: object) -> pd.DataFrame:
    """Fifty measured points of each model, forecast without an error unless `columns` say otherwise."""
    rows = pd.DataFrame({"model": np.repeat(MODELS, 50), "accuracy": 0.5, "scope": "global", "threshold": 1.0})
    facts = {"protocol": "points", "axis": "sigma", "surrogate": "lstm", "samples": 0, "measured": True}
    return rows.assign(**facts, predicted=0.5, lower=0.0, upper=1.0).assign(**columns)


def test_the_scores_can_be_recomputed_from_the_predictions() -> None:
    rows = baseline_predictions()
    board = errors(rows, models(), seed=0).to_dict("index")
    absolute = (rows["predicted"] - rows["accuracy"]).abs()
    by_curve = absolute.groupby([rows["protocol"], rows["surrogate"], rows["model"], rows["scope"]]).mean()
    for protocol in ("points", "leave_one_model_out"):
        mean, line = by_curve[protocol, "mean_curve"].mean(), by_curve[protocol, "straight_line"].mean()
        summary = board[protocol, "percentile", "mean_curve"]
        assert summary["mae"] == pytest.approx(mean)
        assert summary["low"] < summary["mae"] < summary["high"]
        assert summary["gain"] == pytest.approx(1 - mean / line)


def test_points_that_were_interpolated_do_not_count_as_truth() -> None:
    wrong = np.tile(np.arange(50) < 40, len(MODELS))
    summary = errors(_rows(predicted=np.where(wrong, 0.9, 0.6), measured=~wrong), models(), seed=0).iloc[0]
    assert summary["mae"] == pytest.approx(0.1)
    assert summary["all_points"] == pytest.approx(0.8 * 0.4 + 0.2 * 0.1)
    assert np.isnan(summary["exact"])


def test_a_curve_has_the_same_weight_however_many_of_its_points_were_measured() -> None:
    first = np.arange(len(MODELS) * 50) < 50
    rows = _rows(predicted=np.where(first, 0.5, 0.6), measured=first | (np.arange(len(first)) % 50 == 7))
    summary = errors(rows, models(), seed=0).iloc[0]
    assert summary["mae"] == pytest.approx(0.1 * 5 / 6)
    assert summary["exact"] == pytest.approx(0)


def test_the_interval_resamples_groups_of_relatives() -> None:
    """model0 and model1 share a family: of five groups, that of both has two sixths of the curves."""
    generator = np.random.default_rng(0)
    by_model = np.array([0.2, 0.2, 0.0, 0.0, 0.0, 0.0])
    board = errors(_rows(predicted=0.5 + np.repeat(by_model, 50)), models(), seed=0).iloc[0]
    draws = generator.integers(5, size=(20000, 5))
    pairs = np.array([[0.4, 2], [0, 1], [0, 1], [0, 1], [0, 1]])[draws].sum(1)
    low, high = np.percentile(pairs[:, 0] / pairs[:, 1], [5, 95])
    assert [board["low"], board["high"]] == pytest.approx([low, high], abs=0.02)


def test_below_five_groups_there_is_no_interval() -> None:
    rows = _rows(predicted=0.6)
    few = errors(rows[~rows["model"].isin(MODELS[4:])], models(), seed=0).iloc[0]
    assert few["relatives"] == 3
    assert np.isnan(few[["low", "high"]]).all()
    assert few["mae"] == pytest.approx(0.1)


def test_a_difference_is_paired() -> None:
    """Two surrogates with the same large spread over models, one always worse by 0.05."""
    by_model = np.repeat(np.linspace(0, 0.3, len(MODELS)), 50)
    lstm = _rows(predicted=0.5 + by_model)
    other = _rows(predicted=0.55 + by_model, surrogate="isotonic")
    board = errors(pd.concat([lstm, other]), models(), seed=0).xs("isotonic", level="surrogate").iloc[0]
    differences = board[["difference", "difference_low", "difference_high"]].to_list()
    assert differences == pytest.approx([0.05] * 3)
    assert board["high"] - board["low"] > 0.1


def test_coverage_is_that_of_points_of_the_worst_model_and_of_whole_curves() -> None:
    inside = np.arange(len(MODELS) * 50) >= 10  # ten points of the first model lie outside
    board = errors(_rows(upper=np.where(inside, 1.0, 0.4)), models(), seed=0).iloc[0]
    assert board["coverage"] == pytest.approx(1 - 0.2 / 6)
    assert board["coverage_model"] == pytest.approx(0.8)
    assert board["coverage_group"] == pytest.approx(0.9)  # with its relative
    assert board["coverage_curve"] == pytest.approx(5 / 6)
