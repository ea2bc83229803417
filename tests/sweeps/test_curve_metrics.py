from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from prunecast.sweeps import curve_metrics


def _curve(accuracies: Sequence[float]) -> pd.DataFrame:
    rows = len(accuracies)
    return pd.DataFrame({"sparsity": [i / (rows - 1) for i in range(rows)], "accuracy": accuracies})


@pytest.mark.parametrize(
    ("accuracies", "safe"),
    [
        ([0.9, 0.9, 0.895, 0.6, 0.5], 0.5),
        ([0.9, 0.5, 0.9, 0.9, 0.5], 0.0),  # a recovery after a dip is not safe
        ([0.9, 0.95, 0.91, 0.9, 0.89], 1.0),
    ],
)
def test_the_safe_sparsity_precedes_the_first_loss(accuracies: list[float], safe: float) -> None:
    assert curve_metrics.safe_sparsity(_curve(accuracies), epsilon=0.01) == safe


def test_a_model_at_chance_has_not_learned() -> None:
    models = pd.DataFrame({"dense_accuracy": [0.5, 0.59, 0.6, 0.9], "majority_accuracy": 0.5})
    assert list(curve_metrics.learned(models)) == [False, False, True, True]


def test_segments_are_cut_at_five_and_ninety_five_per_cent_of_the_way() -> None:
    accuracies = [0.9, 0.881, 0.879, 0.6, 0.521, 0.519, 0.4]
    points = pd.DataFrame({"accuracy": accuracies, "dense_accuracy": 0.9, "majority_accuracy": 0.5})
    expected = ["plateau", "plateau", "transition", "transition", "transition", "collapsed", "collapsed"]
    assert list(curve_metrics.segment(points)) == expected


def test_models_are_relatives_through_a_parent_or_a_family() -> None:
    table = pd.DataFrame({"family": ["bert", "bert", "electra", "fc", "fc"], "parent": ["p", None, "p", None, None]})
    bert, sibling, electra, shallow, deep = curve_metrics.relatives(table)
    assert bert == sibling == electra != shallow == deep


def test_an_interval_over_groups_is_as_wide_as_the_groups_differ_and_none_of_few() -> None:
    groups = np.repeat(list("abcdef"), 10)
    alike = pd.Series(np.tile(np.linspace(0, 1, 10), 6))  # differ within a group alone
    assert curve_metrics.interval_over_groups(alike, groups, 0) == pytest.approx((0.5, 0.5))
    apart = pd.Series(np.repeat(np.linspace(0, 1, 6), 10))
    low, high = curve_metrics.interval_over_groups(apart, groups, 0)
    assert high - low > 0.3
    assert np.isnan(curve_metrics.interval_over_groups(apart[:40], groups[:40], 0)).all()


@pytest.mark.parametrize(("lost", "gained", "examples"), [(0, 0, 500), (5, 0, 500), (20, 15, 500), (8, 3, 2000)])
def test_the_chance_to_be_within_epsilon_is_that_of_draws_from_the_posterior(
    lost: int, gained: int, examples: int
) -> None:
    shares = np.random.default_rng(0).dirichlet([lost + 0.5, gained + 0.5, examples - lost - gained + 0.5], 200_000)
    drawn = (shares[:, 0] - shares[:, 1] <= 0.01).mean()
    assert curve_metrics.chance_within(lost, gained, examples, 0.01) == pytest.approx(drawn, abs=0.005)


def test_a_model_at_the_limit_is_found_within_epsilon_with_confidence_as_rarely_as_stated() -> None:
    counts = np.random.default_rng(0).multinomial(1000, [0.015, 0.005, 0.98], 1000)
    chances = [curve_metrics.chance_within(lost, gained, 1000, 0.01) for lost, gained, _ in counts]
    assert 0.07 < (np.array(chances) >= 0.9).mean() < 0.13


def test_the_noise_of_a_seed_is_the_mean_distance_of_losses_and_of_safe_sparsities() -> None:
    first, second, third = ([0.9, 0.9, 0.6], [0.8, 0.7, 0.6], [0.8, 0.8, 0.8])
    sweeps = [
        _curve(accuracies).assign(model="m", scope="global", axis="percentile", criterion="magnitude")
        for accuracies in (first, second, third)
    ]
    sweeps = [rows.assign(threshold=rows["sparsity"] * 10) for rows in sweeps]
    (noise,) = curve_metrics.seed_noise(sweeps, 0.01).reset_index().to_dict("records")
    losses = np.array([[0, 0, 0.3], [0, 0.1, 0.2], [0, 0, 0]])
    expected = np.mean([np.abs(losses[a] - losses[b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))])
    assert noise["curve"] == pytest.approx(expected)
    assert noise["safe"] == pytest.approx(np.mean([0.5, 0.5, 1.0]))
    assert (noise["model"], noise["scope"], noise["seeds"]) == ("m", "global", 3)
