"""Masks that share computation: the values that each vertex of a graph has under several masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecast.graph.structure import Graph, Masks

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Plan:
    """What is computed for several masks: a state of a vertex is one of the values that it has under them.

    Attributes:
        states: For each vertex, a mask under which it has each of its states (states,).
        taken: For each edge, the states of its source from which its branch is computed.
        placed: For each edge and state of its target, the place in `taken`; -1 where the edge is removed.
        outcomes: State of the output under each mask (m,).
    """

    states: list[Places]
    taken: list[Places]
    placed: list[Places]
    outcomes: Places


def plan_of_masks(graph: Graph, live: Masks) -> Plan:
    """Find what several masks have in common: a state of a vertex is given by the states that its edges carry to it.

    Args:
        graph: The graph.
        live: Live edges (m, edges) of the masks.

    Returns:
        The plan; a vertex has no state for a mask under which it is not needed.
    """
    needed = graph.needed(live)
    index = np.full((len(graph.vertices), len(live)), -1)
    index[0] = 0
    states, taken, placed = [np.zeros(1, np.intp)], *([np.zeros(0, np.intp)] * len(graph.edges) for _ in "tp")
    for vertex, into in list(enumerate(graph.into))[1:]:
        where = np.flatnonzero(needed[:, vertex])
        keys = np.stack([np.where(live[where, edge], index[source, where], -1) for edge, source in into], 1)
        first, inverse = _distinct(keys)
        index[vertex, where] = inverse
        states.append(where[first])
        for (edge, _), carried in zip(into, keys[first].T, strict=True):
            kept = carried >= 0
            placed[edge] = np.full(len(first), -1)
            taken[edge], placed[edge][kept] = np.unique(carried[kept], return_inverse=True)
    return Plan(states, taken, placed, index[-1])


def plan_of_gates(graph: Graph, count: int) -> Plan:
    """The plan for gates that are numbers: every vertex but the input has a state of its own for each row of gates.

    Args:
        graph: The graph.
        count: Number of rows of gates.

    Returns:
        The plan.
    """
    one, every = np.zeros(1, np.intp), np.arange(count)
    return Plan(
        [one, *[every] * (len(graph.vertices) - 1)],
        [every if source else one for source, _ in graph.edges],
        [every if source else np.zeros(count, np.intp) for source, _ in graph.edges],
        every,
    )


def selected(value: Tensor, rows: Places) -> Tensor:
    """Some states of a value (states, …), without a copy where these are all of them, or one again and again."""
    if len(rows) == len(value) and np.array_equal(rows, np.arange(len(rows))):
        return value
    if len(value) == 1:
        return value.expand(len(rows), *value.shape[1:])
    return value.index_select(0, torch.as_tensor(rows, device=value.device))


def gated(value: Tensor, gates: Tensor, blank: Tensor | None) -> Tensor:
    """Multiply a value by gates.

    Args:
        value: The value (states, …).
        gates: The factors (states,).
        blank: What a gate of 0 leaves, for one example; None for 0.

    Returns:
        A tensor of the type of the value.
    """
    factors = gates.view(-1, *[1] * (value.dim() - 1))
    factors = factors.to(value) if value.is_floating_point() else factors.to(value.device)
    product = factors * value if blank is None else factors * value + (1 - factors) * blank
    return product.to(value.dtype)


def filled(blank: Any, kept: Masks, value: Any, rows: Places) -> Any:
    """Write states of a value into a blank one.

    Args:
        blank: A tensor (states, …) that is overwritten, or a tuple of such tensors.
        kept: Which states of it are written (states,).
        value: The value, of the same structure.
        rows: Its states that are written.

    Returns:
        The blank value, filled.
    """
    if isinstance(blank, tuple):
        return tuple(filled(*parts, rows) for parts in zip(blank, [kept] * len(blank), value, strict=True))
    if isinstance(blank, Tensor):
        blank[torch.as_tensor(kept, device=blank.device)] = selected(value, rows)
    return blank


def _distinct(keys: Places) -> tuple[Places, Places]:
    """Where each distinct row stands first, and for each row the number of the distinct one."""
    if not len(keys):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)
