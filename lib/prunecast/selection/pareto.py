"""Selection: the largest ratio within an accuracy one would give up, the front of several costs, and a choice from it.

The algorithm as printed is Algorithm 1 of Smarts, Selvaraj and Kuthadi (J. Computer Science 21(5), 2025): an
epsilon-constraint problem with a start and a step, no front, and no rule for the choice. Those are added here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import moocore
import numpy as np
import pandas as pd

from prunecast.errors import UserError

START = 0.3  # ratio at which Algorithm 1 begins
STEP = 0.1  # and what it goes back by: 0.3, on violation 0.2, …
SPREAD = 0.1  # how far a forecast of the safe ratio is off, on average, as an exponential law on either side
BELOW = (1, 3)  # steps below an answer that are measured too: a curve may dip there, and recover
FAR = 0.02  # share of the belief that is spread evenly over all ratios, for a forecast that is wrong altogether


@dataclass(frozen=True)
class Selection:
    """A ratio (the share pruned), whether any pruning was feasible, and its cost in evaluations of all examples."""

    ratio: float
    feasible: bool
    evaluations: float

    def __str__(self) -> str:
        if not self.feasible:
            return "no ratio keeps the accuracy within epsilon: the answer is the dense model"
        return f"prune {self.ratio:.0%}, found with {self.evaluations:g} evaluations"


Holds = Callable[[float], bool]


def algorithm_1(holds: Holds, start: float = START, step: float = STEP) -> Selection:
    """The scan of Algorithm 1, steps I-V and VIII: from `start` down until the constraint holds, or up while it does.

    `holds(ratio)` measures whether the model pruned by that share loses no more than epsilon. The answer is the
    largest ratio of the scan that does; the dense model, ratio 0, where none does.
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


def guided(holds: Holds, forecast: float, ratios: np.ndarray) -> Selection:
    """The same answer from fewer evaluations: each at the median of where the safe ratio may still lie.

    `ratios` (n,) rise from 0; `forecast` is where a surrogate expects the largest safe one. The search ends where a
    ratio holds, the next does not, and those one and three below hold as well.
    """
    belief = np.exp(-np.abs(ratios - forecast) / SPREAD)
    belief = (1 - FAR) * belief / belief.sum() + FAR / len(ratios)
    return _bisected(holds, ratios, belief)


def halved(holds: Holds, ratios: np.ndarray) -> Selection:
    """The same search without a forecast: measuring half-way between what holds and what does not."""
    return _bisected(holds, ratios, np.full(len(ratios), 1 / len(ratios)))


def _bisected(holds: Holds, ratios: np.ndarray, belief: np.ndarray) -> Selection:
    known = {0: True}
    low, high = 0, len(ratios)
    while True:
        if high - low > 1:
            mass = belief[low:high].cumsum()
            place = low + 1 + int(np.abs(mass[:-1] - mass[-1] / 2).argmin())
        else:
            place = next((low - step for step in BELOW if low - step > 0 and low - step not in known), 0)
        if place == 0:
            return Selection(float(ratios[low]), low > 0, len(known) - 1)
        known[place] = holds(float(ratios[place]))
        if not known[place]:
            high = place
        low = max(other for other, held in known.items() if held and other < high)


def front(objectives: pd.DataFrame) -> np.ndarray:
    """Which rows no other row dominates, all columns being costs (n, d): booleans (n,).

    Of equal rows the first is kept. Raises UserError where a cost is not a finite number.
    """
    return moocore.is_nondominated(_finite(objectives))


def hypervolume(objectives: pd.DataFrame, reference: Mapping[str, float]) -> float:
    """Volume of costs that some row is below and `reference` above (Zitzler and Thiele, 1999)."""
    return float(moocore.hypervolume(_finite(objectives), ref=[reference[name] for name in objectives.columns]))


def expected_gains(seen: pd.DataFrame, believed: np.ndarray, reference: Mapping[str, float]) -> np.ndarray:
    """Expected hypervolume that measuring each of n candidates would add (n,), from draws of their costs.

    `seen` are costs that were measured (rows, d), `believed` draws of the others (draws, n, d) in the same order.
    """
    volume = moocore.Hypervolume(ref=[reference[name] for name in seen.columns])
    best = seen.to_numpy()[front(seen)]
    volumes = [[volume(np.vstack([best, row])) for row in draw] for draw in believed]
    return np.mean(volumes, axis=0) - volume(best)


def knee(objectives: pd.DataFrame) -> int:
    """The row nearest to the ideal point, each cost scaled to 0 to 1 between the best and the worst of the front."""
    return _least(objectives, dict.fromkeys(objectives.columns, 1.0), power=2)


def weighted(objectives: pd.DataFrame, weights: Mapping[str, float]) -> int:
    """The row with the least weighted sum of costs, scaled likewise; a cost without a weight does not count.

    Raises UserError for a weight below zero, of a cost that is not there, or if all are zero.
    """
    for name, weight in weights.items():
        if name not in objectives.columns or not 0 <= weight < np.inf:
            raise UserError(
                f"weight {name}={weight} is none: a weight is at least 0, and of {list(objectives.columns)}"
            )
    if not any(weights.values()):
        raise UserError("all weights are zero; give at least one of them")
    return _least(objectives, weights, power=1)


def within(objectives: pd.DataFrame, budget: Mapping[str, float], minimise: str) -> int | None:
    """The row of the front with the least `minimise` within the `budget` of each named cost; None if there is none.

    Raises UserError for a cost that is not there.
    """
    if absent := [name for name in (*budget, minimise) if name not in objectives.columns]:
        raise UserError(f"there is no cost {absent[0]}, only {', '.join(objectives.columns)}")
    fits = front(objectives)
    for name, limit in budget.items():
        fits &= (objectives[name] <= limit).to_numpy()
    allowed = objectives[minimise].where(fits)
    return None if allowed.isna().all() else int(np.nanargmin(allowed))


def _least(objectives: pd.DataFrame, weights: Mapping[str, float], power: int) -> int:
    costs = _finite(objectives)
    kept = front(objectives)
    best, worst = costs.min(0), costs[kept].max(0)
    scaled = (costs - best) / np.where(worst > best, worst - best, 1.0)
    sums = scaled**power @ np.array([weights.get(name, 0.0) for name in objectives.columns])
    return int(np.where(kept, sums, np.inf).argmin())


def _finite(objectives: pd.DataFrame) -> np.ndarray:
    costs = objectives.to_numpy(float)
    wrong = np.argwhere(~np.isfinite(costs))
    if len(wrong):
        row, column = wrong[0]
        raise UserError(f"objective {objectives.columns[column]} is {costs[row, column]} in row {row}, not a number")
    return costs
