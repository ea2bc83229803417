"""Surrogates of the loss of a network with removed edges, each with the evaluations of the network that it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LinearRegression, RidgeCV

from prunecast.edge_surrogates import gate_scores
from prunecast.edge_surrogates.flow import ChannelFlow, Flow, observations
from prunecast.edge_surrogates.live_edges import CarryingGradients, LiveEdgeProcess
from prunecast.edge_surrogates.mask_regression import (
    ALPHAS,
    PairRidge,
    Regression,
    SmallNetwork,
    SparseFourier,
    boosted_trees,
)
from prunecast.errors import UserError
from prunecast.graph.structure import Graph, MaskedNetwork, Masks, Numbers

NONE, LEAVE_ONE_OUT, MASKS = "none", "leave_one_out", "masks"


class EdgeSurrogate(Protocol):
    """A model of the loss of a network from the mask of its edges."""

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Fit to observed masks (n, edges) and their losses (n,) in nats."""

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast for masks (m, edges) the losses (m,) in nats, or numbers in the order of the losses."""


@dataclass(frozen=True)
class Entry:
    """A surrogate, and what it costs.

    A pass is an evaluation of the network on all examples. A gradient counts as three of them, one forward and one
    backward that costs two; a Hessian-vector product counts as six, twice a gradient. That is the usual rule; as the
    weights need no gradient here, 2.2 and 3.5 were measured on a random graph of 132 edges.

    Attributes:
        make: Makes the unfitted surrogate from a network and a seed.
        observes: Which observed masks it is fitted on: `none`, `leave_one_out` (all edges, no edge, and all edges but
            one for each edge) or `masks` (any).
        passes: Evaluations of the network in making it.
        passes_an_edge: More of them for each edge.
    """

    make: Callable[[MaskedNetwork, int], EdgeSurrogate]
    observes: str = NONE
    passes: int = 0
    passes_an_edge: int = 0

    def cost(self, edges: int, observed: int = 0) -> int:
        """Evaluations of the network, each on all examples.

        Args:
            edges: Number of edges.
            observed: Number of observed masks; only counted by surrogates that are fitted on any masks.

        Returns:
            The evaluations, those of the observed masks included.
        """
        masks = {NONE: 0, LEAVE_ONE_OUT: edges + 2, MASKS: observed}[self.observes]
        return masks + self.passes + self.passes_an_edge * edges


@dataclass(frozen=True)
class MaskStatistic:
    """A number that can be computed from a mask alone, as a forecast that orders masks but is not in nats.

    Attributes:
        statistic: Gives the numbers (m,) of masks (m, edges).
    """

    statistic: Callable[[Masks], ArrayLike]

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:  # noqa: ARG002 - as every surrogate has
        """Nothing is learned from observed masks."""
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """The numbers (m,) of masks (m, edges), larger where a larger loss is expected."""
        return np.asarray(self.statistic(np.atleast_2d(np.asarray(masks))), float)


def _removed_share(network: MaskedNetwork) -> MaskStatistic:
    return MaskStatistic(lambda masks: (~network.graph.checked(masks)).mean(1))


def _lost_flow(graph: Graph, coefficients: Numbers | None = None) -> MaskStatistic:
    """The share of the sum over paths that is lost; all of it where the graph has no path."""
    whole = float(graph.flow(np.ones(len(graph.edges), bool), coefficients)[0]) or 1.0
    return MaskStatistic(lambda masks: 1 - graph.flow(masks, coefficients) / whole)


class LeaveOneOut:
    """The loss with all edges, plus for each removed edge the change that its removal alone makes.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph):
        self.graph = graph

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:
        """Read the changes from the losses of the mask of all edges and of each mask that lacks one.

        Raises:
            UserError: One of these masks is absent.
        """
        kept, values = observations(self.graph, masks, losses)
        removed = (~kept).sum(1)
        found = dict(zip(np.argmin(kept[removed == 1], 1).tolist(), values[removed == 1].tolist(), strict=True))
        absent = [name for edge, name in enumerate(self.graph.names) if edge not in found]
        if absent or not (removed == 0).any():
            missing = f"the removal of {absent[0]} alone" if absent else "all edges kept"
            raise UserError(
                f"leave-one-out needs the loss of every mask that lacks one edge, but not that of {missing}"
            )
        whole = float(values[removed == 0][0])
        changes = np.array([found[edge] - whole for edge in range(len(self.graph.edges))])
        self.expansion = gate_scores.Expansion(self.graph, whole, changes)
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        return self.expansion.predict(masks)


GRADIENT = 3  # evaluations that a gradient counts as
PRODUCT = 6  # evaluations that a Hessian-vector product counts as

ENTRIES: dict[str, Entry] = {
    "constant": Entry(lambda network, _: MaskStatistic(lambda masks: np.zeros(len(network.graph.checked(masks))))),
    "keep_rate": Entry(lambda network, _: _removed_share(network)),
    "reachability": Entry(lambda network, _: MaskStatistic(lambda masks: ~network.graph.connected(masks))),
    "path_count": Entry(lambda network, _: _lost_flow(network.graph)),
    "path_products": Entry(lambda network, _: _lost_flow(network.graph, gate_scores.leaving_shares(network)), passes=1),
    "activation_norm": Entry(lambda network, _: gate_scores.activation_norm(network), passes=1),
    "taylor": Entry(lambda network, _: gate_scores.taylor(network), passes=GRADIENT),
    "gate_gradient": Entry(lambda network, _: gate_scores.gate_gradient(network), passes=GRADIENT),
    "gate_integrated_gradients": Entry(
        lambda network, _: gate_scores.integrated_gradients(network), passes=GRADIENT * gate_scores.STEPS + 1
    ),
    "carrying_gradients": Entry(lambda network, _: CarryingGradients(network), passes=GRADIENT * gate_scores.STEPS + 1),
    "gate_hessian_diagonal": Entry(
        lambda network, _: gate_scores.gate_hessian(network, diagonal=True), passes=GRADIENT, passes_an_edge=PRODUCT
    ),
    "gate_hessian": Entry(
        lambda network, _: gate_scores.gate_hessian(network), passes=GRADIENT, passes_an_edge=PRODUCT
    ),
    "leave_one_out": Entry(lambda network, _: LeaveOneOut(network.graph), LEAVE_ONE_OUT),
    "flow": Entry(lambda network, seed: Flow(network.graph, seed), LEAVE_ONE_OUT),
    "fcn": Entry(lambda network, seed: SmallNetwork(network.graph, seed), MASKS),
    "least_squares": Entry(lambda network, _: Regression(network.graph, LinearRegression()), MASKS),
    "ridge": Entry(lambda network, _: Regression(network.graph, RidgeCV(ALPHAS)), MASKS),
    "ridge_order_2": Entry(lambda network, _: PairRidge(network.graph), MASKS),
    "boosted_trees": Entry(lambda network, seed: Regression(network.graph, boosted_trees(seed)), MASKS),
    "sparse_fourier": Entry(lambda network, seed: SparseFourier(network.graph, seed), MASKS),
    "flow_one_channel": Entry(lambda network, seed: ChannelFlow(network.graph, seed, channels=1), MASKS),
    "flow_channels": Entry(lambda network, seed: ChannelFlow(network.graph, seed), MASKS),
    "live_edges": Entry(lambda network, _: LiveEdgeProcess(network.graph), MASKS),
}


def unfitted(name: str, network: MaskedNetwork, seed: int) -> EdgeSurrogate:
    """An unfitted surrogate; one that needs passes of the network takes them here.

    Args:
        name: Name in `ENTRIES`.
        network: The network, on the examples that may be used.
        seed: Seed of its training.

    Returns:
        The surrogate.

    Raises:
        UserError: There is no surrogate of this name.
    """
    if name not in ENTRIES:
        raise UserError(f"there is no edge surrogate {name!r}; there are {', '.join(ENTRIES)}")
    return ENTRIES[name].make(network, seed)
