"""Gates of attention heads and of KAN nodes: their scores, and contexts in which some are closed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prunecast.errors import UserError
from prunecast.models.language import LanguageModel, batches_of, token_losses
from prunecast.models.transformer_blocks import find_blocks, heads_of, projections_of
from prunecast.networks.kan import KanLayer, KanNetwork

EDGES = 1 << 22  # edge values held at a time while nodes are scored: 16 MiB in single precision


@torch.no_grad()
def node_scores(network: KanNetwork, images: Tensor) -> dict[str, Tensor]:
    """Scores of the nodes of every hidden layer, the lowest pruned first.

    Of the largest edge into a node and the largest edge out of it, the score is the smaller. The size of an edge is
    the mean of `|φ(x)|` over the images.

    Args:
        network: The network, which is left unchanged.
        images: Images (n, …).

    Returns:
        Scores (nodes,) by layer, in the unit of the network's hidden values.

    Raises:
        UserError: There are no images.

    Source: Liu et al. (2024), "KAN: Kolmogorov-Arnold Networks", section 2.5.1, incoming and outgoing scores.
    """
    if not len(images):
        raise UserError("there are no images to score the nodes by")
    layers = _layers(network)
    sizes = [torch.zeros_like(layer.base_weight) for layer in layers]
    for part in torch.split(images, max(1, EDGES // max(size.numel() for size in sizes))):
        x = part.to(sizes[0].device).flatten(1)
        for layer, size in zip(layers, sizes, strict=True):
            size += layer.edges(x).abs().sum(0) / len(images)
            x = layer(x)
    return {
        f"layers.{place}": torch.minimum(into.amax(1), out.amax(0)) for place, (into, out) in enumerate(pairwise(sizes))
    }


@contextmanager
def nodes_off(network: KanNetwork, keep: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context some hidden nodes are removed: they are zero, and so are the edges out of them.

    Args:
        network: The network, whose weights are left unchanged.
        keep: Booleans (nodes,) by hidden layer, false for a node to remove; other layers keep all their nodes.

    Raises:
        UserError: A layer does not exist or is not hidden, or its entry is not one boolean a node.

    Source: Liu et al. (2024), "KAN: Kolmogorov-Arnold Networks", section 2.5.1.
    """
    layers = _layers(network)
    hidden = {f"layers.{place}": pair for place, pair in enumerate(pairwise(layers))}
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
            undo.callback(layer.register_forward_hook(partial(_multiplied, on)).remove)
            undo.callback(setattr, following, "open", following.open)
            following.open = on if following.open is None else following.open & on
        yield


HeadCriterion = Literal["weight_norm", "taylor"]


def head_scores(language: LanguageModel, criterion: HeadCriterion) -> dict[str, Tensor]:
    """Scores of the attention heads, the lowest pruned first.

    - weight_norm: Frobenius norm of the head's weights in the output projection.
    - taylor: mean over the calibration blocks of `|d loss / d gate|`, where a gate of 1 multiplies the head's input to
      the output projection.

    Args:
        language: The model with its calibration blocks; it is left unchanged.
        criterion: One of the two.

    Returns:
        Scores (heads,) by attention layer, in double precision; those of taylor are in nats.

    Raises:
        UserError: The criterion is unknown, or the heads of the model are not found.

    Source: taylor: Michel et al. (2019), "Are Sixteen Heads Really Better than One?", equation 2, without their
    normalisation by layer.
    """
    model, layers = language.model, _projections(language.model)
    if criterion == "taylor":
        return _gate_gradients(model, language.calibration)
    if criterion != "weight_norm":
        raise UserError(f"there is no criterion {criterion!r} for heads; there are weight_norm, taylor")
    by_input = {name: _by_input(layer).detach().double().cpu() for name, layer in layers.items()}
    return {
        name: torch.unflatten(weight, 0, (heads_of(model), -1)).norm(dim=(1, 2)) for name, weight in by_input.items()
    }


@contextmanager
def heads_off(model: nn.Module, keep: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context some attention heads give zeros to the output projection.

    Args:
        model: The model, whose weights are left unchanged.
        keep: Booleans (heads,) by attention layer, false for a head to remove; other layers keep all their heads.

    Raises:
        UserError: A layer does not exist, or its entry is not one boolean a head.

    Source: Michel et al. (2019), "Are Sixteen Heads Really Better than One?", section 2.3, masked heads.
    """
    layers, heads = _projections(model), heads_of(model)
    for name, kept in keep.items():
        if name not in layers:
            raise UserError(f"there is no attention layer {name!r}; there are {', '.join(layers)}")
        given = f"{tuple(kept.shape)} of {kept.dtype}"
        if kept.dtype != torch.bool or kept.shape != (heads,):
            raise UserError(f"layer {name} needs one boolean for each of its {heads} heads, not {given}")
    with _gated(model, keep):
        yield


def _multiplied(factors: Tensor, _layer: nn.Module, _inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
    return outputs * factors


def _layers(network: KanNetwork) -> list[KanLayer]:
    return [layer for layer in network.layers if isinstance(layer, KanLayer)]


def _projections(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that join the heads, by the name of the attention layer that each belongs to."""
    names = {module: name for name, module in model.named_modules()}
    return {names[layer].rpartition(".")[0]: layer for layer in projections_of(model, list(find_blocks(model)[2]))}


def _by_input(layer: Any) -> Tensor:
    """The weights (inputs, outputs) of a linear layer, as GPT-2 stores them and torch does not."""
    weight: Tensor = layer.weight
    return weight.T if isinstance(layer, nn.Linear) else weight


@contextmanager
def _gated(model: nn.Module, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context each head's input to the output projection is multiplied by its gate, (…, heads)."""
    layers = _projections(model)

    def multiply(gate: Tensor, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        by_head = torch.unflatten(inputs[0], -1, (gate.shape[-1], -1))
        return (by_head * gate.to(inputs[0])[..., None]).flatten(-2)

    with ExitStack() as hooks:
        for name, gate in gates.items():
            hooks.callback(layers[name].register_forward_pre_hook(partial(multiply, gate)).remove)
        yield


def _gate_gradients(model: nn.Module, blocks: Tensor) -> dict[str, Tensor]:
    heads = dict.fromkeys(_projections(model), heads_of(model))
    scores = {name: torch.zeros(count, dtype=torch.float64) for name, count in heads.items()}
    for batch in batches_of(blocks):  # every block has gates of its own, so one backward pass separates them
        gates = {name: torch.ones(len(batch), 1, count, requires_grad=True) for name, count in heads.items()}
        with _gated(model, gates):
            loss = token_losses(model, batch).mean(1).sum()
        for name, gradient in zip(gates, torch.autograd.grad(loss, list(gates.values())), strict=True):
            scores[name] += gradient.double().abs().sum((0, 1)) / len(blocks)
    return scores
