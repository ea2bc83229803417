"""Which masks to evaluate, and on which examples: all of them, or only where the curve can still move.

Both engines ask for outcomes through a function `look(point, rows)` and know nothing of models. The adaptive one rests
on two observations. Between two masks that classify an example alike, a mask in between mostly does so too; and where
it does not, the margin of the example was small. So it halves the grid again and again and looks, at each new point,
at the examples that differ between the two ends, at those of the smallest margins, and at an even sample of all
others, the audit. It goes on to larger margins as long as it finds changes. Points between two ends stay unseen where
few examples differ and few margins are so small that the movement from one end to the other could turn them. What it
has not looked at is taken from the ends; how often the audit found such a belief wrong bounds the error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import beta

from prunecast.models.evaluation import Outcome
from prunecast.sweeps.curve_metrics import ROUNDING

Evaluate = Callable[[int, np.ndarray], Outcome]

CHUNK = 24  # examples of the smallest margins that must change nothing before the rest is believed
AUDIT = 8  # examples of any margin that are looked at besides
GAP = 8  # points that may lie unseen between two that classify alike
DIFFERING = 0.012  # share of examples that may differ between two points with none looked at in between
NEAR = 3  # points below the last safe one that are looked at as well: a curve may dip there, and recover
AT_RISK = 0.1  # share of examples whose margin may there be smaller than the median movement of a margin


@dataclass(frozen=True)
class MeasuredCurve:
    """A curve over p points: `accuracy` (p,), `loss` (p,) in nats, `evaluated` (p,) examples that were looked at.

    `audited` beliefs were checked, and `surprises` of them were wrong; of an exact curve all `outcomes` are kept.
    """

    accuracy: np.ndarray
    loss: np.ndarray
    evaluated: np.ndarray
    audited: int = 0
    surprises: int = 0
    outcomes: tuple[Outcome, ...] = ()

    def belief_error_bound(self, confidence: float = 0.95) -> float:
        """Upper limit of the share of wrong beliefs at points that were looked at (Clopper and Pearson, 1934)."""
        wrong, right = self.surprises, self.audited - self.surprises
        return float(beta.ppf(confidence, wrong + 1, right)) if right else 1.0


def exact(look: Evaluate, points: int, examples: int) -> MeasuredCurve:
    """Look at every example at every point."""
    outcomes = [look(point, np.arange(examples)) for point in range(points)]
    accuracy, loss = ([getattr(found, name) for found in outcomes] for name in ("accuracy", "mean_loss"))
    return MeasuredCurve(np.array(accuracy), np.array(loss), np.full(points, examples), outcomes=tuple(outcomes))


def rehearse(measured: MeasuredCurve) -> MeasuredCurve:
    """What the adaptive engine would have made of an exact curve's outcomes; an adaptive curve is returned as it is."""
    if not measured.outcomes:
        return measured
    return adaptive(
        lambda point, rows: measured.outcomes[point].of(rows), len(measured.outcomes), len(measured.outcomes[0].correct)
    )


class _Known:
    """What is known of every example (columns) at every point (rows), looked at or taken from the neighbours."""

    def __init__(self, look: Evaluate, points: int, examples: int):
        self.look = look
        self.correct = np.zeros((points, examples), bool)
        self.loss, self.margin = np.zeros((2, points, examples))
        self.looked = np.zeros((points, examples), bool)
        self.audited = self.surprises = 0

    def see(self, point: int, rows: np.ndarray) -> None:
        found = self.look(point, rows)
        for name in ("correct", "loss", "margin"):
            getattr(self, name)[point, rows] = getattr(found, name).numpy()
        self.looked[point, rows] = True

    def changes(self, low: int, point: int, rows: np.ndarray) -> int:
        """How many of the rows, which both ends classify alike, are classified otherwise at the point."""
        return int((self.correct[point, rows] != self.correct[low, rows]).sum())

    def settled(self, low: int, high: int) -> bool:
        """Whether the points between two ends may stay unseen."""
        if high - low < 2:
            return True
        differing = (self.correct[low] != self.correct[high]).mean()
        smallest = np.minimum(np.abs(self.margin[low]), np.abs(self.margin[high]))
        movement = np.median(np.abs(self.margin[low] - self.margin[high]))
        return bool(high - low <= GAP and differing <= DIFFERING and (smallest < movement).mean() <= AT_RISK)

    def believe(self, point: int, rows: np.ndarray, low: int, high: int) -> None:
        weight = (point - low) / (high - low)
        self.correct[point, rows] = self.correct[low, rows]
        for values in (self.loss, self.margin):
            values[point, rows] = (1 - weight) * values[low, rows] + weight * values[high, rows]


def adaptive(look: Evaluate, points: int, examples: int) -> MeasuredCurve:
    """Look where the curve can still move; interpolate linearly over the points that were never looked at."""
    seen = _Known(look, points, examples)
    whole = sorted({0, points // 2, points - 1})
    for point in whole:
        seen.see(point, np.arange(examples))
    open_brackets = list(pairwise(whole))
    while open_brackets:
        low, high = open_brackets.pop(0)
        if seen.settled(low, high):
            continue
        point = (low + high) // 2
        _evaluate_between(seen, low, point, high)
        open_brackets += [(low, point), (point, high)]
    at = np.flatnonzero(seen.looked.any(axis=1))
    accuracy, loss = (np.interp(np.arange(points), at, known[at].mean(axis=1)) for known in (seen.correct, seen.loss))
    return MeasuredCurve(accuracy, loss, seen.looked.sum(axis=1), seen.audited, seen.surprises)


def _evaluate_between(seen: _Known, low: int, point: int, high: int) -> None:
    differ = seen.correct[low] != seen.correct[high]
    alike = np.flatnonzero(~differ)
    smallest = np.minimum(np.abs(seen.margin[low, alike]), np.abs(seen.margin[high, alike]))
    by_margin = alike[np.argsort(smallest, kind="stable")]
    risky, others = by_margin[:CHUNK], by_margin[CHUNK:]
    audited = np.arange(len(others)) % max(1, len(others) // AUDIT) == 0
    audit, waiting = others[audited], others[~audited]
    seen.see(point, np.concatenate([np.flatnonzero(differ), risky, audit]))
    seen.audited += len(audit)
    seen.surprises += seen.changes(low, point, audit)
    news, chunk = seen.changes(low, point, np.concatenate([risky, audit])), CHUNK
    while news and len(waiting):
        chunk *= 2
        rows, waiting = waiting[:chunk], waiting[chunk:]
        seen.see(point, rows)
        news = seen.changes(low, point, rows)
    seen.believe(point, waiting, low, high)


@dataclass(frozen=True)
class Safe:
    """The last safe point of a curve, its accuracy, and how many examples were looked at beyond point 0."""

    point: int
    accuracy: float
    evaluated: int


def last_safe(look: Evaluate, points: int, examples: int, epsilon: float, start: int) -> Safe:
    """The last point before the accuracy first falls by more than `epsilon`, as a fraction, below that of point 0.

    Looks at all examples at `start`, and further up until a point breaks; then halves what lies between the last safe
    point and the first that breaks, and looks along all below, at the examples that can still change, as `adaptive`
    does. In the end the answer and the point after it are known from all examples. Up to `GAP` - 1 points further down
    stay unseen where both ends are alike: a dip as narrow as that may be missed there.
    """
    seen, whole = _Known(look, points, examples), np.arange(examples)
    start = min(max(start, 1), points - 1)
    seen.see(0, whole)
    least = seen.correct[0].mean() - epsilon - ROUNDING
    seen.see(start, whole)
    known, top = [0, start], start
    while seen.correct[top].mean() >= least and top < points - 1:
        top = (top + points) // 2
        seen.see(top, whole)
        known.append(top)
    while True:
        broken = next((point for point in known if seen.correct[point].mean() < least), points)
        safe = max(point for point in known if point < broken)
        wide = [(low, high) for low, high in pairwise(known) if low < broken and high - low > 1]
        waiting = [ends for ends in wide if ends[1] > safe - NEAR or not seen.settled(*ends)]
        partly = [point for point in (safe, broken) if point < points and not seen.looked[point].all()]
        if waiting:
            low, high = waiting[-1]
            point = (low + high) // 2
            _evaluate_between(seen, low, point, high)
            known = sorted([*known, point])
        elif partly:
            seen.see(partly[0], np.flatnonzero(~seen.looked[partly[0]]))
        else:
            return Safe(safe, float(seen.correct[safe].mean()), int(seen.looked[1:].sum()))
