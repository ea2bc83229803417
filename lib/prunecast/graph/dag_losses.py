"""Random networks with the examples that they are evaluated on, for many masks of their edges at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from prunecast.graph.random_dags import DagNetwork, Design
from prunecast.graph.structure import Graph, Masks, Numbers

MEMORY = 1 << 28  # bytes of activations held at a time


@dataclass(frozen=True)
class DagOnExamples:
    """A network over a graph with the examples that it is evaluated on: a `MaskedNetwork`.

    Attributes:
        network: The network.
        pixels: Examples (n, pixels).
        labels: Classes (n,).
        memory: Largest number of bytes of activations that are held at a time.
    """

    network: DagNetwork
    pixels: Tensor
    labels: Tensor
    memory: int = MEMORY

    @property
    def graph(self) -> Graph:
        """The graph of the network."""
        return self.network.design.graph

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.labels)

    def on(self, count: int) -> Self:
        """The same network on its first `count` examples."""
        return replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def gated_losses(self, gates: Tensor) -> Tensor:
        """Mean cross-entropy over the examples in nats, (m,), differentiable in the gates (m, edges)."""
        logits = self.network(self.pixels, gates)
        labels = self.labels.expand(len(gates), -1)
        return (
            functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
            .view(len(gates), -1)
            .mean(1)
        )

    @torch.inference_mode()
    def edge_norms(self) -> Numbers:
        """Mean absolute value that each edge carries with all edges kept, (edges,)."""
        values = [self.network.stem(self.pixels)]
        for vertex, edges in enumerate(self.graph.into[1:], 1):
            total: Any = sum(self.network.product(edge, values[source]) for edge, source in edges)
            values.append(self.network.finished(vertex, total))
        return np.array([float(values[source].abs().mean()) for source, _ in self.graph.edges])

    @torch.inference_mode()
    def losses(self, masks: ArrayLike) -> Numbers:
        """Mean cross-entropy over the examples in nats for each mask.

        What a vertex gives depends on the live edges before it alone. So each vertex is computed once for each
        different set of them, for one example only where they do not reach the input, and not at all where the output
        cannot be reached from it.

        Args:
            masks: Booleans (m, edges), true for an edge that stays.

        Returns:
            The losses (m,); where no kept path joins input and output, that of the constant logits which the biases
            give, in the frequencies of the classes.

        Raises:
            UserError: They are not one boolean an edge.
        """
        plan = _plan(self.graph, self.graph.checked(masks))
        constants = _constants(self.network, plan)
        rows = max(1, self.memory // (4 * _floats_an_example(self.network.design, plan)))
        total = np.zeros(len(plan[-1].constant))
        for start in range(0, self.examples, rows):
            part = slice(start, start + rows)
            total += _summed(self.network, plan, constants, self.pixels[part], self.labels[part])
        frequencies = torch.bincount(self.labels, minlength=self.network.design.widths[-1]).double() / self.examples
        fixed = -(constants[-1].double().log_softmax(1) @ frequencies).numpy()
        by_state: Numbers = np.where(plan[-1].constant, fixed, total / self.examples)
        return by_state[plan[-1].state]


@dataclass(frozen=True)
class _States:
    """The different values that a vertex takes over some masks.

    Attributes:
        state: For each mask, the number of its state; meaningless where the vertex is not needed.
        sources: For each state and each edge into the vertex, the state of the source, -1 where the edge is not live.
        constant: For each state, whether it is the same for every example.
        place: For each state, its number among those of its kind, constant or not.
    """

    state: NDArray[np.int64]
    sources: NDArray[np.int64]
    constant: Masks
    place: NDArray[np.int64]

    def is_constant(self, states: NDArray[np.int64]) -> Masks:
        """Whether what an edge from this vertex carries is the same for every example; -1 stands for no live edge."""
        return np.append(self.constant, True)[states]


def _plan(graph: Graph, masks: Masks) -> list[_States]:
    live, needed = graph.live(masks), graph.needed(masks)
    nothing = np.zeros(len(masks), int)
    plan = [_States(nothing, np.zeros((1, 0), int), np.array([False]), np.zeros(1, int))]
    for vertex in range(1, len(graph.vertices)):
        edges = graph.into[vertex]
        key = np.stack([np.where(live[:, edge], plan[source].state, -1) for edge, source in edges], 1)
        rows, inverse = np.unique(key[needed[:, vertex]], axis=0, return_inverse=True)
        state = nothing.copy()
        state[needed[:, vertex]] = inverse.reshape(-1)
        constant = np.ones(len(rows), bool)
        for column, (_, source) in enumerate(edges):
            constant &= plan[source].is_constant(rows[:, column])
        place = np.where(constant, np.cumsum(constant), np.cumsum(~constant)) - 1
        plan.append(_States(state, rows, constant, place))
    return plan


def _constants(network: DagNetwork, plan: Sequence[_States]) -> list[Tensor]:
    """For each vertex, its values (states, width) where they are constant; zeros where they are not."""
    graph, widths = network.design.graph, network.design.widths
    values = [torch.zeros(1, widths[0])]
    for vertex in range(1, len(plan)):
        states = plan[vertex]
        total = torch.zeros(len(states.sources), widths[vertex])
        for column, (edge, source) in enumerate(graph.into[vertex]):
            on = states.constant & (states.sources[:, column] >= 0)
            if on.any():
                total[on] += network.product(edge, values[source])[states.sources[on, column]]
        values.append(network.finished(vertex, total))
    return values


def _summed(
    network: DagNetwork, plan: Sequence[_States], constants: Sequence[Tensor], pixels: Tensor, labels: Tensor
) -> Numbers:
    """Sum of the losses over some examples for each state of the output that is not constant, else 0."""
    graph, widths = network.design.graph, network.design.widths
    last_use = dict(sorted(graph.edges, key=itemgetter(1)))
    values: dict[int, Tensor] = {0: network.stem(pixels)[None]}
    for vertex in range(1, len(plan)):
        states = plan[vertex]
        own = np.flatnonzero(~states.constant)
        total = pixels.new_zeros(len(own), len(pixels), widths[vertex])
        for column, (edge, source) in enumerate(graph.into[vertex]):
            before = states.sources[own, column]
            varying = ~plan[source].is_constant(before)
            fixed = (before >= 0) & ~varying
            if varying.any():
                used, position = np.unique(plan[source].place[before[varying]], return_inverse=True)
                product = network.product(edge, values[source][used])
                total.index_add_(0, torch.from_numpy(np.flatnonzero(varying)), product[position.reshape(-1)])
            if fixed.any():
                total[fixed] += network.product(edge, constants[source])[before[fixed], None]
            if last_use[source] == vertex:
                del values[source]
        values[vertex] = network.finished(vertex, total)
    logits = values[len(plan) - 1]
    found = np.zeros(len(plan[-1].constant))
    losses = functional.cross_entropy(
        logits.flatten(0, 1), labels.expand(len(logits), -1).flatten(), reduction="none"
    ).view(len(logits), len(labels))
    found[~plan[-1].constant] = losses.double().sum(1).numpy()
    return found


def _floats_an_example(design: Design, plan: Sequence[_States]) -> int:
    """Largest number of values that an example needs at a time."""
    sizes = [int((~states.constant).sum()) * width for states, width in zip(plan, design.widths, strict=True)]
    last_use = dict(sorted(design.graph.edges, key=itemgetter(1)))
    most = 1
    for vertex in range(1, len(plan)):
        held = sum(size for source, size in enumerate(sizes[:vertex]) if last_use.get(source, -1) >= vertex)
        most = max(most, held + 3 * sizes[vertex])
    return most
