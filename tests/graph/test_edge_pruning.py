"""Edges removed until a budget is met: by a forecast, by measured losses, by exchanges, in an order."""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pytest
import torch
from prunecast.errors import UserError
from prunecast.graph import edge_pruning
from prunecast.graph.structure import Graph
from torch import Tensor

BLOCKS = 6
CHAIN = Graph(
    tuple(f"x{place}" for place in range(BLOCKS + 1)),
    tuple((place, place + 1) for place in range(BLOCKS) for _ in range(2)),
)  # a block and the shortcut beside it, one after the other
FLOPS = np.array([2.0, 0] * BLOCKS)  # shortcuts cost nothing


@dataclass
class Residual:
    """A linear residual network, whose loss is the squared distance of its output from that of all blocks."""

    graph: Graph = CHAIN
    examples: int = 8
    measured: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.blocks = 0.4 * torch.randn(BLOCKS, 5, 5, dtype=torch.double)
        self.inputs = torch.randn(self.examples, 5, dtype=torch.double)
        self.target = self._outputs(torch.ones(1, 2 * BLOCKS, dtype=torch.double))

    def gated_losses(self, gates: Tensor) -> Tensor:
        return (self._outputs(gates.double()) - self.target).square().mean((1, 2))

    def losses(self, masks):
        kept = self.graph.checked(masks)
        self.measured.append(len(kept))
        return self.gated_losses(torch.from_numpy(kept).double()).numpy()

    def on(self, count: int) -> "Residual":
        return Residual(self.graph, count)

    def _outputs(self, gates: Tensor) -> Tensor:
        x = self.inputs.expand(len(gates), -1, -1)
        for place, block in enumerate(self.blocks):
            x = gates[:, 2 * place, None, None] * (x @ block) + gates[:, 2 * place + 1, None, None] * x
        return x


@pytest.fixture
def network() -> Residual:
    return Residual()


def all_of_size(removed: int) -> np.ndarray:
    masks = [np.ones(2 * BLOCKS, bool) for _ in combinations(range(BLOCKS), removed)]
    for mask, blocks in zip(masks, combinations(range(BLOCKS), removed), strict=True):
        mask[[2 * block for block in blocks]] = False
    return np.array(masks)


def test_the_forecast_alone_decides_and_nothing_is_measured(network):
    weights = np.array([3.0, 0, 1, 0, 5, 0, 2, 0, 9, 0, 4, 0])
    removals = edge_pruning.greedy(network, lambda masks: ~masks @ weights, FLOPS, 6.0)
    order = [int(np.flatnonzero(a & ~b)[0]) for a, b in zip(removals.masks, removals.masks[1:], strict=False)]
    assert order == [2, 6, 0]
    assert removals.evaluations == 0
    assert not network.measured
    assert edge_pruning.cost_of(CHAIN, removals.last, FLOPS).tolist() == [6.0]


def test_removals_that_are_measured_are_those_of_a_search_by_hand(network):
    removals = edge_pruning.greedy(network, lambda masks: np.zeros(len(masks)), FLOPS, 6.0, verified=BLOCKS)
    kept = np.ones(2 * BLOCKS, bool)
    for _ in range(3):
        losses = {}
        for block in np.flatnonzero(kept[::2]):
            mask = kept.copy()
            mask[2 * block] = False
            losses[2 * block] = float(network.gated_losses(torch.from_numpy(mask)[None].double()))
        kept[min(losses, key=losses.get)] = False
    assert removals.last.tolist() == kept.tolist()
    assert removals.evaluations == sum(network.measured) == 1 + 6 + 5 + 4


def test_the_loss_is_compared_with_the_cost_that_is_saved(network):
    costs = FLOPS.copy()
    costs[4] = 10.0
    increase = np.ones(2 * BLOCKS)
    increase[4] = 3.0
    removals = edge_pruning.greedy(network, lambda masks: ~masks @ increase, costs, 19.0)
    assert not removals.last[4]
    assert len(removals.masks) == 2


def test_exchanges_find_the_best_set_where_single_removals_mislead(network):
    start = np.ones(2 * BLOCKS, bool)
    start[[8, 10]] = False
    candidates = all_of_size(2)
    losses = network.losses(candidates)
    network.measured.clear()
    best, evaluations = edge_pruning.evolved(
        network,
        lambda masks: network.gated_losses(torch.from_numpy(masks).double()).numpy(),
        start,
        FLOPS,
        generations=8,
        offspring=24,
        verified=2,
    )
    assert best.tolist() == candidates[losses.argmin()].tolist()
    assert evaluations == sum(network.measured) <= 1 + 8 * 2
    again, _ = edge_pruning.evolved(network, network.losses, start, FLOPS, generations=8, offspring=24, verified=2)
    assert again.tolist() == best.tolist()


def test_exchanges_are_never_worse_and_never_cost_more(network):
    costs = np.where(FLOPS > 0, np.arange(2 * BLOCKS) + 1.0, 0)
    start = np.ones(2 * BLOCKS, bool)
    start[[0, 10]] = False
    best, _ = edge_pruning.evolved(network, network.losses, start, costs, seed=3)
    assert network.losses(best)[0] <= network.losses(start)[0]
    assert edge_pruning.cost_of(CHAIN, best, costs) <= edge_pruning.cost_of(CHAIN, start, costs)


def test_a_score_gives_the_order():
    removals = edge_pruning.in_order(CHAIN, [5.0, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0], FLOPS, 8.0)
    assert np.flatnonzero(~removals.last).tolist() == [8, 10]


def test_random_orders_differ_and_repeat():
    draws = [edge_pruning.random_removals(CHAIN, FLOPS, 6.0, 5, seed=1) for _ in range(2)]
    masks = [[removals.last.tolist() for removals in each] for each in draws]
    assert masks[0] == masks[1]
    assert len(np.unique(masks[0], axis=0)) > 1
    assert all(np.sum(~np.array(mask)) == 3 for mask in masks[0])


def test_the_last_path_stays_and_what_lies_beside_it_costs_nothing():
    diamond = Graph(("in", "left", "right", "out"), ((0, 1), (0, 2), (1, 3), (2, 3)))
    assert edge_pruning.cost_of(diamond, [False, True, True, True], np.ones(4)).tolist() == [2.0]
    removals = edge_pruning.in_order(diamond, [0, 1, 2, 3], np.ones(4), 2.0)
    assert removals.masks.tolist() == [[True] * 4, [False, True, True, True]]
    with pytest.raises(UserError, match="a budget of 1 is out of reach: what must stay costs 2"):
        edge_pruning.in_order(diamond, [0, 1, 2, 3], np.ones(4), 1.0)


def test_a_network_within_the_budget_stays_whole(network):
    assert edge_pruning.greedy(network, network.losses, FLOPS, 12.0).masks.all()


@pytest.mark.parametrize("costs", [[1.0], [-1.0] * 12, [np.nan] * 12])
def test_costs_are_one_number_an_edge(costs):
    with pytest.raises(UserError, match="costs are one number of at least 0 for each of the 12 edges"):
        edge_pruning.cost_of(CHAIN, np.ones(12), costs)


def test_a_forecast_that_is_no_number_is_refused(network):
    with pytest.raises(UserError, match="not a finite number"):
        edge_pruning.greedy(network, lambda masks: np.full(len(masks), np.nan), FLOPS, 6.0)
    with pytest.raises(UserError, match="a budget of -1 is out of reach"):
        edge_pruning.greedy(network, lambda masks: np.zeros(len(masks)), FLOPS, -1.0)
