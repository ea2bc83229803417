"""What is removed from a network: edges of its computation graph by a forecast or without, or parts of each layer."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from prunecast.cost.flops import flops
from prunecast.edge_experiments.structure_cases import Case
from prunecast.edge_surrogates.catalogue import ENTRIES, NONE, EdgeSurrogate, unfitted
from prunecast.edge_surrogates.gate_scores import Expansion
from prunecast.graph.edge_masks import at_random
from prunecast.graph.edge_pruning import Forecast, Removals, cost_of, evolved, greedy, in_order, random_removals
from prunecast.graph.structure import MaskedNetwork, Masks, Numbers
from prunecast.progress import track
from prunecast.pruning.structured import Importance
from prunecast.seeding import generator

LEAVE_ONE_OUT = "leave_one_out"  # proposes what others improve; the dependency graph is set to its operations
SURROGATES = ("gate_gradient", "gate_integrated_gradients", "gate_hessian", "live_edges")
IMPORTANCES: dict[str, Importance] = {"dependency_graph": "magnitude", "dependency_graph_taylor": "taylor"}
METHODS = (LEAVE_ONE_OUT, *SURROGATES, "verified", "evolved", "random", "magnitude", *IMPORTANCES)
LEAST = 0.1  # of the operations of the costliest edge: edges that save less are not removed
VERIFIED = 3  # removals of the lowest forecast that are measured in each step
GENERATIONS, MEASURED = 8, 2  # of exchanges, and masks measured in each
HALVINGS = 8  # of the interval of the share of heads, neurons and channels
MOST = 0.98  # of them that are removed
SETTINGS = (VERIFIED, GENERATIONS, MEASURED, HALVINGS, MOST, LEAST)  # on which choices depend


@dataclass(frozen=True)
class Chosen:
    """What a method removes.

    Attributes:
        model: The smaller network.
        removed: Number of edges; for the dependency graph that of the edges with as many operations.
        evaluations: Evaluations of the network that the choice cost.
        which: What was removed, in words.
    """

    model: nn.Module
    removed: int
    evaluations: float
    which: str


class Choices:
    """What each method removes from a network.

    Attributes:
        case: The network.
    """

    def __init__(self, case: Case):
        """Nothing is computed before it is needed.

        Args:
            case: The network.
        """
        self.case = case
        self._unfitted: dict[str, EdgeSurrogate] = {}
        self._last: tuple[tuple[str, float, int], Chosen] | None = None  # the stages of a method follow each other

    @cached_property
    def flops(self) -> int:
        """Operations of the dense network for one example."""
        return flops(self.case.dense, self.case.one)[0]

    @cached_property
    def _without_one(self) -> tuple[Numbers, Numbers]:
        """For each edge the operations that its removal saves, and the root mean square of the weights removed."""
        graph = self.case.masked.graph
        masks = ~np.eye(len(graph.edges), dtype=bool)
        saved, size = np.zeros(len(masks)), np.full(len(masks), np.inf)
        squares, count = weights(self.case.dense)
        for edge in track(np.flatnonzero(graph.connected(masks)), f"{self.case.network}: cost of each edge"):
            smaller = self.case.without(masks[edge])
            left, fewer = weights(smaller)
            saved[edge] = self.flops - flops(smaller, self.case.one)[0]
            if count > fewer:
                size[edge] = np.sqrt(max(0.0, squares - left) / (count - fewer))
        return np.where(saved < LEAST * saved.max(), 0, saved), size

    @property
    def costs(self) -> Numbers:
        """Operations (edges,) that the removal of each edge saves; 0 for edges that are not removed."""
        return self._without_one[0]

    @property
    def removable(self) -> Masks:
        """Which edges (edges,) can be removed."""
        return np.asarray(self.costs > 0, bool)

    @cached_property
    def _single(self) -> tuple[Masks, Numbers]:
        """The masks of all edges and of each removal alone, with their losses."""
        masks = np.vstack([np.ones(len(self.costs), bool), ~np.eye(len(self.costs), dtype=bool)[self.removable]])
        return masks, self.case.masked.losses(masks)

    @cached_property
    def _leave_one_out(self) -> Expansion:
        scores, (_, losses) = np.zeros(len(self.costs)), self._single
        scores[self.removable] = losses[1:] - losses[0]
        return Expansion(self.case.masked.graph, float(losses[0]), scores)

    def forecast(self, method: str, share: float, seed: int) -> tuple[Forecast, float]:
        """What forecasts the loss for a method, and its cost in evaluations of the network.

        A surrogate that learns from masks is fitted on each removal alone and on as many random masks, whose edges stay
        with the probability `share`.
        """
        if method not in SURROGATES:
            return self._leave_one_out.predict, len(self._single[0])
        entry, network = ENTRIES[method], _Removable(self.case.masked, self.removable)
        if entry.observes == NONE:
            if method not in self._unfitted:
                self._unfitted[method] = unfitted(method, network, seed)
            return self._unfitted[method].predict, entry.cost(len(self.costs))
        draws = generator(seed, "masks", self.case.network)
        drawn = at_random(len(self.costs), share, int(self.removable.sum()), draws) | ~self.removable
        masks = np.vstack([self._single[0], drawn])
        losses = np.concatenate([self._single[1], self.case.masked.losses(drawn)])
        return unfitted(method, network, seed).fit(masks, losses).predict, entry.cost(len(self.costs), len(masks))

    def mask(self, method: str, share: float, seed: int) -> tuple[Masks, float]:
        """The edges (edges,) that stay by a method that removes edges, and what the choice cost in evaluations."""
        masked, costs, budget = self.case.masked, self.costs, share * float(self.costs.sum())
        if method == "random":
            return self._nearest(random_removals(masked.graph, costs, budget, seed + 1, 0)[seed], budget), 0.0
        if method == "magnitude":
            return self._nearest(in_order(masked.graph, self._without_one[1], costs, budget), budget), 0.0
        forecast, spent = self.forecast(method, share, seed)
        found = greedy(masked, forecast, costs, budget, VERIFIED if method == "verified" else 0)
        mask = self._nearest(found, budget)
        if method != "evolved":
            return mask, spent + found.evaluations
        best, evaluations = evolved(masked, forecast, mask, costs, GENERATIONS, verified=MEASURED, seed=seed)
        return best, spent + evaluations

    def _nearest(self, removals: Removals, budget: float) -> Masks:
        """The mask whose cost is nearest to the budget: that within it, or the one before the last removal."""
        costs = cost_of(self.case.masked.graph, removals.masks[-2:], self.costs)
        return np.asarray(removals.masks[-2:][np.abs(costs - budget).argmin()], bool)

    def chosen(self, method: str, share: float, seed: int) -> Chosen:
        """What a method removes.

        Args:
            method: Its name.
            share: Share of the operations of all removable edges that stays.
            seed: Number of the random draw.

        Returns:
            The smaller network, and what it cost to choose it.
        """
        if self._last is None or self._last[0] != (method, share, seed):
            self._last = (method, share, seed), self._chosen(method, share, seed)
        return self._last[1]

    def _chosen(self, method: str, share: float, seed: int) -> Chosen:
        mask, spent = self.mask(LEAVE_ONE_OUT if method in IMPORTANCES else method, share, seed)
        removed = np.flatnonzero(~mask & self.removable)
        if method not in IMPORTANCES:
            names = "; ".join(self.case.labels[edge] for edge in removed)
            return Chosen(self.case.without(mask), len(removed), spent, names)
        target = self.flops - float(self.costs[removed].sum())
        model, part = self._thinned(target, IMPORTANCES[method])
        return Chosen(model, len(removed), 0.0, f"{part:.1%} of each layer")

    def _thinned(self, target: float, importance: Importance) -> tuple[nn.Module, float]:
        """The network whose layers have all lost the same share, with operations as near as possible to the target."""
        low, high, best = 0.0, MOST, (np.inf, 0.0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            surplus = flops(self.case.thinner(middle, importance), self.case.one)[0] - target
            best = min(best, (abs(surplus), middle))
            low, high = (middle, high) if surplus > 0 else (low, middle)
        return self.case.thinner(best[1], importance), best[1]


class _Removable:
    """A network in which only some edges have gates: a `MaskedNetwork`."""

    def __init__(self, network: MaskedNetwork, removable: Masks):
        self.network, self.graph, self.examples = network, network.graph, network.examples
        self.removable, self.losses = removable, network.losses

    def gated_losses(self, gates: Tensor) -> Tensor:
        return self.network.gated_losses(torch.where(torch.from_numpy(self.removable), gates, 1.0))

    def on(self, count: int) -> Self:
        return type(self)(self.network.on(count), self.removable)


def weights(model: nn.Module) -> tuple[float, int]:
    """Sum of the squares, and number, of all parameters of a network."""
    parameters = [parameter.detach() for parameter in model.parameters()]
    return (
        sum(float(each.float().square().sum(dtype=torch.double)) for each in parameters),
        sum(each.numel() for each in parameters),
    )
