"""Random directed acyclic networks of the source study, with gates on their edges."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from prunecast.errors import UserError
from prunecast.graph.structure import Graph
from prunecast.progress import track
from prunecast.seeding import generator, seed_everything

STEM = 400  # width of the block behind the pixels, which is the input of the graph
JOINT = 20  # width of the block that the loose ends lead to
EXPONENTS = (3, 8)  # a block has 2 to the power of a number between them as its width, both included
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
