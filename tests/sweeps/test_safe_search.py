from functools import partial

import numpy as np
import pytest
from margins import EXAMPLES, POINTS, Margins, evaluating, falling, flat
from prunecast.models.evaluation import Outcome
from prunecast.sweeps.adaptive import Rows
from prunecast.sweeps.curve_metrics import chance_within
from prunecast.sweeps.safe_search import BELOW, Safe, confident, search_safe

EPSILON = 0.01


def _search(margins: Margins, start: int = 50, budget: float | None = None) -> Safe:
    return search_safe(evaluating(margins), POINTS, EXAMPLES, EPSILON, start, budget)


def _first_fall(margins: Margins) -> int:
    accuracy = (margins > 0).mean(axis=1)
    falls = accuracy < accuracy[0] - EPSILON - 1e-9
    return int(falls.argmax()) - 1 if falls.any() else POINTS - 1


@pytest.mark.parametrize("start", [1, 30, 50, POINTS - 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_exact_answer_is_the_point_before_the_first_fall_from_wherever_the_search_starts(
    seed: int, start: int
) -> None:
    margins = falling(seed)
    safe = _search(margins, start)
    assert safe.exact
    assert safe.measured
    assert safe.point == _first_fall(margins)
    assert safe.accuracy == pytest.approx((margins[safe.point] > 0).mean())
    correct = margins[[0, safe.point]] > 0
    assert safe.lost == (correct[0] & ~correct[1]).sum()
    assert safe.gained == (correct[1] & ~correct[0]).sum()
    assert safe.evaluated < 5 * EXAMPLES


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_budget_is_kept_and_a_larger_one_leaves_less_unused(seed: int, budget: float) -> None:
    margins = falling(seed)
    safe, evaluated = _search(margins, 30, budget), []
    evaluate = evaluating(margins)

    def counted(point: int, rows: Rows) -> Outcome:
        evaluated.append(len(rows) if point else 0)
        return evaluate(point, rows)

    assert search_safe(counted, POINTS, EXAMPLES, EPSILON, 30, budget) == safe
    assert sum(evaluated) == safe.evaluated <= budget * EXAMPLES
    assert 0 <= safe.point <= _first_fall(margins)
    assert safe.point >= _first_fall(margins) - {0.0: POINTS, 0.1: POINTS, 0.5: 20, 1.0: 6, 2.0: 6}[budget]


def test_without_a_budget_for_one_test_nothing_is_recommended() -> None:
    assert _search(falling(0), 50, 0) == Safe(0, (falling(0)[0] > 0).mean(), 0, 0, 0, measured=True, exact=False)


def _dipping(dip: int, fall: int) -> Margins:
    """Margins of which forty small ones fail at one point, hold again above it, and fail for good from a point on."""
    margins = flat()
    margins[:fall, :40] = 0.1
    margins[fall:, :40] = margins[dip, :40] = -0.1
    return margins


@pytest.mark.parametrize("below", BELOW)
def test_a_dip_below_the_last_fall_is_found_where_the_search_tests_for_it(below: int) -> None:
    dip = 59 - below
    safe = _search(_dipping(dip, 60))
    assert safe.exact
    assert safe.measured
    assert safe.point == dip - 1


def test_examples_with_large_margins_that_fail_are_found_by_the_evaluation_of_all() -> None:
    """A tenth of the examples fails from 40 on, of margins larger than all others; the small ones hold until 60."""
    margins = np.repeat(np.linspace(0.1, 5, EXAMPLES)[None], POINTS, 0)
    margins[40:, -60:] = -9.0
    margins[60:, :60] = -0.1
    assert _search(margins, 50, budget=0.5).point > 40
    assert _search(margins, 50).point == 39


def test_a_curve_that_never_falls_is_safe_to_its_end_and_one_that_falls_at_once_nowhere() -> None:
    margins = flat()
    assert _search(margins).point == POINTS - 1
    margins[1:, :300] = -5.0
    safe = _search(margins)
    assert (safe.point, safe.accuracy, safe.exact) == (0, 1.0, True)


def test_a_confidence_costs_sparsity_and_a_higher_one_more() -> None:
    margins = falling(3)
    search = partial(search_safe, evaluating(margins), POINTS, EXAMPLES, 0.05, 50, None)
    points = [search(confident(0.05, EXAMPLES, confidence)).point for confidence in (0.5, 0.8, 0.99)]
    assert points[0] > points[1] > points[2] > 0
    for point, confidence in zip(points, (0.5, 0.8, 0.99), strict=True):
        correct = margins > 0
        chances = [
            chance_within(int((correct[0] & ~now).sum()), int((now & ~correct[0]).sum()), EXAMPLES, 0.05)
            for now in correct[[point, point + 1]]
        ]
        assert chances[0] >= confidence > chances[1]
