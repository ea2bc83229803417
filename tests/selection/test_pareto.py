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


class Constraint:
    """Holds up to a largest safe ratio, and keeps which ratios it was asked for."""

    def __init__(self, safe):
        self.safe, self.asked = safe, []

    def __call__(self, ratio):
        self.asked.append(ratio)
        return ratio <= self.safe


def _frame(rows):
    return pd.DataFrame(rows, columns=["error", "flops", "latency"][: len(rows[0])], dtype=float)


def _dominated(row, others):
    return any(all(a <= b for a, b in zip(other, row, strict=True)) and other != row for other in others)


@pytest.mark.parametrize(
    ("safe", "asked", "ratio"),
    [
        (0.3, [0.3, 0.4], 0.3),
        (0.55, [0.3, 0.4, 0.5, 0.6], 0.5),
        (1.0, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], 0.9),
        (0.29, [0.3, 0.2], 0.2),
        (0.1, [0.3, 0.2, 0.1], 0.1),
    ],
)
def test_algorithm_1_scans_as_printed_and_upward_while_it_holds(safe, asked, ratio):
    constraint = Constraint(safe)
    found = pareto.algorithm_1(constraint)
    assert constraint.asked == asked
    assert found == pareto.Selection(ratio, True, len(asked))
    assert str(found) == f"prune {100 * ratio:.0f}%, found with {len(asked)} evaluations"


def test_where_nothing_holds_the_answer_is_the_dense_model():
    constraint = Constraint(-1)
    found = pareto.algorithm_1(constraint)
    assert constraint.asked == [0.3, 0.2, 0.1]
    assert found == pareto.Selection(0.0, False, 3)
    assert str(found) == "no ratio keeps the accuracy within epsilon: the answer is the dense model"


@given(st.floats(0, 1.1), st.integers(1, 19), st.integers(1, 10))
def test_algorithm_1_finds_the_largest_ratio_of_its_scan(safe, start, step):
    constraint = Constraint(safe)
    found = pareto.algorithm_1(constraint, start / 20, step / 20)
    scan = [round((start + turn * step) / 20, 6) for turn in range(-20, 20)]
    holding = [ratio for ratio in scan if 0 < ratio < 1 and ratio <= safe]
    assert found.ratio == max(holding, default=0)
    assert found.feasible == bool(holding)
    assert found.evaluations == len(constraint.asked) == len(set(constraint.asked))


@given(st.floats(0, 1.2), st.floats(-1, 2), st.integers(2, 101))
def test_a_guided_selection_is_that_of_the_fine_scan_whatever_was_forecast(safe, forecast, points):
    constraint, ratios = Constraint(safe), np.linspace(0, 1, points)
    found = pareto.guided(constraint, forecast, ratios)
    assert found.ratio == max(ratio for ratio in ratios if ratio <= safe)
    assert found.feasible == (found.ratio > 0)
    assert found.evaluations == len(constraint.asked) == len(set(constraint.asked)) <= 20


@given(st.floats(0, 1.2), st.integers(2, 101))
def test_halves_find_the_same_in_the_logarithm_of_the_scan(safe, points):
    constraint, ratios = Constraint(safe), np.linspace(0, 1, points)
    found = pareto.halved(constraint, ratios)
    assert found.ratio == max(ratio for ratio in ratios if ratio <= safe)
    assert found.feasible == (found.ratio > 0)
    assert found.evaluations == len(constraint.asked) <= np.ceil(np.log2(points)) + len(pareto.BELOW)


@pytest.mark.parametrize("off", [0.0, 0.03, -0.03])
def test_a_good_forecast_saves_evaluations(off):
    spent = [pareto.guided(Constraint(safe), safe + off, RATIOS).evaluations for safe in RATIOS[5:96]]
    wrong = [pareto.guided(Constraint(safe), (safe + 0.5) % 1, RATIOS).evaluations for safe in RATIOS[5:96]]
    halves = [pareto.halved(Constraint(safe), RATIOS).evaluations for safe in RATIOS[5:96]]
    assert np.mean(spent) < np.mean(halves) < np.mean(wrong)
    assert np.mean(spent) <= 6 + len(pareto.BELOW)


@pytest.mark.parametrize("forecast", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dip", [[0.5], [0.48, 0.49, 0.5], [0.49, 0.5, 0.51]])
def test_a_curve_that_dips_and_recovers_is_pruned_no_further_than_the_dip(dip, forecast):
    safe = 0.53 if 0.51 in dip else 0.51
    found = pareto.guided(lambda ratio: ratio <= safe and round(ratio, 2) not in dip, forecast, RATIOS)
    assert found.ratio == pytest.approx(min(dip) - 0.01)


@pytest.mark.parametrize("forecast", [0.0, 0.5, 0.95])
def test_a_guided_selection_says_where_nothing_holds(forecast):
    found = pareto.guided(Constraint(0), forecast, RATIOS)
    assert not found.feasible
    assert found.ratio == 0
    assert "the answer is the dense model" in str(found)


@given(COSTS)
def test_the_front_is_what_nothing_dominates_each_once(rows):
    expected = [not _dominated(row, rows) and row not in rows[:index] for index, row in enumerate(rows)]
    assert pareto.front(_frame(rows)).tolist() == expected


def test_hypervolume_is_that_of_the_boxes_between_the_front_and_the_reference():
    point = pd.DataFrame({"error": [0.5], "flops": [0.2], "latency": [0.9]})
    assert pareto.hypervolume(point, {"latency": 1.0, "flops": 1.2, "error": 0.75}) == pytest.approx(0.25 * 1.0 * 0.1)
    two = _frame([[0.25, 0.75], [0.75, 0.25]])
    corner = {"error": 1.0, "flops": 1.0}
    assert pareto.hypervolume(two, corner) == pytest.approx(2 * 0.25 * 0.75 - 0.25**2)
    beyond = pd.concat([two, _frame([[0.8, 0.8], [0.0, 1.5], [1.0, 0.0]])])
    assert pareto.hypervolume(beyond, corner) == pytest.approx(pareto.hypervolume(two, corner))
    assert pareto.hypervolume(_frame([[1.5, 1.5]]), corner) == 0


@given(COSTS, COSTS)
def test_hypervolume_never_falls_with_more_rows_and_is_that_of_the_front(rows, more):
    more = [row[: len(rows[0])] for row in more if len(row) >= len(rows[0])]
    frame, corner = _frame(rows), dict.fromkeys(("error", "flops", "latency"), 4.5)
    volume = pareto.hypervolume(frame, corner)
    assert volume == pytest.approx(pareto.hypervolume(frame[pareto.front(frame)], corner))
    assert pareto.hypervolume(_frame(rows + more), corner) >= volume - 1e-9


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "asked",
    [
        pareto.front,
        pareto.knee,
        lambda costs: pareto.hypervolume(costs, {"error": 1.0, "energy": 1.0}),
        lambda costs: pareto.weighted(costs, {"error": 1.0}),
        lambda costs: pareto.within(costs, {"error": 1.0}, "energy"),
    ],
)
def test_a_cost_that_is_no_number_is_refused_in_one_sentence(asked, value):
    costs = pd.DataFrame({"error": [0.1, 0.2, 0.3], "energy": [1.0, 0.5, value]})
    with pytest.raises(UserError, match=f"objective energy is {value} in row 2") as refusal:
        asked(costs)
    assert "\n" not in str(refusal.value)


def test_the_knee_is_where_the_front_bends_whatever_the_units():
    bend = np.array([[0.0, 1.0], [0.1, 0.15], [0.5, 0.1], [1.0, 0.0], [0.9, 0.9]])
    assert pareto.knee(_frame(bend)) == 1
    assert pareto.knee(_frame(bend * [1e-3, 1e6] + [5, -7])) == 1
    far = np.vstack([bend, [40.0, 40.0]])  # a dominated row does not stretch the scale
    assert pareto.knee(_frame(far)) == 1
    assert pareto.knee(_frame([[0.3, 0.4]])) == 0


def test_weights_say_which_cost_counts():
    costs = _frame([[0.0, 10.0, 3.0], [1.0, 0.0, 5.0], [0.4, 4.0, 0.0]])
    assert pareto.weighted(costs, {"error": 1}) == 0
    assert pareto.weighted(costs, {"flops": 2}) == 1
    assert pareto.weighted(costs, {"latency": 0.1, "error": 0}) == 2
    assert pareto.weighted(costs, {"error": 1, "flops": 1, "latency": 1}) == 2
    assert pareto.weighted(costs, {"error": 5, "flops": 1}) == 0


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"error": -1.0}, "weight error=-1.0 is none"),
        ({"error": float("nan")}, "weight error=nan is none"),
        ({"error": float("inf"), "flops": 1.0}, "weight error=inf is none"),
        ({"joules": 1.0}, r"weight joules=1.0 is none: .* of \['error', 'flops'\]"),
        ({"error": 0.0, "flops": 0.0}, "all weights are zero"),
        ({}, "all weights are zero"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, sentence):
    with pytest.raises(UserError, match=sentence):
        pareto.weighted(_frame([[0.0, 1.0], [1.0, 0.0]]), weights)


def test_within_a_budget_the_least_is_chosen_and_nothing_where_nothing_fits():
    costs = _frame([[0.05, 1.0, 0.9], [0.1, 0.6, 0.7], [0.2, 0.5, 0.4], [0.4, 0.1, 0.2]])
    assert pareto.within(costs, {"flops": 0.6}, "error") == 1
    assert pareto.within(costs, {"flops": 0.6, "latency": 0.5}, "error") == 2
    assert pareto.within(costs, {"error": 0.2}, "latency") == 2
    assert pareto.within(costs, {"flops": 0.05}, "error") is None
    assert pareto.within(costs, {"flops": 0.6, "error": 0.05}, "latency") is None


def test_without_a_budget_the_least_of_all_is_chosen():
    assert pareto.within(_frame([[0.3, 0.1], [0.2, 0.4]]), {}, "error") == 1


@pytest.mark.parametrize(("budget", "minimise"), [({"joules": 1.0}, "error"), ({"error": 1.0}, "joules")])
def test_a_budget_of_a_cost_that_is_not_there_is_refused(budget, minimise):
    with pytest.raises(UserError, match="joules"):
        pareto.within(_frame([[0.3, 0.1], [0.2, 0.4]]), budget, minimise)


@given(COSTS, st.integers(0, 4))
def test_what_is_chosen_is_never_dominated(rows, limit):
    costs = _frame(rows)
    first = costs.columns[0]
    chosen = [pareto.knee(costs), pareto.weighted(costs, {first: 1.0}), pareto.within(costs, {first: limit}, first)]
    assert not any(_dominated(rows[row], rows) for row in chosen if row is not None)
