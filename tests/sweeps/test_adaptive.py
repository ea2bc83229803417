import numpy as np
import pytest
from margins import EXAMPLES, POINTS, Margins, evaluating, falling, flat
from prunecast.sweeps.adaptive import (
    AUDIT_SAMPLE,
    CHUNK,
    MeasuredCurve,
    adaptive,
    exact,
    simulate_adaptive,
)


def _adaptive(margins: Margins) -> MeasuredCurve:
    return adaptive(evaluating(margins), POINTS, EXAMPLES)


@pytest.mark.parametrize("seed", range(5))
def test_the_adaptive_curve_is_near_the_exact_one_at_a_fraction_of_its_cost(seed: int) -> None:
    margins = falling(seed)
    whole, measured = exact(evaluating(margins), POINTS, EXAMPLES), _adaptive(margins)
    assert np.abs(whole.accuracy - measured.accuracy).max() <= 0.01
    assert measured.evaluated.sum() < 0.15 * whole.evaluated.sum()
    assert measured.accuracy[[0, 75, 100]].tolist() == whole.accuracy[[0, 75, 100]].tolist()
    assert np.array_equal(simulate_adaptive(whole).accuracy, measured.accuracy)


def test_the_audit_detects_changes_of_examples_with_large_margins() -> None:
    """Between the points evaluated in full, half of the examples fail at once, those with the larger margins."""
    margins = flat()
    margins[:, ::2] = 9.0
    margins[20:30, ::2] = -9.0
    measured = _adaptive(margins)
    assert measured.audit_misses > 0
    assert measured.accuracy[25] == 0.5
    assert measured.audit_error_bound() > _adaptive(flat()).audit_error_bound()


def test_an_example_audited_at_several_points_counts_once() -> None:
    """No more examples are left to be interpolated at each point than an audit has, so every one is in every audit."""
    examples = CHUNK + AUDIT_SAMPLE
    margins = np.full((POINTS, examples), 9.0)
    margins[:, :CHUNK] = 0.5 - np.arange(POINTS)[:, None] % 2 / 1000  # the ones of smallest margin, unchanged
    margins[37, -1] = margins[87, -1] = -9.0
    measured = adaptive(evaluating(margins), POINTS, examples)
    assert measured.audited == AUDIT_SAMPLE
    assert measured.audit_misses == 1
    assert (measured.evaluated[[37, 87]] == examples).all()


@pytest.mark.parametrize("wrong", [0.01, 0.03])
def test_the_audit_bounds_the_error_at_evaluated_points_in_every_one_of_ten_sweeps(wrong: float) -> None:
    """At every point but the three evaluated in full, some examples are incorrect whatever their margins elsewhere."""
    margins = np.full((POINTS, EXAMPLES), 9.0)
    margins[:, :200] = falling(0)[:, :200]
    margins[np.random.default_rng(1).random(margins.shape) < wrong] = -9.0
    margins[[0, 75, 100]] = np.abs(margins[[0, 75, 100]])
    evaluate, accuracy = evaluating(margins), (margins > 0).mean(axis=1)
    for seed in range(10):
        measured = adaptive(evaluate, POINTS, EXAMPLES, seed)
        errors = np.abs(measured.accuracy - accuracy)[measured.evaluated > 0]
        assert errors.mean() <= measured.audit_error_bound()


def test_seed_and_name_of_a_curve_determine_its_audit() -> None:
    evaluate = evaluating(falling(0))
    losses = [
        adaptive(evaluate, POINTS, EXAMPLES, seed, curve).loss.tolist()
        for seed, curve in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2] != losses[3] != losses[0]
