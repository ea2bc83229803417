import numpy as np
import pandas as pd
import pytest
from curves_to_learn import KNOWN
from prunecast.forecasting import recommendation


def test_the_search_recommends_only_measured_points_and_ends_at_the_optimum() -> None:
    rows = pd.concat(recommendation.searched(KNOWN, recommendation.by_halves, 0.01, 6))
    assert (rows["loss"] <= 0.01).all()
    last = rows[rows["measurements"] == 6]
    assert last["recommended"].to_numpy() == pytest.approx(last["optimum"].to_numpy(), abs=0.026)


def test_a_recommendation_is_lowered_where_other_groups_were_unsafe() -> None:
    """Twelve groups of one curve each, of which the surrogates without them promise too much."""
    groups = np.array([f"group{index}" for index in range(len(KNOWN.names))], object)
    true, high = (
        recommendation.unverified(KNOWN, groups, np.tile(accuracy, (len(groups), 1, 1)), 0.01)
        for accuracy in (KNOWN.accuracy, KNOWN.accuracy + np.where(KNOWN.sparsity < 0.9, 0.3, 0))
    )
    assert (true["recommended"] == true["optimum"]).all()
    assert (high["loss"] <= 0.01).mean() >= 0.8


def test_from_fewer_than_nine_other_groups_nothing_is_recommended() -> None:
    groups = np.repeat(np.array([f"group{index}" for index in range(6)], object), 2)
    rows = recommendation.unverified(KNOWN, groups, np.tile(KNOWN.accuracy, (6, 1, 1)), 0.01)
    assert (rows["recommended"] == 0).all()


def test_ways_to_a_safe_ratio_are_compared_over_the_same_models() -> None:
    """Two models that break at a half and at six tenths, as a search, a forecast, and one ratio for both find them."""
    grid, optima = np.round(np.arange(101) / 100, 2), {"a": 0.5, "b": 0.6}
    keys = [(model, scope) for model in optima for scope in ("global", "layer")]
    sweeps = pd.concat(
        pd.DataFrame({"sparsity": grid, "accuracy": np.where(grid > optima[model], 0.2, 0.9)}).assign(
            model=model, scope=scope, axis="percentile", criterion="magnitude"
        )
        for model, scope in keys
    )
    models = pd.DataFrame({"model": [*optima], "family": [*optima], "parent": None, "eval_examples": [1000, 500]})
    curves = pd.DataFrame(keys, columns=["model", "scope"])
    curves["optimum"] = curves["model"].map(optima)
    searches = curves.assign(
        method="search", confidence=np.nan, budget=1.0, epsilon=0.01, evaluations=0.8, loss=0.0, held_out=np.nan,
        recommended=curves["optimum"] - 0.03,
    )  # fmt: skip
    forecasts = curves.assign(
        measurements=0, split="leave_one_architecture_out", epsilon=0.01, method="lstm_agreement", loss=0.0,
        recommended=curves["optimum"] - 0.2,
    )  # fmt: skip
    elsewhere = forecasts.assign(model="c", recommended=0.0)
    found = recommendation.safe_ratio_costs(searches, sweeps, pd.concat([forecasts, elsewhere]), models)
    assert set(found["way"]) == {"forecast, eight samples", "one ratio for all", "search, at most 1"}
    rows = found.set_index("method")
    assert rows["curves"].eq(4).all()
    assert rows.loc["search", ["evaluations", "unused", "safe"]].to_list() == pytest.approx([0.8, 0.03, 1])
    samples = 8 * (1 + 21)  # at each of the thresholds of the agreement, and without pruning
    eight = rows.loc["forecast, eight samples"]
    assert eight[["evaluations", "unused", "safe"]].to_list() == pytest.approx(
        [(samples / 1000 + samples / 500) / 2, 0.2, 1]
    )
    assert rows.loc["one ratio for all", ["evaluations", "unused", "safe"]].to_list() == pytest.approx([0, 0.05, 0.5])
