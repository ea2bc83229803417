from dataclasses import replace

import numpy as np
import pytest
from curves_to_learn import KNOWN, THRESHOLDS, assert_uses_known_points_alone
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
from prunecast.surrogates.features import Surrogate


def test_the_straight_line_recovers_a_straight_line() -> None:
    straight = replace(KNOWN, accuracy=0.9 - 0.05 * np.tile(THRESHOLDS, (12, 1)))
    assert StraightLine().fit(straight).predict(straight).predicted == pytest.approx(straight.accuracy)


def test_the_mean_curve_averages_known_points_and_interpolates_unknown_ones() -> None:
    gap = replace(KNOWN, accuracy=np.where(THRESHOLDS[20] == THRESHOLDS, np.nan, KNOWN.accuracy))
    means = MeanCurve().fit(gap).means["global"]
    whole = KNOWN.retained[KNOWN.scopes == "global"].mean(0)
    assert np.delete(means, 20) == pytest.approx(np.delete(whole, 20))
    assert means[20] == pytest.approx(whole[[19, 21]].mean())


@pytest.mark.parametrize(
    "surrogate",
    [MeanCurve(), NearestCurve(), GaussianProcess(), Isotonic(), Tabular(lambda: extra_trees(0))],
    ids=lambda surrogate: type(surrogate).__name__,
)
def test_a_measured_point_is_on_the_forecast_and_no_other_is_used(surrogate: Surrogate) -> None:
    assert_uses_known_points_alone(surrogate)


def test_a_logistic_curve_is_recovered_from_three_of_its_points() -> None:
    odds = np.log(np.clip(THRESHOLDS / 10, 1e-6, 1 - 1e-6) / (1 - np.clip(THRESHOLDS / 10, 1e-6, 1 - 1e-6)))
    left = 1 - 0.98 / (1 + np.exp(-(odds - 0.8) / 0.3))
    logistic = replace(KNOWN, accuracy=KNOWN.accuracy_of(np.tile(left, (12, 1))))
    known = np.zeros(KNOWN.accuracy.shape, bool)
    known[:, [26, 28, 31]] = True
    predicted = Logistic().fit(KNOWN).predict(logistic.knowing(known)).predicted
    assert np.abs(predicted - logistic.accuracy).mean() < 0.01
