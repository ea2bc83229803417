"""Random directed acyclic networks of the source study, with gates on their edges, evaluated for many masks at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from prunecast.errors import UserError
from prunecast.graph.structure import Graph, Masks, Numbers
from prunecast.progress import track
from prunecast.seeding import generator, seed_everything

STEM = 400  # width of the block behind the pixels, which is the input of the graph
JOINT = 20  # width of the block that the loose ends lead to
EXPONENTS = (3, 8)  # a block has 2 to the power of a number between them as its width, both included
MEMORY = 1 << 28  # bytes of activations held at a time
LEARNING_RATE = 1e-3
BATCH = 128


@dataclass(frozen=True)
class Design:
    """A graph and the widths of its vertices.

    Attributes:
        graph: The graph.
        widths: For each vertex, its number of values.
        pixels: Number of values of an example.
    """

    graph: Graph
    widths: tuple[int, ...]
    pixels: int


def random_design(iterations: int, pixels: int, classes: int, draws: np.random.Generator) -> Design:
    """Draw a graph as the source study does.

    Its input is a block of width 400. Each iteration takes two earlier vertices at random, two different ones where
    there are two; a block of a random width follows each, and a third block takes the sum of these two. What nothing
    follows leads to a last block of width 20, and that to the output. So the text of the study, and about as many masks
    join input and output as in its predictions. The code of its authors differs: every block can be a parent, the block
    behind the pixels has gates as well, a block belongs to an edge, with its bias, and not to the vertex behind it, and
    each loose end has a last block of its own.

    Args:
        iterations: Number of iterations, 1 or more.
        pixels: Number of values of an example.
        classes: Number of classes.
        draws: What the parents and widths are drawn from.

    Returns:
        The design, with 4 edges an iteration and a few more.

    Raises:
        UserError: There is no iteration.

    Source: Ivanov and Bakhteev, "Few-shot Structural Neural Network Pruning Using Computational Graph Information".
    """
    if iterations < 1:
        raise UserError(f"a random graph has 1 iteration or more, not {iterations}")
    names, widths, ends = ["input"], [STEM], [0]
    edges: list[tuple[int, int]] = []
    for number in range(1, iterations + 1):
        parents = draws.choice(ends, 2, replace=len(ends) < 2)
        width, following = (int(2**exponent) for exponent in draws.integers(EXPONENTS[0], EXPONENTS[1] + 1, 2))
        first = len(names)
        names += [f"{number}a", f"{number}b", f"{number}"]
        widths += [width, width, following]
        edges += [(int(parents[0]), first), (int(parents[1]), first + 1), (first, first + 2), (first + 1, first + 2)]
        ends.append(first + 2)
    sources = {source for source, _ in edges}
    joint = len(names)
    edges += [(end, joint) for end in ends if end not in sources]
    graph = Graph((*names, "joint", "output"), (*edges, (joint, joint + 1)))
    return Design(graph, (*widths, JOINT, classes), pixels)


class DagNetwork(nn.Module):
    """A network over a directed acyclic graph: every vertex is a linear layer, and all but the last a ReLU.

    A vertex takes the sum of what its edges carry, and the last but one all of it as one long vector.

    Args:
        design: The graph and the widths.
    """

    def __init__(self, design: Design):
        super().__init__()
        self.design = design
        widths, into = design.widths, design.graph.into
        self.joint = len(widths) - 2
        inputs = [sum(widths[source] for _, source in into[self.joint])] if into[self.joint] else []
        sizes = [design.pixels, *(widths[edges[0][1]] for edges in into[1 : self.joint]), *inputs, widths[-2]]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size, width in zip(sizes, widths, strict=True))
        ends = np.cumsum([0, *(widths[source] for _, source in into[self.joint])]).tolist()
        self.columns = {edge: slice(*ends[place : place + 2]) for place, (edge, _) in enumerate(into[self.joint])}

    def forward(self, pixels: Tensor, gates: Tensor | None = None) -> Tensor:
        """Logits for each mask.

        Args:
            pixels: Examples (n, pixels).
            gates: Factors (m, edges) of what the edges carry; all 1 where absent.

        Returns:
            Logits (m, n, classes).
        """
        factors = pixels.new_ones(1, len(self.design.graph.edges)) if gates is None else gates
        values = [self.stem(pixels)[None]]
        for vertex, edges in enumerate(self.design.graph.into[1:], 1):
            carried = [factors[:, edge, None, None] * self.product(edge, values[source]) for edge, source in edges]
            values.append(self.finished(vertex, sum(carried[1:], carried[0])))
        return values[-1]

    def stem(self, pixels: Tensor) -> Tensor:
        """The values (n, 400) of the first vertex."""
        return functional.relu(self.layers[0](pixels))

    def product(self, edge: int, value: Tensor) -> Tensor:
        """What an edge adds to the sum of its target before the bias, for a value (…, width) of its source."""
        weight: Any = self.layers[self.design.graph.edges[edge][1]].weight
        product: Tensor = value @ (weight[:, self.columns[edge]] if edge in self.columns else weight).T
        return product

    def finished(self, vertex: int, total: Tensor) -> Tensor:
        """The value (…, width) of a vertex for the sum of what its edges add."""
        bias: Any = self.layers[vertex].bias
        biased: Tensor = total + bias
        return biased if vertex == len(self.layers) - 1 else functional.relu(biased)


def train(network: DagNetwork, pixels: Tensor, labels: Tensor, epochs: int, seed: int, name: str) -> None:
    """Train a network in place with Adam, batches of 128 and a learning rate that falls to zero.

    Args:
        network: The network.
        pixels: Examples (n, pixels).
        labels: Classes (n,).
        epochs: Passes over the examples.
        seed: Seed of their order.
        name: Name of the network, which the seed goes with.
    """
    draws = generator(seed, "train", name)
    order = np.concatenate([draws.permutation(len(pixels)) for _ in range(epochs)])
    steps = torch.split(torch.from_numpy(order), BATCH)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, len(steps))
    for rows in track(steps, f"training {name}"):
        optimizer.zero_grad()
        torch.autograd.backward(functional.cross_entropy(network(pixels[rows])[0], labels[rows]))
        optimizer.step()
        schedule.step()


def built(design: Design, seed: int, name: str) -> DagNetwork:
    """A network with random weights, drawn as torch draws those of linear layers.

    Args:
        design: The graph and the widths.
        seed: Seed of the weights.
        name: Name of the network, which the seed goes with.

    Returns:
        The network.
    """
    seed_everything(seed, "build", name)
    return DagNetwork(design)


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
