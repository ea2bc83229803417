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


def test_a_recommendation_is_lowered_where_other_models_were_unsafe() -> None:
    high = recommendation.unverified(KNOWN, KNOWN.accuracy + np.where(KNOWN.sparsity < 0.9, 0.3, 0), 0.01)
    true = recommendation.unverified(KNOWN, KNOWN.accuracy, 0.01)
    assert (true["recommended"] == true["optimum"]).all()
    assert (high["loss"] <= 0.05).mean() >= 0.8
