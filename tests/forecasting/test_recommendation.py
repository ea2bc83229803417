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
