"""Effective model pruning: how many entries to keep, computed from the scores themselves (Wang et al., 2026).

Of N scores s, shifted to start at zero where some are negative, N_eff = (sum s)² / sum s² counts how many matter, from
1 where one holds all to N where all are equal; the ν = ⌊β · N_eff⌋ highest are kept, at least one and at most all.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import floor, isfinite, sqrt

import numpy as np
import torch
from torch import Tensor

from prunecast.errors import UserError
from prunecast.pruning.criteria import Criterion, Weights
from prunecast.pruning.masks import Cut, Cuts, Scope, groups_of

CHUNK = 1 << 16  # scores processed together: they stay in the processor's cache, in double precision too
EVERY = 64  # of the scores of a chunk one in so many is sampled
SPREAD = 4.0  # standard deviations between the sampled quantile and the ends of the bracket
ROUNDING = 1e-9  # relative error that sums of equal scores may carry without losing an entry

Parts = Callable[[], Iterable[Tensor]]


@dataclass(frozen=True)
class Effective:
    """Result of the rule for one group of scores.

    Attributes:
        entries: Number of scores, N.
        n_eff: Effective number of scores, from 1 to `entries`.
        kept: Number of scores that are kept, ν.
        cut: Where to cut, so that exactly `kept` are kept.
    """

    entries: int
    n_eff: float
    kept: int
    cut: Cut


def effective(parts: Parts, beta: float = 1.0) -> Effective:
    """The rule for scores that come in parts, which are read twice.

    Holds a sample and the few scores near the cut in memory, never a second copy of the scores.

    Args:
        parts: Each call yields the same tensors, of any shape, in the same order.
        beta: Factor of the effective number, positive.

    Returns:
        The effective number, how many scores are kept, and where to cut.

    Raises:
        UserError: `beta` is not positive, or the scores are none, not floating-point, not finite or all zero.

    Source: Wang et al. (2026), "Effective Model Pruning: Measuring the Redundancy of Model Components", the
    definition of N_eff and of the kept number ν.
    """
    if not (isfinite(beta) and beta > 0):
        raise UserError(f"beta is {beta:g}; it scales the effective number and must be positive")
    entries, n_eff, sample = _tally(parts)
    kept = max(1, min(floor(beta * n_eff * (1 + ROUNDING)), entries))
    return Effective(entries, n_eff, kept, _cut(parts, entries - kept, entries, sample))


def mask(scores: Tensor, beta: float = 1.0) -> Tensor:
    """Boolean mask of the scores that the rule keeps; of equal scores at the cut the first are pruned.

    Args:
        scores: Scores of any shape.
        beta: Factor of the effective number, positive.

    Returns:
        Booleans in the shape of the scores, on their device, true for the ν highest.

    Raises:
        UserError: As for `effective`.
    """
    cut = effective(lambda: [scores], beta).cut
    stays = np.empty(scores.numel(), bool)
    start, left = 0, cut.ties
    for chunk in _chunks(lambda: [scores]):
        part = stays[start : start + len(chunk)]
        np.greater(chunk, cut.score, out=part)
        if not cut.all_ties:
            tied = np.flatnonzero(chunk == cut.score)
            part[tied[left:]] = True
            left = max(0, left - len(tied))
        start += len(chunk)
    return torch.from_numpy(stays).view(scores.shape).to(scores.device)


def row_masks(scores: Tensor, beta: float = 1.0) -> Tensor:
    """The mask of each row by itself, such as the weights of each output of a layer.

    Args:
        scores: Scores (rows, …).
        beta: Factor of the effective number, positive.

    Returns:
        Booleans in the shape of the scores, true where a score is kept.

    Raises:
        UserError: As for `effective`, in any row.

    Source: Wang et al. (2026), section 5.4.
    """
    return torch.stack([mask(row, beta) for row in scores])


def cuts(weights: Weights, criterion: Criterion, scope: Scope, beta: float = 1.0) -> tuple[dict[str, Effective], Cuts]:
    """The rule applied to each group of a scope.

    Args:
        weights: Weights by layer, of any shape.
        criterion: From a layer's name and weights to scores in the shape of the weights.
        scope: One of `masks.SCOPES`.
        beta: Factor of the effective number, positive.

    Returns:
        The results by group, and the cuts by group that a `masks.Pruner` takes.

    Raises:
        UserError: As for `effective`, in any group, or the scope is unknown.
    """

    def parts(names: list[str]) -> Parts:
        return lambda: (criterion(name, weights[name]) for name in names)

    results = {group: effective(parts(names), beta) for group, names in groups_of(weights, scope).items()}
    return results, {group: result.cut for group, result in results.items()}


def preserved(scores: Tensor, kept: Tensor) -> float:
    """Share of the sum of the scores that a mask preserves, s_eff, from 0 to 1.

    Args:
        scores: Nonnegative scores of any shape.
        kept: Booleans in the same shape, true where a score is kept.

    Returns:
        The share, which is 1 where all scores are kept.

    Source: Wang et al. (2026), theorem 4.2.
    """
    return float(scores[kept].sum(dtype=torch.float64) / scores.sum(dtype=torch.float64))


def preserved_at_least(kept: int, entries: int) -> float:
    """Lower bound of the preserved share at β = 1, for two kept entries or more.

    For one kept entry it does not hold: two nearly equal scores keep one half, where the formula promises 0.707.

    Args:
        kept: Number of kept entries, ν.
        entries: Number of entries, N.

    Returns:
        ν/N + (N − ν)/N · √((N − ν − 1) / ((ν + 1)(N − 1))), from 0 to 1.

    Raises:
        UserError: `kept` is below two, or above `entries`.

    Source: Wang et al. (2026), theorem 4.2.
    """
    if not 2 <= kept <= entries:
        raise UserError(f"the bound holds for 2 to {entries} kept entries of {entries}, not for {kept}")
    if kept == entries:
        return 1.0
    pruned = (entries - kept) / entries
    return kept / entries + pruned * sqrt((entries - kept - 1) / ((kept + 1) * (entries - 1)))


def _chunks(parts: Parts) -> Iterator[np.ndarray]:
    for part in parts():
        if not part.is_floating_point():
            raise UserError(f"the scores are of type {part.dtype}; the rule needs floating-point ones")
        for chunk in torch.split(part.detach().reshape(-1), CHUNK):
            if len(chunk):  # an empty tensor splits into an empty chunk
                yield (chunk.float() if chunk.dtype == torch.bfloat16 else chunk).cpu().numpy()


def _tally(parts: Parts) -> tuple[int, float, np.ndarray]:
    """Number of scores, their effective number, and a sample of them, sorted."""
    entries, total, squares, lowest = 0, 0.0, 0.0, 0.0
    samples = []
    for chunk in _chunks(parts):
        wide = chunk.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            entries, total, squares = entries + len(chunk), total + float(wide.sum()), squares + float(wide @ wide)
        lowest = min(lowest, float(chunk.min()))
        samples.append(chunk[::EVERY].copy())
    if not entries:
        raise UserError("there are no scores: the scope is empty")
    if lowest < 0:
        total, squares = total - entries * lowest, squares - 2 * lowest * total + entries * lowest**2
    if not isfinite(squares):
        raise UserError("some scores are not finite numbers, or too large to be squared")
    if total <= 0 or squares <= 0:
        raise UserError("all scores are equal to zero, so that none matters more than another")
    return entries, min(total**2 / squares, float(entries)), np.sort(np.concatenate(samples))


def _cut(parts: Parts, pruned: int, entries: int, sample: np.ndarray) -> Cut:
    """Where to cut so that the `pruned` lowest scores are pruned; the bracket widens until the place lies inside."""
    if pruned == 0:
        return Cut(-np.inf, 0, True)
    width = SPREAD * sqrt(len(sample)) / 2 + 1
    while True:
        place = pruned / entries * len(sample)
        low, high = _sampled(sample, floor(place - width)), _sampled(sample, floor(place + width) + 1)
        below, at_low, at_high, inside = _between(parts, low, high)
        ends = np.cumsum([below, at_low, len(inside), at_high])
        if ends[0] < pruned <= ends[1]:
            return Cut(low, pruned - below, bool(pruned == ends[1]))
        if ends[1] < pruned <= ends[2]:
            score = float(np.partition(inside, pruned - ends[1] - 1)[pruned - ends[1] - 1])
            ties = int(pruned - ends[1] - np.count_nonzero(inside < score))
            return Cut(score, ties, bool(ties == np.count_nonzero(inside == score)))
        if ends[2] < pruned <= ends[3]:
            return Cut(high, int(pruned - ends[2]), bool(pruned == ends[3]))
        width *= 4


def _sampled(sample: np.ndarray, place: int) -> float:
    """The score at a place of the sorted sample; infinite outside it."""
    if 0 <= place < len(sample):
        return float(sample[place])
    return -np.inf if place < 0 else np.inf


def _between(parts: Parts, low: float, high: float) -> tuple[int, int, int, np.ndarray]:
    """How many scores lie below `low`, at it, and at `high`, and those that lie strictly between."""
    below, at_low, at_high, inside = 0, 0, 0, []
    for chunk in _chunks(parts):
        below += int(np.count_nonzero(chunk < low))
        at_low += int(np.count_nonzero(chunk == low))
        at_high += int(np.count_nonzero(chunk == high)) if high > low else 0
        inside.append(chunk[(chunk > low) & (chunk < high)])
    return below, at_low, at_high, np.concatenate(inside)
