"""Masks of edges: those that surrogates are fitted on, and those that they are judged by."""

import numpy as np

from prunecast.errors import UserError
from prunecast.graph.structure import Graph, Masks

DRAWN = 4096  # masks at a time while connected ones are sought
MOST = 1000  # times that many are drawn before the search is given up


def leave_one_out(edges: int) -> Masks:
    """The masks of the source study: all edges, no edge, and all edges but one for each edge.

    Args:
        edges: Number of edges.

    Returns:
        Booleans (edges + 2, edges), true for an edge that stays.

    Source: Ivanov and Bakhteev, "Few-shot Structural Neural Network Pruning Using Computational Graph Information".
    """
    return np.concatenate([np.ones((1, edges), bool), np.zeros((1, edges), bool), ~np.eye(edges, dtype=bool)])


def at_random(edges: int, keep_rate: float, count: int, draws: np.random.Generator) -> Masks:
    """Masks whose edges stay independently of each other.

    Args:
        edges: Number of edges.
        keep_rate: Probability with which an edge stays.
        count: Number of masks.
        draws: What they are drawn from.

    Returns:
        Booleans (count, edges).
    """
    return draws.random((count, edges)) < keep_rate


def connected(graph: Graph, keep_rate: float, count: int, draws: np.random.Generator) -> Masks:
    """Masks whose edges stay at random, of which only those are taken that join input and output.

    Args:
        graph: The graph.
        keep_rate: Probability with which an edge stays, before the selection.
        count: Number of masks.
        draws: What they are drawn from.

    Returns:
        Booleans (count, edges).

    Raises:
        UserError: Hardly any mask at this keep rate joins input and output.
    """
    found: list[Masks] = []
    for _ in range(MOST):
        drawn = at_random(len(graph.edges), keep_rate, DRAWN, draws)
        found.append(drawn[graph.connected(drawn)])
        if sum(map(len, found)) >= count:
            return np.concatenate(found)[:count]
    raise UserError(f"at a keep rate of {keep_rate} hardly any mask joins input and output; take a larger one")
