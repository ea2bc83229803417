"""Kolmogorov–Arnold networks (Liu et al., 2024, arXiv:2404.19756): a learnt function on every edge, sums at the nodes.

An edge is φ(x) = w · silu(x) + Σ_k c_k B_k(x) with B-splines B_k on an equidistant grid; nodes are scored
and switched off as the paper prunes them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunecast.errors import UserError

EDGES = 1 << 22  # edge values held at a time while nodes are scored: 16 MiB in single precision
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


@torch.no_grad()
def node_scores(network: KanNetwork, images: Tensor) -> dict[str, Tensor]:
    """A score (nodes,) for the outputs of every hidden layer: the largest edge into a node or out of it, the smaller.

    The size of an edge is the mean of |φ(x)| over the images (n, …), and a node needs both (Liu et al., 2024).
    Raises UserError where there are no images.
    """
    if not len(images):
        raise UserError("there are no images to score the nodes by")
    layers: list[KanLayer] = list(network.layers)  # type: ignore[arg-type]
    sizes = [torch.zeros_like(layer.base_weight) for layer in layers]
    for part in images.split(max(1, EDGES // max(size.numel() for size in sizes))):
        x = part.to(sizes[0].device).flatten(1)
        for layer, size in zip(layers, sizes, strict=True):
            size += layer.edges(x).abs().sum(0) / len(images)
            x = layer(x)
    return {
        f"layers.{place}": torch.minimum(into.amax(1), out.amax(0))
        for place, (into, out) in enumerate(zip(sizes, sizes[1:], strict=False))
    }


@contextmanager
def nodes_off(network: KanNetwork, keep: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context the hidden nodes whose entry of `keep`, booleans (nodes,) by layer, is False are not there.

    They are zero and so are the edges out of them; weights stay as they are. Raises UserError for a layer that is
    none or not hidden, and for anything but one boolean a node.
    """
    layers: list[KanLayer] = list(network.layers)  # type: ignore[arg-type]
    hidden = {f"layers.{place}": pair for place, pair in enumerate(zip(layers, layers[1:], strict=False))}
    for name, stays in keep.items():
        if name not in hidden:
            raise UserError(f"{name!r} is no hidden layer of the network; there are {', '.join(hidden) or 'none'}")
        nodes = len(hidden[name][0].base_weight)
        if stays.dtype != torch.bool or stays.shape != (nodes,):
            given = f"{tuple(stays.shape)} of {stays.dtype}"
            raise UserError(f"{name} has {nodes} nodes and takes one boolean for each, not a tensor {given}")
    with ExitStack() as undo:
        for name, stays in keep.items():
            layer, following = hidden[name]
            on = stays.to(layer.base_weight.device)
            undo.callback(layer.register_forward_hook(lambda module, x, y, on=on: y * on).remove)
            undo.callback(setattr, following, "open", following.open)
            following.open = on if following.open is None else following.open & on
        yield
