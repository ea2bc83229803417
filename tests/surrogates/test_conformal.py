import numpy as np
import pytest
from curves_to_learn import KNOWN
from prunecast.surrogates import conformal
from prunecast.surrogates.features import Forecast

GROUPS = np.array([f"group{index}" for index in range(12)], object)


def test_it_is_the_quantile_over_groups_with_one_more_at_infinity() -> None:
    scores = np.arange(12.0)[:, None]
    assert conformal.quantile(scores, GROUPS, 0.9) == 11  # 12 of 13 groups are 0.923, 11 are 0.846
    assert conformal.quantile(scores, GROUPS, 0.8) == 10
    assert conformal.quantile(scores[:9], GROUPS[:9], 0.9) == 8
    assert conformal.quantile(scores[:8], GROUPS[:8], 0.9) == np.inf


def test_a_group_has_the_same_weight_however_many_curves_and_points_it_has() -> None:
    many = np.repeat(np.array([0.0, 1.0, *[0.0] * 10]), [50, 1, *[1] * 10])[:, None]
    groups = np.repeat(GROUPS, [50, 1, *[1] * 10])
    assert conformal.quantile(np.tile(many, 30), groups, 0.8) == 0  # eleven groups at 0 are 11 of 13
    assert conformal.quantile(np.tile(many, 30), groups, 0.9) == 1


def test_nine_of_ten_new_groups_lie_inside() -> None:
    """Curves whose errors share a scale by group: the coverage of a point of a new group, over many draws."""
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        scale = np.exp(generator.normal(size=14))
        scores = np.abs(generator.normal(size=(14, 5))) * scale[:, None]
        width = conformal.quantile(scores[:13], np.arange(13).astype(str).astype(object))
        inside.append((scores[13] <= width).mean())
    assert 0.9 - 0.015 <= np.mean(inside) <= 0.97


def test_an_error_is_measured_against_the_own_interval_on_its_side() -> None:
    forecast = Forecast(*(np.full(KNOWN.accuracy.shape, value) for value in (0.5, 0.4, 0.7)))
    ratios = conformal.ratios(forecast, KNOWN)
    assert np.isnan(ratios[:, 0]).all()
    error = KNOWN.accuracy[:, 1:] - 0.5
    assert ratios[:, 1:] == pytest.approx(np.where(error < 0, -error / 0.11, error / 0.21))


def test_intervals_with_the_factor_of_an_error_just_reach_it() -> None:
    forecast = Forecast(KNOWN.accuracy + 0.05, KNOWN.accuracy + 0.04, KNOWN.accuracy + 0.1)
    factor = float(conformal.ratios(forecast, KNOWN)[0, 10])
    reached = conformal.calibrated(forecast, factor)
    assert reached.lower[:, 1:] == pytest.approx(KNOWN.accuracy[:, 1:])
    assert conformal.calibrated(forecast, 0.99 * factor).lower[0, 10] > KNOWN.accuracy[0, 10]


def test_intervals_contain_their_forecast_and_begin_at_the_dense_accuracy() -> None:
    forecast = Forecast(KNOWN.accuracy, KNOWN.accuracy - 0.02, KNOWN.accuracy + 0.01)
    for factor in (5.0, 0.0):
        interval = conformal.calibrated(forecast, factor)
        assert (interval.lower <= forecast.predicted).all()
        assert (interval.upper >= forecast.predicted).all()
        assert (interval.lower[:, 0] == interval.upper[:, 0]).all()
        assert (interval.lower >= 0).all()
        assert (interval.upper <= 1).all()
    assert np.isnan(conformal.calibrated(forecast, np.inf).lower).all()


def test_a_group_is_calibrated_on_surrogates_that_did_not_have_it() -> None:
    """Twelve groups forecast well by all surrogates but those without group0, which err by 0.1 on every other."""
    exact = np.tile(KNOWN.accuracy, (12, 1, 1))
    exact[0, 1:] += 0.1
    done = conformal.jackknife(KNOWN, GROUPS, Forecast(exact, exact, exact))
    width = (done.upper - done.lower)[:, 20]
    assert width[0] == pytest.approx(0.2)
    assert width[1:] == pytest.approx(0, abs=1e-9)
