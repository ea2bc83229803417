"""Forecasts from derivatives of the loss with respect to the gates of the edges, and from what the edges carry."""

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from prunecast.errors import UserError
from prunecast.graph.structure import Graph, MaskedNetwork, Numbers

STEPS = 10  # midpoints of the line on which gradients are averaged


@runtime_checkable
class EdgeNorms(Protocol):
    """A masked network that measures what its edges carry."""

    def edge_norms(self) -> Numbers:
        """Mean absolute value that each edge carries with all edges kept, (edges,)."""


@dataclass(frozen=True)
class Expansion:
    """The loss as a polynomial of first or second order in the gates, around all gates open.

    Attributes:
        graph: The graph.
        loss: Loss in nats with all edges.
        scores: What is added to the loss, in nats, by the removal of each edge (edges,).
        interactions: Second derivatives (edges, edges) in nats, half of which is added for each ordered pair of removed
            edges, an edge with itself included; none for the first order.
    """

    graph: Graph
    loss: float
    scores: Numbers
    interactions: Numbers | None = None

    def fit(self, masks: ArrayLike, losses: ArrayLike) -> Self:  # noqa: ARG002 - as every surrogate has
        """Nothing is learned from observed masks."""
        return self

    def predict(self, masks: ArrayLike) -> Numbers:
        """Forecast the losses (m,) in nats of masks (m, edges)."""
        removed = (~self.graph.checked(masks)).astype(float)
        forecast: Numbers = self.loss + removed @ self.scores
        if self.interactions is not None:
            forecast += (removed @ self.interactions * removed).sum(1) / 2
        return forecast


def gate_gradient(network: MaskedNetwork) -> Expansion:
    """First-order expansion in the gates: edge attribution patching, with zero in place of what an edge carries.

    Args:
        network: The network.

    Returns:
        The expansion.

    Source: Syed, Rager and Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", arXiv 2310.10348.
    """
    gates = _open(network)
    loss = network.gated_losses(gates)
    return Expansion(network.graph, float(loss.detach()), -_numbers(_gradient(loss.sum(), gates)))


def integrated_gradients(network: MaskedNetwork, steps: int = STEPS) -> Expansion:
    """Gradients averaged over the line from all gates closed to all gates open, at the midpoints of equal steps.

    The scores add up to the loss without edges less that with all of them, but for the error of the midpoint rule.

    Args:
        network: The network.
        steps: Number of steps.

    Returns:
        An expansion whose scores are the averages.

    Source: Hanna, Pezzelle and Belinkov, "Have Faith in Faithfulness", arXiv 2403.17806.
    """
    found = np.zeros(len(network.graph.edges))
    for step in range(steps):
        gates = (_open(network).detach() * (step + 0.5) / steps).requires_grad_()
        found -= _numbers(_gradient(network.gated_losses(gates).sum(), gates)) / steps
    with torch.no_grad():
        loss = float(network.gated_losses(_open(network)))
    return Expansion(network.graph, loss, found)


def gate_hessian(network: MaskedNetwork, diagonal: bool = False) -> Expansion:
    """Second-order expansion in the gates, exact: one Hessian-vector product an edge, so that memory stays small.

    Args:
        network: The network.
        diagonal: Leave out the interactions of different edges, which saves nothing.

    Returns:
        The expansion.

    Source: the second-order model of arXiv 2602.00161.
    """
    gates = _open(network)
    loss = network.gated_losses(gates)
    (gradient,) = torch.autograd.grad(loss.sum(), gates, create_graph=True)
    rows = [_numbers(_gradient(each, gates, keep=True)) for each in gradient[0]]
    hessian = np.stack(rows)
    hessian = np.diag(np.diag(hessian)) if diagonal else (hessian + hessian.T) / 2
    return Expansion(network.graph, float(loss.detach()), -_numbers(gradient), hessian)


def taylor(network: MaskedNetwork) -> Expansion:
    """Squares of the gradients in the gates as scores, in squared nats, added to a loss of 0.

    The source study squares them for each batch, and takes the mean over the kept edges; here all examples are one
    batch, and the sum is over the removed edges, so that more removed edges give a larger forecast.

    Args:
        network: The network.

    Returns:
        An expansion that orders masks, but is not in nats.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8.
    """
    return Expansion(network.graph, 0.0, gate_gradient(network).scores ** 2)


def activation_norm(network: MaskedNetwork) -> Expansion:
    """The share that the removed edges have of what all edges carry, as a mean absolute value.

    Args:
        network: The network.

    Returns:
        An expansion that orders masks, but is not in nats.

    Raises:
        UserError: The network does not measure what its edges carry.
    """
    norms = edge_norms(network)
    return Expansion(network.graph, 0.0, norms / (norms.sum() or 1.0))


def leaving_shares(network: MaskedNetwork) -> Numbers:
    """For each edge, its share of what the edges that leave the same vertex carry.

    Args:
        network: The network.

    Returns:
        The shares (edges,); equal ones where the edges of a vertex carry nothing.

    Raises:
        UserError: The network does not measure what its edges carry.
    """
    norms: Numbers = edge_norms(network) + np.finfo(float).tiny
    sources = np.array([source for source, _ in network.graph.edges], int)
    return np.asarray(norms / np.bincount(sources, norms)[sources], float)


def edge_norms(network: MaskedNetwork) -> Numbers:
    """What the edges of a network carry, as a mean absolute value.

    Args:
        network: The network.

    Returns:
        The means (edges,).

    Raises:
        UserError: The network does not measure them.
    """
    if not isinstance(network, EdgeNorms):
        raise UserError(f"{type(network).__name__} does not measure what its edges carry: it needs a method edge_norms")
    return np.asarray(network.edge_norms(), float)


def _open(network: MaskedNetwork) -> Tensor:
    return torch.ones(1, len(network.graph.edges), requires_grad=True)


def _gradient(value: Tensor, gates: Tensor, keep: bool = False) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(gates)
    (found,) = torch.autograd.grad(value, gates, retain_graph=keep, allow_unused=True)
    return torch.zeros_like(gates) if found is None else found


def _numbers(gradient: Tensor) -> Numbers:
    return gradient.detach()[0].cpu().double().numpy()
