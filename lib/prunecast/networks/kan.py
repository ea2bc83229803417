"""Kolmogorov–Arnold networks (Liu et al., 2024, arXiv:2404.19756): a learnt function on every edge, sums at the nodes.

An edge is φ(x) = w · silu(x) + Σ_k c_k B_k(x) with B-splines B_k on an equidistant grid. The
scores of nodes, and switching nodes off, are in `prunecast.pruning.gates`.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 4.0  # the grid of hidden nodes ranges from minus to plus this, that of the inputs from -1 to 1
SPREAD = 0.1  # standard deviation of the spline part of a new layer, relative to that of the other part


class KanLayer(nn.Module):
    """Edges from every input to every output.

    The grid is extended by `order` intervals on both sides; outside those an edge is w · silu(x) alone.

    Attributes:
        grid: Number of intervals from `low` to `high`.
        order: Degree of the splines.
        low: Lower end of the grid, in units of the inputs.
        high: Upper end of the grid.
        base_weight: The weights w (outputs, inputs).
        spline_weight: The coefficients c (outputs, inputs, grid + order).
        open: Where it is set, a mask (inputs,); inputs whose entry is False contribute nothing, not even φ(0).

    Source:
        Liu et al. (2024), arXiv:2404.19756, section 2.2.
    """

    def __init__(self, inputs: int, outputs: int, grid: int = 5, order: int = 3, low: float = -1.0, high: float = 1.0):
        super().__init__()
        self.grid, self.order, self.low, self.high = grid, order, low, high
        self.base_weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.spline_weight = nn.Parameter(SPREAD * torch.randn(outputs, inputs, grid + order) / inputs**0.5)
        self.open: Tensor | None = None

    def basis(self, x: Tensor) -> Tensor:
        """Evaluate the B-splines, by the recursion of Cox and de Boor.

        In units of the grid the knots are whole numbers, so that at distance d from the knot where it starts
        B_k of degree p is (d · B_k + (p + 1 − d) · B_(k+1)) / p of the splines of degree p − 1.

        Args:
            x: Inputs (…).

        Returns:
            The splines (…, grid + order), in single precision or better.
        """
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        place = (exact - self.low) * (self.grid / (self.high - self.low)) + self.order
        distance = place[..., None] - torch.arange(self.grid + 2 * self.order, device=x.device, dtype=exact.dtype)
        splines = ((distance >= 0) & (distance < 1)).to(exact.dtype)
        for degree in range(1, self.order + 1):
            distance = distance[..., :-1]
            splines = (distance * splines[..., :-1] + (degree + 1 - distance) * splines[..., 1:]) / degree
        return splines

    def forward(self, x: Tensor) -> Tensor:
        """Sum over the edges.

        Args:
            x: Inputs (n, inputs).

        Returns:
            The outputs (n, outputs).
        """
        smooth, splines = self._parts(x)
        return functional.linear(smooth, self.base_weight) + functional.linear(
            splines.flatten(1), self.spline_weight.flatten(1)
        )

    def edges(self, x: Tensor) -> Tensor:
        """Evaluate every edge.

        Args:
            x: Inputs (n, inputs).

        Returns:
            The values (n, outputs, inputs) of the edges.
        """
        smooth, splines = self._parts(x)
        by_input = torch.bmm(splines.transpose(0, 1), self.spline_weight.permute(1, 2, 0))  # (inputs, n, outputs)
        return by_input.addcmul_(smooth.T[:, :, None], self.base_weight.T[:, None]).permute(1, 2, 0)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        smooth, splines = functional.silu(x), self.basis(x)
        return (smooth, splines) if self.open is None else (smooth * self.open, splines * self.open[:, None])


class KanNetwork(nn.Module):
    """A classifier made of layers of edges.

    Args:
        widths: Numbers of nodes: the inputs, each hidden layer, and the classes.

    Attributes:
        layers: The layers (`KanLayer`), from the inputs to the classes.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        first, *others = pairwise(widths)
        self.layers = nn.ModuleList([KanLayer(*first), *(KanLayer(a, b, low=-HIDDEN, high=HIDDEN) for a, b in others)])

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: Images (n, …), best scaled to values from -1 to 1, the grid of the first layer.

        Returns:
            Logits (n, classes).
        """
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x
