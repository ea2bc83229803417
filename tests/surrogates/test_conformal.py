import numpy as np
import pytest
from curves_to_learn import predictions
from prunecast.surrogates import conformal


@pytest.mark.slow
def test_the_interval_covers_nine_points_of_ten_and_contains_its_forecast() -> None:
    rows = predictions()
    rows = rows[rows["protocol"] == "leave_one_architecture_out"]
    lstm = rows[rows["surrogate"] == "lstm"]
    assert lstm["predicted"].between(lstm["lower"] - 1e-5, lstm["upper"] + 1e-5).all()
    inside = rows["accuracy"].between(rows["lower"], rows["upper"])
    assert 0.8 < inside.mean() <= 1


def test_the_margin_is_the_quantile_over_models_not_points() -> None:
    scores = np.concatenate([np.zeros(1000), np.ones(10)])
    named = np.array(["many"] * 1000 + ["few"] * 10)
    assert conformal.interval_margin(scores, named, 0.5) == 0
    assert conformal.interval_margin(scores, named, 0.6) == 1
