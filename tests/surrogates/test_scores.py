import numpy as np
import pandas as pd
import pytest
from curves_to_learn import MODELS, baseline_predictions, mean_errors, models
from prunecast.surrogates.scores import errors


def test_the_scores_can_be_recomputed_from_the_predictions() -> None:
    rows = baseline_predictions()
    board = errors(rows, models(), seed=0).to_dict("index")
    for protocol in ("points", "leave_one_model_out"):
        mean = mean_errors(rows[rows["protocol"] == protocol])
        summary = board[protocol, "percentile", "mean_curve"]
        assert summary["mae"] == pytest.approx(mean["mean_curve"])
        assert summary["low"] < summary["mae"] < summary["high"]
        assert summary["gain"] == pytest.approx(1 - mean["mean_curve"] / mean["straight_line"])


def test_the_bootstrap_interval_is_as_wide_as_the_models_differ() -> None:
    rows = pd.DataFrame({"model": np.repeat(MODELS, 50), "accuracy": 0.5, "scope": "global", "threshold": 1.0})
    rows = rows.assign(protocol="points", axis="sigma", surrogate="lstm", lower=0.0, upper=1.0, samples=0)
    same = errors(rows.assign(predicted=0.6), models(), seed=0).iloc[0]
    halves = rows.assign(predicted=np.repeat([0.5, 0.5, 0.5, 0.7, 0.7, 0.7], 50))
    different = errors(halves, models(), seed=0).iloc[0]
    assert same["high"] - same["low"] == pytest.approx(0)
    assert different["mae"] == pytest.approx(same["mae"])
    assert different["high"] - different["low"] > 0.05
