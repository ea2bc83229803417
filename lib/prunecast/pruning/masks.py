"""Masks: which weights are set to zero at a threshold, in a scope.

A threshold t from 0 to 10 means, on the axis
    sigma       prune every weight whose magnitude is below t (population) standard deviations of the weights in scope,
    absolute    prune every weight whose magnitude is below t hundredths,
    percentile  prune the t · 10 % weights of lowest score, exactly.
The scope is the whole model (`global`) or each layer by itself (`layer`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from prunecast.errors import UserError
from prunecast.pruning.criteria import Criterion

Scope = Literal["global", "layer"]
Axis = Literal["sigma", "absolute", "percentile"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
AXES: tuple[Axis, ...] = get_args(Axis)
ABSOLUTE_UNIT = 0.01
PERCENTILES = 10  # a percentile threshold counts tenths of the weights
MAXIMUM = 10.0

Weights = Mapping[str, Tensor]
Counts = dict[str, int]


@dataclass(frozen=True)
class Ranking:
    """The scores in a scope, sorted once, so that any threshold can be counted and any mask be cut.

    By group of the scope (one group of all layers, or one group a layer): `groups` its layers, `ordered` its scores
    from lowest to highest, `deviations` the standard deviation of its weights.
    """

    scope: Scope
    groups: dict[str, list[str]]
    ordered: dict[str, np.ndarray]
    deviations: dict[str, float]

    @property
    def sizes(self) -> Counts:
        """Number of weights in each group."""
        return {group: len(scores) for group, scores in self.ordered.items()}


@dataclass(frozen=True)
class Cut:
    """Where a group is cut: scores below `score` go, and of those equal to it the first `ties` in the model's order."""

    score: float
    ties: int
    all_ties: bool


Cuts = dict[str, Cut]


def groups_of(weights: Weights, scope: Scope) -> dict[str, list[str]]:
    """The layers whose weights are compared with each other, by group of the scope.

    Raises UserError for a scope that there is not.
    """
    if scope not in SCOPES:
        raise UserError(f"there is no scope {scope!r}; there are {', '.join(SCOPES)}")
    return {"all": list(weights)} if scope == "global" else {name: [name] for name in weights}


def rank(weights: Weights, criterion: Criterion, scope: Scope) -> Ranking:
    """Sort the scores of each group in `scope`; holds one copy of the weights, and no second while it sorts."""
    groups = groups_of(weights, scope)
    ordered, deviations = {}, {}
    for group, names in groups.items():
        scores = np.empty(sum(weights[name].numel() for name in names), dtype=np.float32)
        start = 0
        for name in names:
            layer = criterion(name, weights[name]).flatten().cpu().numpy()
            scores[start : start + len(layer)] = layer
            start += len(layer)
        scores.sort()
        ordered[group], deviations[group] = scores, _deviation([weights[name] for name in names])
    return Ranking(scope, groups, ordered, deviations)


def pruned_counts(ranking: Ranking, axis: Axis, threshold: float) -> Counts:
    """How many weights of each group the threshold prunes; raises UserError for a threshold outside 0 to 10.

    On the axes sigma and absolute the ranking must be by magnitude: they count scores below a limit.
    """
    if not 0 <= threshold <= MAXIMUM:
        raise UserError(f"threshold {threshold} is outside 0 to {MAXIMUM:g}")
    if axis == "percentile":
        return {group: round(round(threshold * size, 6) / PERCENTILES) for group, size in ranking.sizes.items()}
    units = ranking.deviations if axis == "sigma" else dict.fromkeys(ranking.groups, ABSOLUTE_UNIT)
    return {
        group: int(np.searchsorted(scores, np.float32(threshold * units[group])))
        for group, scores in ranking.ordered.items()
    }


def sparsity(ranking: Ranking, counts: Counts) -> float:
    """Share of all prunable weights that `counts` set to zero."""
    return sum(counts.values()) / sum(ranking.sizes.values())


def cut(ranking: Ranking, counts: Counts) -> Cuts:
    """Where each group is cut so that exactly `counts` of its weights go."""
    return {group: _cut(ranking.ordered[group], counts[group]) for group in ranking.groups}


def masks(weights: Weights, criterion: Criterion, groups: Mapping[str, list[str]], cuts: Cuts) -> dict[str, Tensor]:
    """Boolean masks by layer, in the layer's shape, true where the weight stays."""
    return dict(_masks(weights, criterion, groups, cuts))


class Pruner:
    """Prunes a model in place, again and again, and gives its weights back at the end of the `with` block.

    Holds one copy of the prunable weights and one mask of a layer at a time.
    """

    def __init__(self, weights: Weights, criterion: Criterion, groups: Mapping[str, list[str]]):
        self.weights, self.criterion, self.groups = weights, criterion, groups
        self.kept = {name: weight.detach().clone() for name, weight in weights.items()}
        self.cuts: Cuts | None = None

    def prune(self, cuts: Cuts) -> None:
        """Set to zero what the cuts take away; everything else is as it was before any pruning."""
        if cuts is self.cuts:
            return
        self.cuts = cuts
        with torch.no_grad():
            for name, mask in _masks(self.kept, self.criterion, self.groups, cuts):
                torch.mul(self.kept[name], mask, out=self.weights[name].data)

    def __enter__(self) -> "Pruner":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.kept[name])


def _masks(
    weights: Weights, criterion: Criterion, groups: Mapping[str, list[str]], cuts: Cuts
) -> Iterator[tuple[str, Tensor]]:
    for group, names in groups.items():
        where = cuts[group]
        left = where.ties
        for name in names:
            scores = criterion(name, weights[name])
            if where.all_ties:
                yield name, scores > where.score
                continue
            tied = scores == where.score
            stays = tied.flatten().cumsum(0).view_as(tied) > left  # of equal scores the first ones go
            left = max(0, left - int(tied.sum()))
            yield name, (scores > where.score) | (tied & stays)


def _cut(scores: np.ndarray, count: int) -> Cut:
    if count == 0:
        return Cut(-np.inf, 0, True)
    score = scores[count - 1]
    ties = count - int(np.searchsorted(scores, score))
    return Cut(float(score), ties, count == len(scores) or bool(scores[count] != score))


def _deviation(weights: list[Tensor]) -> float:
    count = sum(weight.numel() for weight in weights)
    mean = sum(float(weight.detach().sum(dtype=torch.float64)) for weight in weights) / count
    return float(sum(float(((weight.detach().double() - mean) ** 2).sum()) for weight in weights) / count) ** 0.5
