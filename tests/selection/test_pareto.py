from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prunecast.errors import UserError
from prunecast.selection import pareto

RATIOS = np.linspace(0, 1, 101)
# small whole numbers, so that many rows are equal, or equal in some cost
COSTS = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 4), min_size=width, max_size=width), min_size=1, max_size=12)
)


Row = Sequence[float]


class Constraint:
    """Holds up to a largest safe ratio, and lists the ratios at which it was measured."""

    def __init__(self, safe: float) -> None:
        self.safe, self.measured = safe, list[float]()

    def __call__(self, ratio: float) -> bool:
        self.measured.append(ratio)
        return ratio <= self.safe


def _frame(rows: Sequence[Row] | np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["error", "flops", "latency"][: len(rows[0])], dtype=float)


def _dominated(row: Row, others: Sequence[Row]) -> bool:
    return any(all(a <= b for a, b in zip(other, row, strict=True)) and other != row for other in others)


@pytest.mark.parametrize(
    ("safe", "measured", "ratio"),
    [
        (0.3, [0.3, 0.4], 0.3),
        (0.55, [0.3, 0.4, 0.5, 0.6], 0.5),
        (1.0, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], 0.9),
        (0.29, [0.3, 0.2], 0.2),
        (0.1, [0.3, 0.2, 0.1], 0.1),
    ],
)
def test_algorithm_1_scans_as_printed_and_upward_while_it_holds(
    safe: float, measured: list[float], ratio: float
) -> None:
    constraint = Constraint(safe)
    selection = pareto.algorithm_1(constraint)
    assert constraint.measured == measured
    assert selection == pareto.Selection(ratio, True, len(measured))
    assert str(selection) == f"prune {100 * ratio:.0f}%, found with {len(measured)} evaluations"


def test_where_no_ratio_is_safe_the_answer_is_the_dense_model() -> None:
    constraint = Constraint(-1)
    selection = pareto.algorithm_1(constraint)
    assert constraint.measured == [0.3, 0.2, 0.1]
    assert selection == pareto.Selection(0.0, False, 3)
    assert str(selection) == "no ratio keeps the accuracy within epsilon: the answer is the dense model"


@given(st.floats(0, 1.1), st.integers(1, 19), st.integers(1, 10))
def test_algorithm_1_finds_the_largest_ratio_of_its_scan(safe: float, start: int, step: int) -> None:
    constraint = Constraint(safe)
    selection = pareto.algorithm_1(constraint, start / 20, step / 20)
    scan = [round((start + turn * step) / 20, 6) for turn in range(-20, 20)]
    holding = [ratio for ratio in scan if 0 < ratio < 1 and ratio <= safe]
    assert selection.ratio == max(holding, default=0)
    assert selection.feasible == bool(holding)
    assert selection.evaluations == len(constraint.measured) == len(set(constraint.measured))


@given(st.floats(0, 1.2), st.floats(-1, 2), st.integers(2, 101))
def test_a_guided_bisection_is_that_of_the_fine_scan_whatever_was_forecast(
    safe: float, forecast: float, points: int
) -> None:
    constraint, ratios = Constraint(safe), np.linspace(0, 1, points)
    selection = pareto.guided_bisection(constraint, forecast, ratios)
    assert selection.ratio == max(ratio for ratio in ratios if ratio <= safe)
    assert selection.feasible == (selection.ratio > 0)
    assert selection.evaluations == len(constraint.measured) == len(set(constraint.measured)) <= 20


@given(st.floats(0, 1.2), st.integers(2, 101))
def test_a_bisection_finds_the_same_in_the_logarithm_of_the_scan(safe: float, points: int) -> None:
    constraint, ratios = Constraint(safe), np.linspace(0, 1, points)
    selection = pareto.bisection(constraint, ratios)
    assert selection.ratio == max(ratio for ratio in ratios if ratio <= safe)
    assert selection.feasible == (selection.ratio > 0)
    assert selection.evaluations == len(constraint.measured) <= np.ceil(np.log2(points)) + len(pareto.BELOW)


@pytest.mark.parametrize("off", [0.0, 0.03, -0.03])
def test_a_good_forecast_saves_evaluations(off: float) -> None:
    spent = [pareto.guided_bisection(Constraint(safe), safe + off, RATIOS).evaluations for safe in RATIOS[5:96]]
    wrong = [pareto.guided_bisection(Constraint(safe), (safe + 0.5) % 1, RATIOS).evaluations for safe in RATIOS[5:96]]
    halves = [pareto.bisection(Constraint(safe), RATIOS).evaluations for safe in RATIOS[5:96]]
    assert np.mean(spent) < np.mean(halves) < np.mean(wrong)
    assert np.mean(spent) <= 6 + len(pareto.BELOW)


@pytest.mark.parametrize("forecast", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dip", [[0.5], [0.48, 0.49, 0.5], [0.49, 0.5, 0.51]])
def test_a_curve_that_dips_and_recovers_is_pruned_no_further_than_the_dip(dip: list[float], forecast: float) -> None:
    safe = 0.53 if 0.51 in dip else 0.51
    selection = pareto.guided_bisection(lambda ratio: ratio <= safe and round(ratio, 2) not in dip, forecast, RATIOS)
    assert selection.ratio == pytest.approx(min(dip) - 0.01)


@pytest.mark.parametrize("forecast", [0.0, 0.5, 0.95])
def test_a_guided_bisection_says_where_no_ratio_is_safe(forecast: float) -> None:
    selection = pareto.guided_bisection(Constraint(0), forecast, RATIOS)
    assert not selection.feasible
    assert selection.ratio == 0
    assert "the answer is the dense model" in str(selection)


@given(COSTS)
def test_the_front_is_what_no_row_dominates_each_once(rows: list[list[int]]) -> None:
    expected = [not _dominated(row, rows) and row not in rows[:index] for index, row in enumerate(rows)]
    assert pareto.front(_frame(rows)).tolist() == expected


def test_hypervolume_is_that_of_the_boxes_between_the_front_and_the_reference() -> None:
    point = pd.DataFrame({"error": [0.5], "flops": [0.2], "latency": [0.9]})
    assert pareto.hypervolume(point, {"latency": 1.0, "flops": 1.2, "error": 0.75}) == pytest.approx(0.25 * 1.0 * 0.1)
    two = _frame([[0.25, 0.75], [0.75, 0.25]])
    corner = {"error": 1.0, "flops": 1.0}
    assert pareto.hypervolume(two, corner) == pytest.approx(2 * 0.25 * 0.75 - 0.25**2)
    beyond = pd.concat([two, _frame([[0.8, 0.8], [0.0, 1.5], [1.0, 0.0]])])
    assert pareto.hypervolume(beyond, corner) == pytest.approx(pareto.hypervolume(two, corner))
    assert pareto.hypervolume(_frame([[1.5, 1.5]]), corner) == 0


@given(COSTS, COSTS)
def test_hypervolume_never_falls_with_more_rows_and_is_that_of_the_front(
    rows: list[list[int]], more: list[list[int]]
) -> None:
    more = [row[: len(rows[0])] for row in more if len(row) >= len(rows[0])]
    frame, corner = _frame(rows), dict.fromkeys(("error", "flops", "latency"), 4.5)
    volume = pareto.hypervolume(frame, corner)
    assert volume == pytest.approx(pareto.hypervolume(frame[pareto.front(frame)], corner))
    assert pareto.hypervolume(_frame(rows + more), corner) >= volume - 1e-9


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "function",
    [
        pareto.front,
        pareto.knee,
        lambda costs: pareto.hypervolume(costs, {"error": 1.0, "energy": 1.0}),
        lambda costs: pareto.weighted(costs, {"error": 1.0}),
        lambda costs: pareto.within(costs, {"error": 1.0}, "energy"),
    ],
)
def test_an_infinite_cost_is_refused_in_one_sentence(function: Callable[[pd.DataFrame], object], value: float) -> None:
    costs = pd.DataFrame({"error": [0.1, 0.2, 0.3], "energy": [1.0, 0.5, value]})
    with pytest.raises(UserError, match=f"objective energy is {value} in row 2; it must be a finite number") as refusal:
        function(costs)
    assert "\n" not in str(refusal.value)


def test_the_knee_is_where_the_front_bends_whatever_the_units() -> None:
    bend = np.array([[0.0, 1.0], [0.1, 0.15], [0.5, 0.1], [1.0, 0.0], [0.9, 0.9]])
    assert pareto.knee(_frame(bend)) == 1
    assert pareto.knee(_frame(bend * [1e-3, 1e6] + [5, -7])) == 1
    far = np.vstack([bend, [40.0, 40.0]])  # a dominated row does not stretch the scale
    assert pareto.knee(_frame(far)) == 1
    assert pareto.knee(_frame([[0.3, 0.4]])) == 0


def test_weights_say_which_cost_counts() -> None:
    costs = _frame([[0.0, 10.0, 3.0], [1.0, 0.0, 5.0], [0.4, 4.0, 0.0]])
    assert pareto.weighted(costs, {"error": 1}) == 0
    assert pareto.weighted(costs, {"flops": 2}) == 1
    assert pareto.weighted(costs, {"latency": 0.1, "error": 0}) == 2
    assert pareto.weighted(costs, {"error": 1, "flops": 1, "latency": 1}) == 2
    assert pareto.weighted(costs, {"error": 5, "flops": 1}) == 0


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"error": -1.0}, "weight error=-1.0 is invalid"),
        ({"error": float("nan")}, "weight error=nan is invalid"),
        ({"error": float("inf"), "flops": 1.0}, "weight error=inf is invalid"),
        ({"joules": 1.0}, r"weight joules=1.0 is invalid: .* of \['error', 'flops'\]"),
        ({"error": 0.0, "flops": 0.0}, "all weights are zero"),
        ({}, "all weights are zero"),
    ],
)
def test_invalid_weights_are_refused(weights: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        pareto.weighted(_frame([[0.0, 1.0], [1.0, 0.0]]), weights)


def test_within_a_budget_the_least_is_chosen_and_none_where_no_row_fits() -> None:
    costs = _frame([[0.05, 1.0, 0.9], [0.1, 0.6, 0.7], [0.2, 0.5, 0.4], [0.4, 0.1, 0.2]])
    assert pareto.within(costs, {"flops": 0.6}, "error") == 1
    assert pareto.within(costs, {"flops": 0.6, "latency": 0.5}, "error") == 2
    assert pareto.within(costs, {"error": 0.2}, "latency") == 2
    assert pareto.within(costs, {"flops": 0.05}, "error") is None
    assert pareto.within(costs, {"flops": 0.6, "error": 0.05}, "latency") is None


def test_without_a_budget_the_least_of_all_is_chosen() -> None:
    assert pareto.within(_frame([[0.3, 0.1], [0.2, 0.4]]), {}, "error") == 1


@pytest.mark.parametrize(("budget", "minimise"), [({"joules": 1.0}, "error"), ({"error": 1.0}, "joules")])
def test_a_budget_of_an_absent_cost_is_refused(budget: dict[str, float], minimise: str) -> None:
    with pytest.raises(UserError, match="joules"):
        pareto.within(_frame([[0.3, 0.1], [0.2, 0.4]]), budget, minimise)


@given(COSTS, st.integers(0, 4))
def test_a_choice_is_never_dominated(rows: list[list[int]], limit: int) -> None:
    costs = _frame(rows)
    first = costs.columns[0]
    chosen = [pareto.knee(costs), pareto.weighted(costs, {first: 1.0}), pareto.within(costs, {first: limit}, first)]
    assert not any(_dominated(rows[row], rows) for row in chosen if row is not None)
