"""Kolmogorov–Arnold networks (Liu et al., 2024, arXiv:2404.19756): a learnt function on every edge, sums at the nodes.

An edge is φ(x) = w · silu(x) + Σ_k c_k B_k(x) with B-splines B_k on an equidistant grid; nodes are scored
and switched off as the paper prunes them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 4.0  # the grid of hidden nodes goes from minus to plus this; that of the inputs from -1 to 1
SPREAD = 0.1  # standard deviation of the spline part of a new layer, relative to that of the other part


class KanLayer(nn.Module):
    """Edges from every input to every output: `base_weight` (outputs, inputs) is w and `spline_weight`
    (outputs, inputs, grid + order) is c.

    The `grid` intervals from `low` to `high` go on by `order` intervals on both sides; outside those an edge is
    w · silu(x) alone. Where `open` (inputs,) is set, inputs whose entry is False contribute nothing, not even φ(0).
    """

    def __init__(self, inputs: int, outputs: int, grid: int = 5, order: int = 3, low: float = -1.0, high: float = 1.0):
        super().__init__()
        self.grid, self.order, self.low, self.high = grid, order, low, high
        self.base_weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.spline_weight = nn.Parameter(SPREAD * torch.randn(outputs, inputs, grid + order) / inputs**0.5)
        self.open: Tensor | None = None

    def basis(self, x: Tensor) -> Tensor:
        """The B-splines (…, grid + order) at x (…), by the recursion of Cox and de Boor.

        In units of the grid the knots are whole numbers, so that at distance d from the knot where it starts
        B_k of degree p is (d · B_k + (p + 1 − d) · B_(k+1)) / p of the splines of degree p − 1.
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
        """The sums (n, outputs) over the edges at inputs x (n, inputs)."""
        smooth, splines = self._parts(x)
        return functional.linear(smooth, self.base_weight) + functional.linear(
            splines.flatten(1), self.spline_weight.flatten(1)
        )

    def edges(self, x: Tensor) -> Tensor:
        """The value of every edge (n, outputs, inputs) at inputs x (n, inputs)."""
        smooth, splines = self._parts(x)
        by_input = torch.bmm(splines.transpose(0, 1), self.spline_weight.permute(1, 2, 0))  # (inputs, n, outputs)
        return by_input.addcmul_(smooth.T[:, :, None], self.base_weight.T[:, None]).permute(1, 2, 0)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        smooth, splines = functional.silu(x), self.basis(x)
        return (smooth, splines) if self.open is None else (smooth * self.open, splines * self.open[:, None])


class KanNetwork(nn.Module):
    """`layers` of edges between nodes, `widths` of them: inputs, hidden ones, and classes."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        first, *others = zip(widths, widths[1:], strict=False)
        self.layers = nn.ModuleList([KanLayer(*first), *(KanLayer(a, b, low=-HIDDEN, high=HIDDEN) for a, b in others)])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, …), best scaled to -1 to 1."""
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x
