"""Our surrogates: masks are compared by the edges that still matter, and masks to be observed are chosen by them."""

from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from prunecast.edge_surrogates.flow import observations
from prunecast.edge_surrogates.gate_scores import Expansion, integrated_gradients
from prunecast.graph import edge_masks
from prunecast.graph.structure import Graph, MaskedNetwork, Masks, Numbers

LENGTHS = (0.1, 0.3, 1.0, 3.0)  # of the squared exponential part, of squared distances at most 1
LINEAR = (0.0, 1.0, 10.0)  # variance of the linear part
NOISE = (1e-4, 1e-2, 1e-1)
MOST = 250  # observed masks that the settings are chosen by
DRAWN = 20_000  # masks that the frequency of sets of live edges is counted in
CONNECTED = 0.3  # share of the chosen masks that join input and output


class LiveEdgeProcess:
    """A Gaussian process over which edges are live and which of them carry what depends on the input.

    An edge is live where it stays and the output can be reached from its target; masks with the same live edges give
    the same network. A live edge carries a constant where its source cannot be reached from the input. Both are
    features of every edge. Their distance is weighted by the root of the share of the output that an edge makes if
    every vertex shares what it makes evenly among the edges into it, so that edges near the output count more. The
    kernel is the sum of a constant, a linear and a squared exponential one, whose settings have the largest marginal
    likelihood.

    Args:
        graph: The graph.

    Source: Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", algorithm 2.1; the features and
        weights are ours.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        weights = np.sqrt(shares(graph))
        self.scale = np.sqrt(np.tile(weights, 2) / (2 * weights.sum()))

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Fit to masks (n, edges) and their losses (n,) in nats."""
        kept, values = observations(self.graph, masks, losses)
        self.features = self._features(kept)
        self.mean, self.deviation = float(values.mean()), float(values.std()) or 1.0
        z = (values - self.mean) / self.deviation
        few = slice(0, MOST)
        settings = product(LENGTHS, LINEAR, NOISE)
        self.setting = max(settings, key=lambda setting: _evidence(self.features[few], z[few], *setting))
        self.coefficients = _solved(self.features, z, *self.setting)[0]
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        length, linear, _ = self.setting
        kernel = _kernel(self._features(self.graph.checked(masks)), self.features, length, linear)
        return np.asarray(kernel @ self.coefficients * self.deviation + self.mean)

    def _features(self, masks: Masks) -> Numbers:
        both = np.concatenate([self.graph.live(masks), self.graph.carrying(masks)], 1)
        return np.asarray(both * self.scale)


class CarryingGradients:
    """Gate integrated gradients, where an edge that carries nothing of the input counts as removed.

    Args:
        network: The network, on the examples that may be used.
    """

    def __init__(self, network: MaskedNetwork):
        self.graph = network.graph
        self.expansion: Expansion = integrated_gradients(network)

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:  # noqa: ARG002 - as every surrogate has
        """Nothing is learned from observed masks."""
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        return self.expansion.predict(self.graph.carrying(masks))


@dataclass(frozen=True)
class FewExamples:
    """Every mask is evaluated, on as few examples as a budget allows.

    Where a mask leaves the output disconnected, the logits are the same for every example, so that one example and the
    frequencies of the classes give its loss exactly; the rest of the budget is spent on the other masks.

    Attributes:
        network: The network, on the examples that may be used.
        evaluations: The budget, in evaluations of the network on all of them, for all masks of a forecast together.
    """

    network: MaskedNetwork
    evaluations: int

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:  # noqa: ARG002 - as every surrogate has
        """Nothing is learned from observed masks."""
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Estimate the losses (m,) in nats of masks (m, edges)."""
        kept = self.network.graph.checked(masks)
        joined = self.network.graph.connected(kept)
        budget = self.evaluations * self.network.examples - int((~joined).sum())
        count = min(self.network.examples, max(1, budget // max(int(joined.sum()), 1)))
        losses = np.empty(len(kept))
        losses[~joined] = self.network.losses(kept[~joined])
        losses[joined] = self.network.on(count).losses(kept[joined])
        return losses


def shares(graph: Graph) -> Numbers:
    """Share of the output (edges,) that each edge makes if a vertex shares its own evenly among the edges into it."""
    found, vertices = np.zeros(len(graph.edges)), np.zeros(len(graph.vertices))
    vertices[-1] = 1
    for target in range(len(graph.vertices) - 1, 0, -1):
        for edge, source in graph.into[target]:
            found[edge] = vertices[target] / len(graph.into[target])
            vertices[source] += found[edge]
    return found


def chosen_masks(graph: Graph, keep_rate: float, count: int, draws: np.random.Generator) -> Masks:
    """Masks worth observing: those whose live edges are most frequent among random masks of a keep rate.

    Args:
        graph: The graph.
        keep_rate: Probability with which an edge stays.
        count: Number of masks.
        draws: What the random masks are drawn from.

    Returns:
        Booleans (count, edges) or, where there are fewer sets of live edges, fewer of them; three tenths of them, where
        there are so many, join input and output.
    """
    drawn = edge_masks.at_random(len(graph.edges), keep_rate, DRAWN, draws)
    _, first, frequency = np.unique(graph.live(drawn), axis=0, return_index=True, return_counts=True)
    ordered = drawn[first[np.argsort(-frequency, kind="stable")]]
    joined = graph.connected(ordered)
    some = ordered[joined][: round(CONNECTED * count)]
    return np.concatenate([some, ordered[~joined][: count - len(some)]])


def _kernel(a: Numbers, b: Numbers, length: float, linear: float) -> Numbers:
    products = a @ b.T
    distances = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * products, 0)
    return np.asarray(1 + linear * products + np.exp(-distances / length))


def _solved(features: Numbers, z: Numbers, length: float, linear: float, noise: float) -> tuple[Numbers, Numbers]:
    """Coefficients (n,) of the mean, and the diagonal (n,) of the Cholesky factor."""
    factor = cho_factor(_kernel(features, features, length, linear) + noise * np.eye(len(features)), lower=True)
    return cho_solve(factor, z), np.diag(factor[0])


def _evidence(features: Numbers, z: Numbers, length: float, linear: float, noise: float) -> float:
    """Log marginal likelihood at the most likely variance, but for a constant."""
    coefficients, diagonal = _solved(features, z, length, linear, noise)
    return float(-len(z) / 2 * np.log(np.maximum(z @ coefficients, 1e-12)) - np.log(diagonal).sum())
