"""Which masks of a pruning curve to evaluate, and on which examples: all of them, or those a bracketing search needs.

Every function here gets outcomes through an argument `evaluate(point, rows)`, the outcome of the examples `rows` (n,)
at one grid point; no model is used directly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from prunecast.models.evaluation import Outcome
from prunecast.seeding import generator
from prunecast.sweeps.curve_metrics import within_epsilon

Rows = NDArray[np.intp]  # indices (n,) of examples
Evaluate = Callable[[int, Rows], Outcome]

CHUNK = 24  # examples of smallest margin that are evaluated first; if none changes, larger margins are interpolated
AUDIT_SAMPLE = 12  # examples drawn among those that would then be interpolated, and evaluated as well
WIDEST_BRACKET = 8  # points from end to end of a bracket that may remain without an evaluation inside
TOLERANCE = 0.012  # share of examples that may differ between the ends of such a bracket
AT_RISK = 0.1  # share of examples whose margin may, in it, be smaller than the median change of a margin across it
NEAR = 3  # points below the last safe one that are evaluated as well: a curve may dip there, and recover


@dataclass(frozen=True)
class MeasuredCurve:
    """An accuracy curve over the p points of a grid, and how it was measured.

    Attributes:
        accuracy: Share of correctly classified examples at each point (p,).
        loss: Mean cross-entropy at each point (p,), in nats.
        evaluated: Number of examples evaluated at each point (p,).
        audited: Number of different examples that were drawn for an audit, at one point or more.
        audit_misses: Number of these whose outcome at a point where they were drawn was another one than the one to be
            interpolated: correct instead of incorrect, or the reverse.
        outcomes: Outcome of all examples at each point (p), for an exact curve alone.
    """

    accuracy: NDArray[np.float64]
    loss: NDArray[np.float64]
    evaluated: NDArray[np.int64]
    audited: int = 0
    audit_misses: int = 0
    outcomes: tuple[Outcome, ...] = ()

    def audit_error_bound(self, confidence: float = 0.95) -> float:
        """Upper limit of the share of examples that would be interpolated wrongly at points where an audit draws them.

        The unit is an example: one that was drawn at several points counts once, as missed if it was missed at any of
        them, because its outcomes at neighbouring points are not independent. The limit does not cover points without
        any evaluation, whose accuracy is interpolated, nor the other points at which an example was interpolated. To
        examples that were never drawn it applies as far as they are like the drawn ones; the more points leave an
        example to be interpolated, the more often it is drawn.

        Args:
            confidence: Confidence of the one-sided limit, between 0 and 1.

        Returns:
            A share of examples between 0 and 1; 1 where none was audited.

        Source: Clopper and Pearson (1934), the exact binomial interval.
        """
        misses, hits = self.audit_misses, self.audited - self.audit_misses
        return float(beta.ppf(confidence, misses + 1, hits)) if hits else 1.0


def exact(evaluate: Evaluate, points: int, examples: int) -> MeasuredCurve:
    """Measure a curve by evaluating every example at every point.

    Args:
        evaluate: Outcome of some examples at a point.
        points: Number of grid points p.
        examples: Number of examples n.

    Returns:
        The curve with all p outcomes.
    """
    outcomes = [evaluate(point, np.arange(examples)) for point in range(points)]
    accuracy, loss = ([getattr(outcome, name) for outcome in outcomes] for name in ("accuracy", "mean_loss"))
    return MeasuredCurve(np.array(accuracy), np.array(loss), np.full(points, examples), outcomes=tuple(outcomes))


def simulate_adaptive(measured: MeasuredCurve, seed: int = 0, curve: str = "") -> MeasuredCurve:
    """The curve that `adaptive` would have measured, simulated on the outcomes of an exact curve.

    Args:
        measured: An exact curve; an adaptive one is returned unchanged.
        seed: As of `adaptive`.
        curve: As of `adaptive`.

    Returns:
        The simulated curve over the same points.
    """
    if not measured.outcomes:
        return measured
    outcomes = measured.outcomes
    return adaptive(lambda point, rows: outcomes[point].of(rows), len(outcomes), len(outcomes[0].correct), seed, curve)


class _Outcomes:
    """Outcome of every example (columns) at every point (rows), evaluated or interpolated from a bracket's ends."""

    def __init__(self, evaluate: Evaluate, points: int, examples: int, seed: int, curve: str):
        self._outcome_of, self._seed, self._curve = evaluate, seed, curve
        self.correct = np.zeros((points, examples), bool)
        self.loss, self.margin = np.zeros((2, points, examples))
        self.evaluated = np.zeros((points, examples), bool)
        self.audited, self.missed = np.zeros((2, examples), bool)

    def evaluate(self, point: int, rows: Rows) -> None:
        if not len(rows):
            return
        outcome = self._outcome_of(point, rows)
        for name in ("correct", "loss", "margin"):
            getattr(self, name)[point, rows] = getattr(outcome, name).numpy()
        self.evaluated[point, rows] = True

    def interpolate(self, point: int, rows: Rows, low: int, high: int) -> None:
        """Fill in the rows, which have equal outcomes at both ends: loss and margin linearly."""
        weight = (point - low) / (high - low)
        self.correct[point, rows] = self.correct[low, rows]
        for values in (self.loss, self.margin):
            values[point, rows] = (1 - weight) * values[low, rows] + weight * values[high, rows]

    def changed(self, low: int, point: int, rows: Rows) -> NDArray[np.bool_]:
        """Which of the rows are correct at one of the two points and incorrect at the other."""
        different: NDArray[np.bool_] = self.correct[point, rows] != self.correct[low, rows]
        return different

    def drawn(self, point: int, rows: Rows) -> Rows:
        """One of the rows out of each of `AUDIT_SAMPLE` parts of equal length, at random."""
        bounds = np.linspace(0, len(rows), min(AUDIT_SAMPLE, len(rows)) + 1).astype(int)
        draw = generator(self._seed, "audit", self._curve, str(point))
        return rows[draw.integers(bounds[:-1], bounds[1:])]

    def within_tolerance(self, low: int, high: int) -> bool:
        """Whether the points inside a bracket may remain without an evaluation."""
        if high - low < 2:
            return True
        differing = (self.correct[low] != self.correct[high]).mean()
        smallest = np.minimum(np.abs(self.margin[low]), np.abs(self.margin[high]))
        movement = np.median(np.abs(self.margin[low] - self.margin[high]))
        at_risk = (smallest < movement).mean()
        return bool(high - low <= WIDEST_BRACKET and differing <= TOLERANCE and at_risk <= AT_RISK)


def adaptive(evaluate: Evaluate, points: int, examples: int, seed: int = 0, curve: str = "") -> MeasuredCurve:
    """Measure a curve by a bracketing search with an audit sample and a tolerance.

    The search rests on two observations: an example that two masks classify alike (both correctly, or both
    incorrectly) is mostly classified so by a mask in between; and where it is not, its margin was small. All examples
    are evaluated at both ends and in the middle of the grid; then brackets of two evaluated points are halved. At the
    new point, the examples evaluated are those whose outcomes differ between the ends of the bracket, and the `CHUNK`
    ones of smallest margin among the rest; as long as some of these change, further examples follow in the order of
    their margins, in chunks of doubling size. Outcomes of the remaining examples would now be interpolated from the
    ends. `AUDIT_SAMPLE` of them are evaluated all the same, the audit: one drawn at random out of each of as many equal
    parts in the order of the margins. If one of them has changed, all examples are evaluated at this point, else the
    rest is interpolated.

    A bracket is not halved if it is at most `WIDEST_BRACKET` points wide, at most a share `TOLERANCE` of the examples
    differ between its ends, and at most a share `AT_RISK` have margins so small that the median change of a margin
    from one end to the other could change their outcome. Accuracy and loss at points without any evaluation are
    interpolated linearly. How many audited examples had changed bounds the error of the interpolated outcomes; what
    that bound covers, and what not, is said at `MeasuredCurve.audit_error_bound`.

    Args:
        evaluate: Outcome of some examples at a point.
        points: Number of grid points p.
        examples: Number of examples n.
        seed: Seed of the audit.
        curve: Name of the curve; curves of different names draw different examples.

    Returns:
        The curve without outcomes, with the results of the audit.
    """
    known = _Outcomes(evaluate, points, examples, seed, curve)
    whole = sorted({0, points // 2, points - 1})
    for point in whole:
        known.evaluate(point, np.arange(examples))
    brackets = list(pairwise(whole))
    while brackets:
        low, high = brackets.pop(0)
        if known.within_tolerance(low, high):
            continue
        point = (low + high) // 2
        _evaluate_between(known, low, point, high)
        brackets += [(low, point), (point, high)]
    at = np.flatnonzero(known.evaluated.any(axis=1))
    accuracy, loss = (
        np.interp(np.arange(points), at, values[at].mean(axis=1)) for values in (known.correct, known.loss)
    )
    return MeasuredCurve(accuracy, loss, known.evaluated.sum(axis=1), int(known.audited.sum()), int(known.missed.sum()))


def _evaluate_between(known: _Outcomes, low: int, point: int, high: int) -> None:
    differ = known.correct[low] != known.correct[high]
    alike = np.flatnonzero(~differ)
    smallest = np.minimum(np.abs(known.margin[low, alike]), np.abs(known.margin[high, alike]))
    by_margin = alike[np.argsort(smallest, kind="stable")]
    risky = by_margin[:CHUNK]
    known.evaluate(point, np.concatenate([np.flatnonzero(differ), risky]))
    remaining, chunk = by_margin[CHUNK:], CHUNK
    while len(remaining) and known.changed(low, point, risky).any():
        chunk *= 2
        risky, remaining = remaining[:chunk], remaining[chunk:]
        known.evaluate(point, risky)
    audit = known.drawn(point, remaining)
    known.evaluate(point, audit)
    missed = known.changed(low, point, audit)
    known.audited[audit] = True
    known.missed[audit] |= missed
    remaining = np.setdiff1d(remaining, audit)
    if missed.any():
        known.evaluate(point, remaining)
    else:
        known.interpolate(point, remaining, low, high)


@dataclass(frozen=True)
class Safe:
    """The last safe point of a curve, and what finding it took.

    Attributes:
        point: Index of the point on the grid.
        accuracy: Accuracy at that point, a fraction.
        evaluated: Number of examples evaluated at points other than 0, over all these points.
    """

    point: int
    accuracy: float
    evaluated: int


def last_safe(evaluate: Evaluate, points: int, examples: int, epsilon: float, start: int) -> Safe:
    """Find the last point before the accuracy first falls by more than `epsilon` below that of point 0.

    Evaluates all examples at `start`, and at further points above until one is unsafe; then halves the bracket of the
    last safe and the first unsafe point, and all brackets below that are not within the tolerance, on the examples
    that can still change, as `adaptive` does. At the end all examples have been evaluated at the point returned and
    at the one after it. Further down, up to `WIDEST_BRACKET` - 1 successive points remain without an evaluation where
    both ends of a bracket agree: a dip as narrow as that may be missed there.

    Args:
        evaluate: Outcome of some examples at a point.
        points: Number of grid points p.
        examples: Number of examples n.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        start: Point evaluated first, such as a forecast one; moved into 1 to p - 1.

    Returns:
        The last safe point, its accuracy over all examples, and the number of evaluations.
    """
    known, every = _Outcomes(evaluate, points, examples, 0, "last safe"), np.arange(examples)

    def is_safe(point: int) -> bool:
        return bool(within_epsilon(known.correct[point].mean(), known.correct[0].mean(), epsilon))

    start = min(max(start, 1), points - 1)
    known.evaluate(0, every)
    known.evaluate(start, every)
    at, top = [0, start], start
    while top < points - 1 and is_safe(top):
        top = (top + points) // 2
        known.evaluate(top, every)
        at.append(top)
    while True:
        unsafe = next((point for point in at if not is_safe(point)), points)
        safe = max(point for point in at if point < unsafe)
        wide = [(low, high) for low, high in pairwise(at) if low < unsafe and high - low > 1]
        brackets = [ends for ends in wide if ends[1] > safe - NEAR or not known.within_tolerance(*ends)]
        partly = [point for point in (safe, unsafe) if point < points and not known.evaluated[point].all()]
        if brackets:
            low, high = brackets[-1]
            point = (low + high) // 2
            _evaluate_between(known, low, point, high)
            at = sorted([*at, point])
        elif partly:
            known.evaluate(partly[0], np.flatnonzero(~known.evaluated[partly[0]]))
        else:
            return Safe(safe, float(known.correct[safe].mean()), int(known.evaluated[1:].sum()))
