"""Selection of a ratio within an accepted loss of accuracy, Pareto fronts of several costs, and a choice from a front.

The algorithm as printed is Algorithm 1 of Smarts, Selvaraj and Kuthadi (J. Computer Science 21(5), 2025): an
epsilon-constraint problem with a start and a step, but without a front or a rule for the choice, which are added here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.errors import UserError

START = 0.3  # ratio at which Algorithm 1 begins
STEP = 0.1  # by which it decreases the ratio on violation: 0.3, 0.2, …
SPREAD = 0.1  # mean absolute error of a forecast safe ratio, the scale of a Laplace prior
BELOW = (1, 3)  # steps below an answer that are measured too: a curve may dip there, and recover
UNIFORM = 0.02  # share of the prior that is uniform over all ratios, in case the forecast is far off

Ratios = NDArray[np.float64]
Holds = Callable[[float], bool]


@dataclass(frozen=True)
class Selection:
    """A selected ratio.

    Attributes:
        ratio: Share of the prunable weights that is pruned, a fraction.
        feasible: Whether any pruned model satisfied the constraint.
        evaluations: Number of evaluations on all examples that the selection took; the dense one is not counted.
    """

    ratio: float
    feasible: bool
    evaluations: float

    def __str__(self) -> str:
        if not self.feasible:
            return "no ratio keeps the accuracy within epsilon: the answer is the dense model"
        return f"prune {self.ratio:.0%}, found with {self.evaluations:g} evaluations"


def algorithm_1(holds: Holds, start: float = START, step: float = STEP) -> Selection:
    """Scan downwards from `start` until the constraint holds, or upwards as long as it does.

    Args:
        holds: Measures whether the model pruned to a ratio loses at most epsilon.
        start: First ratio, a fraction.
        step: Difference of successive ratios, a fraction.

    Returns:
        The largest ratio of the scan that satisfies the constraint, or 0, the dense model, if none does.

    Source: Smarts, Selvaraj and Kuthadi (2025), Algorithm 1, steps I-V and VIII.
    """
    ratio, evaluations = start, 1
    if holds(ratio):
        while round(ratio + step, 6) < 1:
            evaluations += 1
            if not holds(round(ratio + step, 6)):
                break
            ratio = round(ratio + step, 6)
        return Selection(ratio, True, evaluations)
    while (ratio := round(ratio - step, 6)) > 0:
        evaluations += 1
        if holds(ratio):
            return Selection(ratio, True, evaluations)
    return Selection(0.0, False, evaluations)


def guided_bisection(holds: Holds, forecast: float, ratios: Ratios) -> Selection:
    """Find the last ratio that satisfies the constraint, each measurement at the median of a prior from a forecast.

    The prior of the safe ratio is a Laplace distribution around the forecast, mixed with a uniform one; measurements
    truncate it. The search ends where a ratio satisfies the constraint, the next one violates it, and the ratios one
    and three steps below satisfy it as well.

    Args:
        holds: Measures whether the model pruned to a ratio loses at most epsilon.
        forecast: Forecast of the largest safe ratio, a fraction.
        ratios: Ratios to choose from (n,), rising from 0, at which the constraint holds.

    Returns:
        The selected ratio; 0, the dense model, if none satisfies the constraint.
    """
    prior = np.exp(-np.abs(ratios - forecast) / SPREAD)
    prior = (1 - UNIFORM) * prior / prior.sum() + UNIFORM / len(ratios)
    return _bisection(holds, ratios, prior)


def bisection(holds: Holds, ratios: Ratios) -> Selection:
    """Find the last ratio that satisfies the constraint by halving: `guided_bisection` with a uniform prior.

    Args:
        holds: Measures whether the model pruned to a ratio loses at most epsilon.
        ratios: Ratios to choose from (n,), rising from 0, at which the constraint holds.

    Returns:
        The selected ratio; 0, the dense model, if none satisfies the constraint.
    """
    return _bisection(holds, ratios, np.full(len(ratios), 1 / len(ratios)))


def _bisection(holds: Holds, ratios: Ratios, prior: Ratios) -> Selection:
    measured = {0: True}
    low, high = 0, len(ratios)
    while True:
        if high - low > 1:
            mass = prior[low:high].cumsum()
            index = low + 1 + int(np.abs(mass[:-1] - mass[-1] / 2).argmin())
        else:
            index = next((low - step for step in BELOW if low - step > 0 and low - step not in measured), 0)
        if index == 0:
            return Selection(float(ratios[low]), low > 0, len(measured) - 1)
        measured[index] = holds(float(ratios[index]))
        if not measured[index]:
            high = index
        low = max(other for other, safe in measured.items() if safe and other < high)


def front(objectives: pd.DataFrame) -> NDArray[np.bool_]:
    """The Pareto front: which rows no other row dominates.

    Args:
        objectives: Costs to be minimised, a column each (n, d).

    Returns:
        True for each row on the front (n,); of equal rows for the first alone.

    Raises:
        UserError: If a cost is not a finite number.
    """
    on_front: NDArray[np.bool_] = moocore.is_nondominated(_finite(objectives))
    return on_front


def hypervolume(objectives: pd.DataFrame, reference: Mapping[str, float]) -> float:
    """Volume of the costs that some row dominates and that dominate a reference point.

    Args:
        objectives: Costs to be minimised, a column each (n, d).
        reference: The reference point, by column.

    Returns:
        The volume, in the product of the units of the costs.

    Raises:
        UserError: If a cost is not a finite number.

    Source: Zitzler and Thiele (1999).
    """
    return float(moocore.hypervolume(_finite(objectives), ref=[reference[name] for name in objectives.columns]))


def expected_gains(
    measured: pd.DataFrame, draws: NDArray[np.float64], reference: Mapping[str, float]
) -> NDArray[np.float64]:
    """Expected improvement of the hypervolume by measuring each of n candidates, estimated from draws of their costs.

    Args:
        measured: Costs that were measured (rows, d).
        draws: Draws of the costs of the candidates (draws, n, d), in the column order of `measured`.
        reference: The reference point, by column.

    Returns:
        The expected gain of each candidate (n,), in the unit of `hypervolume`.

    Raises:
        UserError: If a measured cost is not a finite number.

    Source: Emmerich et al. (2006), the expectation by Monte Carlo.
    """
    volume = moocore.Hypervolume(ref=[reference[name] for name in measured.columns])
    best = measured.to_numpy()[front(measured)]
    volumes = [[volume(np.vstack([best, row])) for row in draw] for draw in draws]
    gains: NDArray[np.float64] = np.mean(volumes, axis=0) - volume(best)
    return gains


def knee(objectives: pd.DataFrame) -> int:
    """The row of the front nearest to the ideal point, each cost scaled to 0 to 1 between its ends on the front.

    Args:
        objectives: Costs to be minimised, a column each (n, d).

    Returns:
        Index of the row.

    Raises:
        UserError: If a cost is not a finite number.
    """
    return _least(objectives, dict.fromkeys(objectives.columns, 1.0), power=2)


def weighted(objectives: pd.DataFrame, weights: Mapping[str, float]) -> int:
    """The row of the front with the least weighted sum of costs, scaled as in `knee`.

    Args:
        objectives: Costs to be minimised, a column each (n, d).
        weights: Nonnegative weights by column; a cost without a weight does not count.

    Returns:
        Index of the row.

    Raises:
        UserError: If a weight is negative, infinite or of an absent cost, all are zero, or a cost is not finite.
    """
    for name, weight in weights.items():
        if name not in objectives.columns or not 0 <= weight < np.inf:
            raise UserError(
                f"weight {name}={weight} is invalid: a weight is at least 0, finite, and of {list(objectives.columns)}"
            )
    if not any(weights.values()):
        raise UserError("all weights are zero; give at least one that is positive")
    return _least(objectives, weights, power=1)


def within(objectives: pd.DataFrame, budget: Mapping[str, float], minimise: str) -> int | None:
    """The row of the front with the least of one cost within budgets of others.

    Args:
        objectives: Costs to be minimised, a column each (n, d).
        budget: Largest allowed value by column.
        minimise: Name of the cost to be least.

    Returns:
        Index of the row; None if no row is within the budget.

    Raises:
        UserError: If a named cost is absent, or a cost is not a finite number.
    """
    if absent := [name for name in (*budget, minimise) if name not in objectives.columns]:
        raise UserError(f"there is no cost {absent[0]}, only {', '.join(objectives.columns)}")
    fits = front(objectives)
    for name, limit in budget.items():
        fits &= (objectives[name] <= limit).to_numpy()
    allowed = objectives[minimise].where(fits)
    return None if allowed.isna().all() else int(np.nanargmin(allowed))


def _least(objectives: pd.DataFrame, weights: Mapping[str, float], power: int) -> int:
    costs, on_front = _finite(objectives), front(objectives)
    best, worst = costs.min(0), costs[on_front].max(0)
    scaled = (costs - best) / np.where(worst > best, worst - best, 1.0)
    sums = scaled**power @ np.array([weights.get(name, 0.0) for name in objectives.columns])
    return int(np.where(on_front, sums, np.inf).argmin())


def _finite(objectives: pd.DataFrame) -> NDArray[np.float64]:
    costs: NDArray[np.float64] = objectives.to_numpy(float)
    infinite = np.argwhere(~np.isfinite(costs))
    if len(infinite):
        row, column = infinite[0]
        name = objectives.columns[column]
        raise UserError(f"objective {name} is {costs[row, column]} in row {row}; it must be a finite number")
    return costs
