"""Search for the largest safe sparsity of one model, within a budget of evaluations or until the answer is exact."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from prunecast.sweeps.adaptive import Evaluate, Rows
from prunecast.sweeps.curve_metrics import ROUNDING, chance_within

CHUNK = 0.025  # share of the examples evaluated at once, in the order of their fragility
SPREAD = 0.2  # as many further examples, as a share of a chunk, from all the others
STRAY = 1  # change in a chunk after which no further one is evaluated, where at least `SEVERAL` may be lost in all
SEVERAL = 3  # examples
ENOUGH = 0.3  # share of the examples after which a test ends where there is a budget
FEWEST = 12  # examples evaluated at once, at least
CLEARLY = 1.6  # times the accepted loss, and one example more: at a loss as large no further example is evaluated
CAUTION = 0.9  # share of the accepted loss that is used where not all examples were evaluated
BACK_OFF = 4  # points by which a ratio that was not evaluated on all examples is lowered, of a grid of a hundred
FIRST_STEP = 8  # points from the first tested to the second, of a grid of a hundred; each further step is doubled
BELOW = (1, 2, 3, 5, 8, 16, 32)  # points below the safe one that are tested as well: a curve may dip, and recover

Acceptable = Callable[[int, int], bool]  # numbers of examples lost and gained by pruning, over all examples


@dataclass(frozen=True)
class Safe:
    """The largest ratio that a search found safe, and what finding it took.

    Attributes:
        point: Index of the point on the grid.
        accuracy: Accuracy at that point, a fraction; where it is not measured, all examples that were not evaluated
            there are taken as they are without pruning.
        lost: Number of examples that are correct without pruning and incorrect at that point, as far as evaluated.
        gained: Number of examples for which it is the reverse.
        evaluated: Number of examples evaluated at points other than 0, over all these points.
        measured: Whether all examples were evaluated at that point.
        exact: Whether, moreover, the next point was found unsafe.
    """

    point: int
    accuracy: float
    lost: int
    gained: int
    evaluated: int
    measured: bool
    exact: bool


def within(epsilon: float, examples: int) -> Acceptable:
    """The rule that the loss of accuracy over the examples is at most `epsilon`, a fraction."""
    return lambda lost, gained: lost - gained <= (epsilon + ROUNDING) * examples


def confident(epsilon: float, examples: int, confidence: float) -> Acceptable:
    """The rule that the loss of accuracy in the population is at most `epsilon` with a probability of `confidence`."""
    chance = cache(lambda lost, gained: chance_within(lost, gained, examples, epsilon))
    return lambda lost, gained: chance(lost, gained) >= confidence


class _Tests:
    """What was evaluated at which point, and which points passed."""

    def __init__(self, evaluate: Evaluate, points: int, examples: int, epsilon: float, acceptable: Acceptable):
        self.outcome_of, self.points, self.examples = evaluate, points, examples
        self.acceptable, self.accepted = acceptable, epsilon * examples
        self.correct, self.evaluated = np.zeros((2, points, examples), bool)
        self.margin = np.zeros((points, examples))
        self.left, self.spent = float("inf"), 0  # examples that may still be evaluated, and that were
        self.run(0, np.arange(examples))
        self.spent = 0
        self.tested = {0}
        self.chunk = max(FEWEST, round(CHUNK * examples))
        self.stray = STRAY if self.accepted >= SEVERAL else 0

    def run(self, point: int, rows: Rows) -> None:
        """Evaluate those of the rows (n,) that have not been evaluated at the point."""
        rows = rows[~self.evaluated[point, rows]]
        if len(rows):
            outcome = self.outcome_of(point, rows)
            self.correct[point, rows] = outcome.correct.numpy()
            self.margin[point, rows] = np.abs(outcome.margin.numpy())
            self.evaluated[point, rows] = True
            self.spent += len(rows)
            self.left -= len(rows)

    def changes(self, point: int) -> tuple[int, int]:
        """Numbers of examples lost and gained at a point, as far as evaluated."""
        dense, now = (self.correct[at, self.evaluated[point]] for at in (0, point))
        return int((dense & ~now).sum()), int((now & ~dense).sum())

    def passes(self, point: int) -> bool:
        """Whether a tested point is safe: by all examples, or by those evaluated with a part of the loss held back."""
        lost, gained = self.changes(point)
        held_back = 0 if self.evaluated[point].all() else int(np.ceil((1 - CAUTION) * self.accepted))
        return point == 0 or self.acceptable(lost + held_back, gained)

    def fragility(self, point: int) -> Rows:
        """All examples, those first that are most likely to be correct at 0 and incorrect at a point, or the reverse.

        First come examples that had changed at the next tested point above; then those whose margins are smallest in
        sum, at the next tested points below and above; an example that had changed below counts as of margin zero.
        """
        below = max(at for at in self.tested if at < point)
        above = min((at for at in self.tested if at > point), default=None)
        score = np.where(self.evaluated[below], self.margin[below], self.margin[0])
        score[self._changed(below)] = 0
        if above is not None:
            score = score + np.where(self.evaluated[above], self.margin[above], 0)
            score[self._changed(above)] = -1
        return np.argsort(score, kind="stable")

    def _changed(self, point: int) -> NDArray[np.bool_]:
        changed: NDArray[np.bool_] = self.evaluated[point] & (self.correct[point] != self.correct[0])
        return changed

    def test(self, point: int) -> bool:
        """Evaluate examples by their fragility until a chunk brings no more than a stray change.

        It ends earlier where the loss is clearly too large, or a budget is shared and enough examples were evaluated.

        To every chunk belong some examples spread evenly over the less fragile ones, so that these are not ignored.

        Returns:
            Whether the budget was enough; if not, the point does not count as tested.
        """
        remaining = self.fragility(point)
        while len(remaining):
            rest = np.arange(self.chunk, len(remaining))
            spread = rest[:: max(1, -(-len(rest) // round(SPREAD * self.chunk)))]
            places = np.concatenate([np.arange(min(self.chunk, len(remaining))), spread])
            rows, remaining = remaining[places], np.delete(remaining, places)
            if (~self.evaluated[point, rows]).sum() > self.left:
                return False
            self.run(point, rows)
            enough = np.isfinite(self.left) and self.evaluated[point].mean() >= ENOUGH
            if self._changed(point)[rows].sum() <= self.stray or enough or self.clearly_unsafe(point):
                break
        self.tested.add(point)
        return True

    def clearly_unsafe(self, point: int) -> bool:
        """Whether the loss over the evaluated examples is so large that the others will not make up for it."""
        lost, gained = self.changes(point)
        return lost - gained > CLEARLY * self.accepted + 1 and not self.acceptable(lost, gained)

    def unsafe(self) -> int:
        """The first point that was tested and does not pass; the number of points, if there is none."""
        return min((point for point in self.tested if not self.passes(point)), default=self.points)

    def safe(self) -> int:
        """The last point that was tested and passes, below every one that does not."""
        unsafe = self.unsafe()
        return max(point for point in self.tested if point < unsafe)

    def narrow(self) -> bool:
        """Halve the bracket of the last safe and the first unsafe point until they are neighbours, or budget is short.

        Returns:
            Whether they are neighbours.
        """
        while (high := self.unsafe()) - (low := self.safe()) > 1:
            if not self.test((low + high) // 2):
                return False
        return True

    def whole(self, point: int) -> None:
        """Evaluate all examples at a point, and at the others those that this showed to have changed."""
        rest = np.flatnonzero(~self.evaluated[point])
        self.run(point, rest)
        self.tested.add(point)
        late = rest[self._changed(point)[rest]]
        for other in sorted(self.tested - {0, point}, key=lambda at: abs(at - point)):
            self.run(other, late)


def search_safe(
    evaluate: Evaluate,
    points: int,
    examples: int,
    epsilon: float,
    start: int,
    budget: float | None = None,
    acceptable: Acceptable | None = None,
) -> Safe:
    """Find the last point before the accuracy first falls by more than `epsilon` below that of point 0.

    Few examples change their outcome at a safe ratio, and most of these have small margins, without pruning or at a
    neighbouring ratio. So a ratio is tested on the examples in the order of their fragility, a chunk at a time, until a
    chunk brings hardly a change. From `start` the search goes up or down in doubling steps until it has a safe and an
    unsafe ratio, halves the bracket between them, and tests points below the safe one. Without a budget all examples
    are then evaluated at the point found; if it is unsafe by these, the search goes on below.

    With a budget the search ends when the next test exceeds it. The ratio found is lowered by `BACK_OFF` points; what
    is left of the budget is spent on further examples there, and if it is unsafe by these, it is lowered again.

    Args:
        evaluate: Outcome of some examples at a point.
        points: Number of grid points p.
        examples: Number of examples n.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        start: Point tested first, such as a forecast one; moved into 1 to p - 1.
        budget: Evaluations of all n examples that may be spent beside that of point 0; None: as many as it takes.
        acceptable: The rule for a safe point; that of `within` if none is given.

    Returns:
        The last safe point as far as it was found, and the number of evaluations.
    """
    tests = _Tests(evaluate, points, examples, epsilon, acceptable or within(epsilon, examples))
    if budget is not None:
        tests.left = budget * examples
    start = min(max(start, 1), points - 1)
    finished = _bracket(tests, start) and tests.narrow()
    if budget is None:
        while not _verified(tests):
            _improve(tests)
            tests.narrow()
        point = tests.safe()
    else:
        back_off = max(1, round(BACK_OFF * points / 100))
        point = max(tests.safe() - back_off, 0)
        while finished and point and tests.left >= 1:
            tests.run(point, tests.fragility(point)[: int(tests.left)])
            if tests.passes(point):
                break
            point = max(point - back_off, 0)
    lost, gained = tests.changes(point)
    accuracy = float(tests.correct[0].mean()) - (lost - gained) / examples
    return Safe(point, accuracy, lost, gained, tests.spent, bool(tests.evaluated[point].all()), budget is None)


def _bracket(tests: _Tests, start: int) -> bool:
    """Test points from `start` on, upwards or downwards in doubling steps, until one is safe and one is not."""
    step, point = max(1, round(FIRST_STEP * tests.points / 100)), start
    if tests.points < 2:
        return True
    if not tests.test(point):
        return False
    up = tests.passes(point)
    while tests.passes(point) == up and 0 < point < tests.points - 1:
        point = min(max(point + (step if up else -step), 0), tests.points - 1)
        step *= 2
        if point and not tests.test(point):
            return False
    return True


def _verified(tests: _Tests) -> bool:
    """Whether the last safe point is certain but for dips: all examples evaluated there, and at the next if need be."""
    safe, unsafe = tests.safe(), tests.unsafe()
    return (
        bool(tests.evaluated[safe].all())
        and unsafe - safe <= 1
        and (unsafe == tests.points or bool(tests.evaluated[unsafe].all()) or tests.clearly_unsafe(unsafe))
        and all(safe - below <= 0 or safe - below in tests.tested for below in BELOW)
    )


def _improve(tests: _Tests) -> None:
    """The next step towards an answer that is verified."""
    safe, unsafe = tests.safe(), tests.unsafe()
    for below in BELOW:
        if safe - below > 0 and safe - below not in tests.tested:
            tests.test(safe - below)
            return
    tests.whole(unsafe if tests.evaluated[safe].all() else safe)
