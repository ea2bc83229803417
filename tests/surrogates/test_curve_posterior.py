import numpy as np
import pytest
from curves_to_learn import KNOWN, THRESHOLDS, UNKNOWN, assert_uses_known_points_alone
from prunecast.surrogates.baselines import MeanCurve
from prunecast.surrogates.curve_posterior import APART, CurvePosterior


def test_a_measured_point_is_on_the_forecast_and_no_other_is_used() -> None:
    assert_uses_known_points_alone(CurvePosterior(MeanCurve))


def test_the_same_seed_gives_the_same_interval_and_another_one_another() -> None:
    one, two, three = (CurvePosterior(MeanCurve, seed).fit(KNOWN).predict(UNKNOWN).lower for seed in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_the_next_point_is_apart_from_the_known_ones_and_narrows_the_interval() -> None:
    posterior, at = CurvePosterior(MeanCurve).fit(KNOWN), np.arange(len(THRESHOLDS))
    before = posterior.predict(UNKNOWN)
    chosen = posterior.next_thresholds(UNKNOWN)
    assert (chosen >= APART).all()
    measured = KNOWN.knowing(at[None] == chosen[:, None])
    after = posterior.predict(measured)
    assert (after.upper - after.lower).mean() < 0.7 * (before.upper - before.lower).mean()
    assert (np.abs(posterior.next_thresholds(measured) - chosen) >= APART).all()


def test_the_chance_of_safety_falls_along_the_curve_and_rises_with_epsilon() -> None:
    posterior = CurvePosterior(MeanCurve).fit(KNOWN)
    strict, lenient = (posterior.chance_of_safe(UNKNOWN, epsilon) for epsilon in (0.01, 0.1))
    assert (np.diff(strict, axis=1) <= 1e-12).all()
    assert strict[:, 0] == pytest.approx(1)
    assert (lenient >= strict).all()
