"""Masks: which weights are set to zero at a threshold, in a scope.

A threshold t from 0 to 10 means, on the axis
    sigma       prune every weight whose magnitude is below t (population) standard deviations of the weights in scope,
    absolute    prune every weight whose magnitude is below t hundredths,
    percentile  prune the t · 10 % weights of lowest score, exactly.
The scope is the whole model (`global`) or each layer by itself (`layer`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from prunecast.errors import UserError
from prunecast.pruning.criteria import Scores

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
    """The order in which the weights in a scope are pruned, sorted once so that any mask can be read off it.

    By group of the scope (one group of all layers, or one group a layer): `groups` its layers, `ordered` its scores
    from lowest to highest, `deviations` the standard deviation of its weights. By layer: `positions`, in the layer's
    shape, the place of every weight in the order of its group; equal scores keep the order of the weights.
    """

    scope: Scope
    groups: dict[str, list[str]]
    ordered: dict[str, Tensor]
    deviations: dict[str, float]
    positions: dict[str, Tensor]

    @property
    def sizes(self) -> Counts:
        """Number of weights in each group."""
        return {group: len(scores) for group, scores in self.ordered.items()}


def rank(weights: Mapping[str, Tensor], scores: Scores, scope: Scope) -> Ranking:
    """Rank the weights of each group in `scope` by their scores (same layers, same shapes)."""
    groups = {"all": list(scores)} if scope == "global" else {name: [name] for name in scores}
    ordered: dict[str, Tensor] = {}
    deviations: dict[str, float] = {}
    positions: dict[str, Tensor] = {}
    for group, names in groups.items():
        ordered[group], order = _flat(scores, names).sort(stable=True)
        deviations[group] = float(_flat(weights, names).double().std(correction=0))
        place = torch.empty_like(order, dtype=torch.int32)
        place[order] = torch.arange(len(order), dtype=torch.int32)
        parts = place.split([scores[name].numel() for name in names])
        positions |= {name: part.view(scores[name].shape) for name, part in zip(names, parts, strict=True)}
    return Ranking(scope, groups, ordered, deviations, positions)


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
        group: int(torch.searchsorted(scores, torch.tensor(threshold * units[group], dtype=scores.dtype)))
        for group, scores in ranking.ordered.items()
    }


def masks(ranking: Ranking, counts: Counts) -> dict[str, Tensor]:
    """Boolean masks by layer, in the layer's shape, true where the weight stays: exactly `counts` are false."""
    return {name: ranking.positions[name] >= counts[group] for group, names in ranking.groups.items() for name in names}


def sparsity(ranking: Ranking, counts: Counts) -> float:
    """Share of all prunable weights that `counts` set to zero."""
    return sum(counts.values()) / sum(ranking.sizes.values())


@contextmanager
def applied(weights: Mapping[str, Tensor], masked: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context the weights are multiplied by their masks; afterwards they are what they were."""
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.masked_fill_(~masked[name].to(weight.device), 0.0)
        yield
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(kept[name])


def _flat(tensors: Mapping[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([tensors[name].detach().flatten() for name in names]).cpu()
