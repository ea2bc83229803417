"""Edges removed from a computation graph until it costs no more than a budget, by a forecast of the loss or without."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prunecast.errors import UserError
from prunecast.graph.structure import Graph, MaskedNetwork, Masks, Numbers
from prunecast.seeding import generator

Forecast = Callable[[Masks], Numbers]


@dataclass(frozen=True)
class Removals:
    """Edges removed one after the other.

    Attributes:
        masks: Booleans (steps + 1, edges): first all edges, then after each removal those that stay.
        evaluations: Number of masks whose loss was measured on the way.
    """

    masks: Masks
    evaluations: int

    @property
    def last(self) -> Masks:
        """The mask (edges,) within the budget."""
        return np.asarray(self.masks[-1], bool)


def cost_of(graph: Graph, masks: ArrayLike, costs: ArrayLike) -> Numbers:
    """Cost of a network with edges removed: that of the kept edges on a path from input to output.

    Args:
        graph: The graph.
        masks: Booleans (m, edges), true for an edge that stays.
        costs: Cost (edges,) of each edge, such as floating-point operations; 0 where removal saves nothing.

    Returns:
        The costs (m,).
    """
    return np.asarray(graph.carrying(masks) @ _checked(graph, costs), float)


def greedy(network: MaskedNetwork, forecast: Forecast, costs: ArrayLike, budget: float, verified: int = 0) -> Removals:
    """Remove edges one by one, each time the one whose removal raises the loss least for the cost that it saves.

    An edge without which no path joins input and output stays, and so does one whose removal saves nothing.

    Args:
        network: The network.
        forecast: Losses (m,) in nats of masks (m, edges).
        costs: Cost (edges,) of each edge.
        budget: Largest cost of the network at the end, in the unit of `costs`.
        verified: Number of removals of the lowest forecast that are measured in each step, of which the best is made;
            0 for none, so that the forecast alone decides.

    Returns:
        The removals; none where the network is within the budget.

    Raises:
        UserError: The budget cannot be reached, or a loss is not finite.

    Source: verified removals are greedy search as in Men et al. (2024) and Kim et al. (2024), "Shortened LLaMA".
    """
    graph = network.graph
    kept = [np.ones(len(graph.edges), bool)]
    measured = _finite(network.losses(kept[-1])) if verified else np.zeros(1)
    evaluations = int(verified > 0)
    while (cost := cost_of(graph, kept[-1], costs)[0]) > budget:
        masks = _one_fewer(graph, kept[-1], costs)
        if not len(masks):
            raise _out_of_reach(cost, budget)
        saved = cost - cost_of(graph, masks, costs)
        now, *losses = _finite(forecast(np.vstack([kept[-1], masks])))
        order = _by_increase(np.array(losses) - now, saved)
        if verified:
            masks, saved = masks[order[:verified]], saved[order[:verified]]
            after = _finite(network.losses(masks))
            evaluations += len(masks)
            order = _by_increase(after - measured, saved)
            measured = after[order[0]]
        kept.append(masks[order[0]])
    return Removals(np.array(kept), evaluations)


def evolved(
    network: MaskedNetwork,
    forecast: Forecast,
    mask: ArrayLike,
    costs: ArrayLike,
    generations: int = 10,
    offspring: int = 32,
    verified: int = 4,
    seed: int = 0,
) -> tuple[Masks, int]:
    """Improve a mask by exchanging removed edges for kept ones, since the losses of removed edges do not add up.

    In each generation random exchanges are drawn that cost no more than the mask at the start; those of the lowest
    forecast are measured, and the best mask measured so far stays.

    Args:
        network: The network.
        forecast: Losses (m,) in nats of masks (m, edges).
        mask: Booleans (edges,) to start from.
        costs: Cost (edges,) of each edge.
        generations: Number of generations.
        offspring: Number of exchanges that are drawn in each.
        verified: Number of masks among them that are measured.
        seed: Seed of the exchanges.

    Returns:
        The best mask (edges,), and the number of masks whose loss was measured.

    Raises:
        UserError: A loss is not finite.

    Source: after Sieberling et al. (ICML 2025), "EvoPress", whose offspring are measured without a forecast.
    """
    graph, draw = network.graph, generator(seed, "exchanges")
    best = graph.checked(np.asarray(mask))[0]
    budget, loss = cost_of(graph, best, costs)[0], _finite(network.losses(best[None]))[0]
    seen, evaluations = {best.tobytes()}, 1
    for _ in range(generations):
        drawn = np.array([_exchanged(best, draw.geometric(0.5), draw) for _ in range(offspring)])
        allowed = graph.connected(drawn) & (cost_of(graph, drawn, costs) <= budget)
        new = np.unique([each for each in drawn[allowed] if each.tobytes() not in seen], axis=0)
        if not new.size:
            continue
        masks = new[np.argsort(_finite(forecast(new)), kind="stable")[:verified]]
        losses = _finite(network.losses(masks))
        evaluations += len(masks)
        seen.update(each.tobytes() for each in masks)
        if losses.min() < loss:
            best, loss = masks[losses.argmin()], losses.min()
    return best, evaluations


def in_order(graph: Graph, scores: ArrayLike, costs: ArrayLike, budget: float) -> Removals:
    """Remove edges in the order of a score, the lowest first, such as the norm of the weights or a random number.

    An edge without which no path joins input and output stays, and so does one whose removal saves nothing.

    Args:
        graph: The graph.
        scores: Score (edges,) of each edge.
        costs: Cost (edges,) of each edge.
        budget: Largest cost of the network at the end, in the unit of `costs`.

    Returns:
        The removals.

    Raises:
        UserError: The budget cannot be reached.
    """
    order = np.argsort(np.asarray(scores, float), kind="stable")
    kept = [np.ones(len(graph.edges), bool)]
    while (cost := cost_of(graph, kept[-1], costs)[0]) > budget:
        masks = _one_fewer(graph, kept[-1], costs)
        if not len(masks):
            raise _out_of_reach(cost, budget)
        removed = kept[-1] & ~masks
        kept.append(masks[removed[:, order].argmax(1).argmin()])
    return Removals(np.array(kept), 0)


def random_removals(graph: Graph, costs: ArrayLike, budget: float, draws: int, seed: int) -> list[Removals]:
    """Remove edges in random orders.

    Args:
        graph: The graph.
        costs: Cost (edges,) of each edge.
        budget: Largest cost of the network at the end, in the unit of `costs`.
        draws: Number of orders.
        seed: Seed of the orders.

    Returns:
        Removals for each order.

    Raises:
        UserError: The budget cannot be reached.
    """
    draw = generator(seed, "random removal")
    return [in_order(graph, draw.permutation(len(graph.edges)), costs, budget) for _ in range(draws)]


def _checked(graph: Graph, costs: ArrayLike) -> Numbers:
    array = np.asarray(costs, float)
    if array.shape != (len(graph.edges),) or not (np.isfinite(array) & (array >= 0)).all():
        raise UserError(f"costs are one number of at least 0 for each of the {len(graph.edges)} edges")
    return array


def _one_fewer(graph: Graph, kept: Masks, costs: ArrayLike) -> Masks:
    """Masks with one edge less, which cost less and still join input and output."""
    masks = kept & ~np.eye(len(kept), dtype=bool)[kept]
    useful = graph.connected(masks) & (cost_of(graph, masks, costs) < cost_of(graph, kept, costs))
    return np.asarray(masks[useful], bool)


def _by_increase(increase: Numbers, saved: Numbers) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """Positions in the order of the increase of the loss for the cost saved; of decreases, more saved is better."""
    return np.argsort(np.where(increase > 0, increase / saved, increase * saved), kind="stable")


def _exchanged(mask: Masks, count: int, draw: np.random.Generator) -> Masks:
    new = mask.copy()
    kept, removed = np.flatnonzero(mask), np.flatnonzero(~mask)
    count = min(count, len(kept), len(removed))
    new[draw.choice(kept, count, replace=False)] = False
    new[draw.choice(removed, count, replace=False)] = True
    return new


def _finite(losses: Numbers) -> Numbers:
    array = np.asarray(losses, float)
    if not np.isfinite(array).all():
        raise UserError("the loss of a mask, forecast or measured, is not a finite number, so edges cannot be compared")
    return array


def _out_of_reach(cost: float, budget: float) -> UserError:
    return UserError(f"a budget of {budget:.4g} is out of reach: what must stay costs {cost:.4g}; take a larger one")
