from dataclasses import replace

import numpy as np
import pytest
from curves_to_learn import KNOWN
from prunecast.surrogates import conformal
from prunecast.surrogates.features import Forecast

GROUPS = np.array([f"group{index}" for index in range(12)], object)


def test_the_margin_is_the_quantile_over_groups_with_one_more_at_infinity() -> None:
    scores = np.arange(12.0)[:, None]
    assert conformal.margin(scores, GROUPS, 0.9) == 11  # 12 of 13 groups are 0.923, 11 are 0.846
    assert conformal.margin(scores, GROUPS, 0.8) == 10
    assert conformal.margin(scores[:9], GROUPS[:9], 0.9) == 8
    assert conformal.margin(scores[:8], GROUPS[:8], 0.9) == np.inf


def test_a_group_has_the_same_weight_however_many_curves_and_points_it_has() -> None:
    many = np.repeat(np.array([0.0, 1.0, *[0.0] * 10]), [50, 1, *[1] * 10])[:, None]
    groups = np.repeat(GROUPS, [50, 1, *[1] * 10])
    assert conformal.margin(np.tile(many, 30), groups, 0.8) == 0  # eleven groups at 0 are 11 of 13
    assert conformal.margin(np.tile(many, 30), groups, 0.9) == 1


def test_nine_of_ten_new_groups_lie_inside() -> None:
    """Curves whose errors share a scale by group: the coverage of a point of a new group, over many draws."""
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        scale = np.exp(generator.normal(size=14))
        scores = np.abs(generator.normal(size=(14, 5))) * scale[:, None]
        width = conformal.margin(scores[:13], np.arange(13).astype(str).astype(object))
        inside.append((scores[13] <= width).mean())
    assert 0.9 - 0.015 <= np.mean(inside) <= 0.97


def test_only_measured_points_count_and_the_dense_one_does_not() -> None:
    wrong = Forecast(*(np.full(KNOWN.accuracy.shape, value) for value in (0.5, 0.5, 0.5)))
    hidden = replace(KNOWN, measured=np.arange(KNOWN.accuracy.shape[1]) % 4 == np.zeros((len(KNOWN.names), 1)))
    distances = conformal.distances(wrong, hidden)
    assert np.isnan(distances[:, 0]).all()
    assert (~np.isnan(distances)).sum() == len(KNOWN.names) * (KNOWN.accuracy.shape[1] // 4)
    assert distances[:, 4] == pytest.approx(np.abs(KNOWN.accuracy[:, 4] - 0.5))


def test_intervals_contain_their_forecast_and_begin_at_the_dense_accuracy() -> None:
    forecast = Forecast(KNOWN.accuracy, KNOWN.accuracy - 0.02, KNOWN.accuracy + 0.01)
    for width in (0.05, 0.0, -0.5):
        wider = conformal.calibrated(forecast, width)
        assert (wider.lower <= forecast.predicted).all()
        assert (wider.upper >= forecast.predicted).all()
        assert (wider.lower[:, 0] == wider.upper[:, 0]).all()
    narrow, wide = (conformal.calibrated(forecast, 0.01, factor) for factor in (1.0, 2.0))
    inner = slice(5, 10)
    below = [(KNOWN.accuracy - interval.lower)[:, inner] for interval in (narrow, wide)]
    assert below[0] == pytest.approx(0.03)
    assert below[1] == pytest.approx(0.06)
    assert np.isnan(conformal.calibrated(forecast, np.inf).lower).all()


def test_a_group_is_calibrated_on_surrogates_that_did_not_have_it() -> None:
    """Twelve groups forecast well by all surrogates but those without group0, which err by 0.1 on every other."""
    curves = replace(
        KNOWN,
        **{name: getattr(KNOWN, name)[:12] for name in ("sparsity", "accuracy", "noise", "measured", "signals")},
    )
    exact = np.tile(curves.accuracy, (12, 1, 1))
    exact[0, 1:] += 0.1
    done = conformal.jackknife(curves, GROUPS, Forecast(exact, exact, exact))
    width = (done.upper - done.lower)[:, 20]
    assert width[0] == pytest.approx(0.2)
    assert width[1:] == pytest.approx(0, abs=1e-9)
