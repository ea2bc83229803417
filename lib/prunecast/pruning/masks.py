"""Masks: which weights are set to zero at a threshold, in a scope.

A threshold t from 0 to 10 means, by axis:

- sigma: prune every weight whose magnitude is below t (population) standard deviations of the weights in scope;
- absolute: prune every weight whose magnitude is below t hundredths;
- percentile: prune the t · 10 % weights of lowest score, exactly.

The scope is the whole model (`global`) or each layer by itself (`layer`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from prunecast.errors import UserError
from prunecast.pruning.criteria import Criterion, Weights, magnitude

Scope = Literal["global", "layer"]
Axis = Literal["sigma", "absolute", "percentile"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
AXES: tuple[Axis, ...] = get_args(Axis)
ABSOLUTE_UNIT = 0.01
PERCENTILES = 10  # a percentile threshold counts tenths of the weights
MAXIMUM = 10.0

Counts = dict[str, int]


@dataclass(frozen=True)
class Ranking:
    """The scores in a scope, sorted once, so that any threshold can be counted and any mask be cut.

    A group is the set of layers whose weights are compared with each other: all layers, or each layer by itself.

    Attributes:
        scope: Whether all layers form one group, or each layer a group.
        groups: Names of the layers, by group.
        ordered: Scores from lowest to highest (n,), by group.
        deviations: Population standard deviation of the weights, by group.
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
    """Where a group is cut.

    Attributes:
        score: Weights of a lower score are pruned, weights of a higher one stay.
        ties: Of the weights of exactly this score, how many are pruned: the first ones in the model's order.
        all_ties: Whether all weights of exactly this score are pruned.
    """

    score: float
    ties: int
    all_ties: bool


Cuts = dict[str, Cut]


def groups_of(weights: Mapping[str, Any], scope: Scope) -> dict[str, list[str]]:
    """The layers whose weights are compared with each other, by group of the scope.

    Args:
        weights: Weights or scores by layer, of any shape.
        scope: One of `SCOPES`.

    Returns:
        Names of the layers by group: one group `all`, or a group for each layer, named like the layer.

    Raises:
        UserError: The scope is unknown.
    """
    if scope not in SCOPES:
        raise UserError(f"there is no scope {scope!r}; there are {', '.join(SCOPES)}")
    return {"all": list(weights)} if scope == "global" else {name: [name] for name in weights}


def rank(weights: Weights, criterion: Criterion, scope: Scope) -> Ranking:
    """Sort the scores of each group; holds one copy of the weights in memory, and no second while it sorts.

    Args:
        weights: Weights by layer, of any shape.
        criterion: From a layer's name and weights to scores in the shape of the weights.
        scope: One of `SCOPES`.

    Returns:
        The ranking, with scores in single precision.

    Raises:
        UserError: The scope is unknown.
    """
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
    """How many weights of each group a threshold prunes.

    Args:
        ranking: The scores; on the axes sigma and absolute, which count scores below a limit, those of magnitude.
        axis: One of `AXES`.
        threshold: From 0 to 10, in the unit of the axis.

    Returns:
        Numbers of weights by group.

    Raises:
        UserError: The threshold is outside 0 to 10.
    """
    if not 0 <= threshold <= MAXIMUM:
        raise UserError(f"threshold {threshold} is outside 0 to {MAXIMUM:g}")
    if axis == "percentile":
        return {group: _percentile_count(size, threshold) for group, size in ranking.sizes.items()}
    units = ranking.deviations if axis == "sigma" else dict.fromkeys(ranking.groups, ABSOLUTE_UNIT)
    return {
        group: int(np.searchsorted(scores, np.float32(threshold * units[group])))
        for group, scores in ranking.ordered.items()
    }


def pruned_by_layer(ordered: Mapping[str, np.ndarray], scope: Scope, thresholds: Sequence[float]) -> np.ndarray:
    """How many weights of each layer percentile thresholds prune: as many as the masks at `cut` set to zero.

    Args:
        ordered: Scores of each of the L layers from lowest to highest, in single precision, by name.
        scope: One of `SCOPES`.
        thresholds: Percentile thresholds (T), in tenths of the weights.

    Returns:
        Numbers of weights (T, L), in the order of the layers.

    Raises:
        UserError: The scope is unknown.
    """
    counts: dict[str, list[int]] = {name: [] for name in ordered}
    for names in groups_of(ordered, scope).values():
        scores = np.sort(np.concatenate([ordered[name] for name in names]))
        for threshold in thresholds:
            place = _cut(scores, _percentile_count(len(scores), threshold))
            at, left = np.float32(place.score), place.ties
            for name in names:
                below, upto = np.searchsorted(ordered[name], at), np.searchsorted(ordered[name], at, "right")
                tied = min(left, int(upto - below))  # of equal scores the first in the model's order are pruned
                counts[name].append(int(below) + tied)
                left -= tied
    return np.array(list(counts.values())).T


def sparsity(ranking: Ranking, counts: Counts) -> float:
    """Share of all weights of the ranking that `counts` set to zero, from 0 to 1."""
    return sum(counts.values()) / sum(ranking.sizes.values())


def cut(ranking: Ranking, counts: Counts) -> Cuts:
    """Where each group is cut so that exactly some numbers of weights are pruned.

    Args:
        ranking: The scores.
        counts: Numbers of weights to prune, by group.

    Returns:
        The cuts by group.
    """
    return {group: _cut(ranking.ordered[group], counts[group]) for group in ranking.groups}


def masks(weights: Weights, criterion: Criterion, groups: Mapping[str, list[str]], cuts: Cuts) -> dict[str, Tensor]:
    """Boolean masks by layer, true where the weight stays.

    Args:
        weights: Weights by layer, of any shape.
        criterion: The criterion that the cuts were made by.
        groups: Names of the layers by group, as in the ranking.
        cuts: Where each group is cut.

    Returns:
        Masks by layer, each in the shape of the layer's weights.
    """
    return dict(_masks(weights, criterion, groups, cuts))


class Pruner:
    """Prunes a model in place, repeatedly, and restores its weights at the end of the `with` block.

    Holds one copy of the prunable weights in memory, and one mask of a layer at a time.

    Attributes:
        weights: The model's weights by layer, which are overwritten.
        criterion: The criterion that the cuts are made by.
        groups: Names of the layers by group, as in the ranking.
        original: Copies of the weights as they were before any pruning, by layer.
        cuts: The cuts that the model is pruned at; None before the first.
    """

    def __init__(self, weights: Weights, criterion: Criterion, groups: Mapping[str, list[str]]):
        self.weights, self.criterion, self.groups = weights, criterion, groups
        self.original = {name: weight.detach().clone() for name, weight in weights.items()}
        self.cuts: Cuts | None = None

    def prune(self, cuts: Cuts) -> None:
        """Set the weights below the cuts to zero; all others have their original values.

        Args:
            cuts: Where each group is cut; the same object as in the last call changes nothing.
        """
        if cuts is self.cuts:
            return
        self.cuts = cuts
        alike = [group for group in self.groups if self.criterion is magnitude and cuts[group].all_ties]
        apart = {group: names for group, names in self.groups.items() if group not in alike}
        with torch.no_grad():
            for group in alike:  # four times faster than with a mask
                for name in self.groups[group]:
                    torch.hardshrink(self.original[name], cuts[group].score, out=self.weights[name].data)
            for name, mask in _masks(self.original, self.criterion, apart, cuts):
                torch.mul(self.original[name], mask, out=self.weights[name].data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.original[name])


def _masks(
    weights: Weights, criterion: Criterion, groups: Mapping[str, list[str]], cuts: Cuts
) -> Iterator[tuple[str, Tensor]]:
    for group, names in groups.items():
        place = cuts[group]
        left = place.ties
        for name in names:
            scores = criterion(name, weights[name])
            if place.all_ties:
                yield name, scores > place.score
                continue
            tied = (scores == place.score).flatten().nonzero().flatten()
            stays = scores > place.score
            stays.view(-1)[tied[left:]] = True  # of equal scores the first are pruned
            left = max(0, left - len(tied))
            yield name, stays


def _percentile_count(size: int, threshold: float) -> int:
    return round(round(threshold * size, 6) / PERCENTILES)


def _cut(scores: np.ndarray, count: int) -> Cut:
    if count == 0:
        return Cut(-np.inf, 0, True)
    score = scores[count - 1]
    ties = count - int(np.searchsorted(scores, score))
    return Cut(float(score), ties, count == len(scores) or bool(scores[count] != score))


def _deviation(weights: list[Tensor]) -> float:
    count = sum(weight.numel() for weight in weights)
    mean = sum(float(weight.detach().sum(dtype=torch.float64)) for weight in weights) / count
    variance = sum(float(((weight.detach().double() - mean) ** 2).sum()) for weight in weights) / count
    deviation: float = variance**0.5
    return deviation
