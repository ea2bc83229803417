"""Which masks of a pruning curve to evaluate, and on which examples: all of them, or those a bracketing search needs.

Every function here gets outcomes through an argument `evaluate(point, rows)`, the outcome of the examples `rows` (n,)
at one grid point; no model is used directly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.stats import beta

from prunecast.models.evaluation import Outcome
from prunecast.seeding import generator

Rows = NDArray[np.intp]  # indices (n,) of examples
Evaluate = Callable[[int, Rows], Outcome]

START = 0.75  # of the grid: where all examples are evaluated, beside its ends
CHUNK = (
    8  # examples of smallest margin that are evaluated first; if few of them change, larger margins are interpolated
)
FEW = 0.1  # share of a chunk that may change without a further one
AUDIT_SAMPLE = 8  # examples drawn among those that would then be interpolated, and evaluated as well
MOST = 0.5  # share of the examples evaluated at a point above which the others are evaluated as well
WIDEST = 0.08  # length, as a share of the grid, of a bracket that may remain without an evaluation inside
NET = 0.03  # difference of the accuracies at its ends
CHURN = (
    0.012  # length of such a bracket, as a share of the grid, times the share of examples that differ between its ends
)


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

    def resolved(self, low: int, high: int) -> bool:
        """Whether the points inside a bracket may remain without an evaluation."""
        gain = self.correct[high].mean() - self.correct[low].mean()
        differ = (self.correct[low] != self.correct[high]).mean()
        length = (high - low) / (len(self.correct) - 1)
        return high - low < 2 or bool(length <= WIDEST and abs(gain) <= NET and length * differ <= CHURN)


def adaptive(evaluate: Evaluate, points: int, examples: int, seed: int = 0, curve: str = "") -> MeasuredCurve:
    """Measure a curve by a bracketing search with an audit sample and a tolerance.

    The search rests on two observations: an example that two masks classify alike (both correctly, or both
    incorrectly) is mostly classified so by a mask in between; and where it is not, its margin was small. All examples
    are evaluated at both ends and at `START` of the grid; then brackets of two evaluated points are halved. At the
    new point, the examples evaluated are those whose outcomes differ between the ends of the bracket, and the `CHUNK`
    ones of smallest margin among the rest; as long as more than a share `FEW` of these change, further examples follow
    in the order of their margins, in chunks of doubling size. Outcomes of the remaining examples would now be
    interpolated from the ends. `AUDIT_SAMPLE` of them are evaluated all the same, the audit: one drawn at random out of
    each of as many equal parts in the order of the margins. If one of them has changed, or more than a share `MOST` of
    all examples has been evaluated, all are evaluated at this point, else the rest is interpolated.

    A bracket is not halved if it is at most `WIDEST` long, the accuracies at its ends differ by at most `NET`, and its
    length times the share of examples whose outcomes differ between the ends is at most `CHURN`: gains and losses that
    balance over a short or a calm bracket leave little to be found inside. Accuracy and loss at points without any
    evaluation are interpolated by a monotone cubic. How many audited examples had changed bounds the error of the
    interpolated outcomes; what that bound covers, and what not, is said at `MeasuredCurve.audit_error_bound`.

    Args:
        evaluate: Outcome of some examples at a point.
        points: Number of grid points p.
        examples: Number of examples n.
        seed: Seed of the audit.
        curve: Name of the curve; curves of different names draw different examples.

    Returns:
        The curve without outcomes, with the results of the audit.

    Source: the monotone cubic is that of Fritsch and Butland (1984), "A method for constructing local monotone
        piecewise cubic interpolants".
    """
    known = _Outcomes(evaluate, points, examples, seed, curve)
    whole = sorted({0, round(START * (points - 1)), points - 1})
    for point in whole:
        known.evaluate(point, np.arange(examples))
    brackets = list(pairwise(whole))
    while brackets:
        low, high = brackets.pop(0)
        if known.resolved(low, high):
            continue
        point = (low + high) // 2
        _evaluate_between(known, low, point, high)
        brackets += [(low, point), (point, high)]
    at = np.flatnonzero(known.evaluated.any(axis=1))
    accuracy, loss = (_interpolated(at, values[at].mean(axis=1), points) for values in (known.correct, known.loss))
    return MeasuredCurve(accuracy, loss, known.evaluated.sum(axis=1), int(known.audited.sum()), int(known.missed.sum()))


def _interpolated(at: Rows, values: NDArray[np.float64], points: int) -> NDArray[np.float64]:
    return np.asarray(PchipInterpolator(at, values)(np.arange(points)), float) if len(at) > 1 else values


def _evaluate_between(known: _Outcomes, low: int, point: int, high: int) -> None:
    differ = known.correct[low] != known.correct[high]
    alike = np.flatnonzero(~differ)
    smallest = np.minimum(np.abs(known.margin[low, alike]), np.abs(known.margin[high, alike]))
    by_margin = alike[np.argsort(smallest, kind="stable")]
    risky = by_margin[:CHUNK]
    known.evaluate(point, np.concatenate([np.flatnonzero(differ), risky]))
    remaining, chunk = by_margin[CHUNK:], CHUNK
    while len(remaining) and known.changed(low, point, risky).mean() > FEW:
        chunk *= 2
        risky, remaining = remaining[:chunk], remaining[chunk:]
        known.evaluate(point, risky)
    audit = known.drawn(point, remaining)
    known.evaluate(point, audit)
    missed = known.changed(low, point, audit)
    known.audited[audit] = True
    known.missed[audit] |= missed
    remaining = np.setdiff1d(remaining, audit)
    if missed.any() or known.evaluated[point].mean() > MOST:
        known.evaluate(point, remaining)
    else:
        known.interpolate(point, remaining, low, high)
