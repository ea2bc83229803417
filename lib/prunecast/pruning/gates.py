"""Gates of attention heads and of KAN nodes: their scores, and contexts in which some are closed."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor

from transformers import GPT2LMHeadModel  # isort: skip
from typing import Any

from prunecast.errors import UserError
from prunecast.models.kan import KanLayer, KanNetwork
from prunecast.models.language import LanguageModel, batches_of, token_losses

EDGES = 1 << 22  # edge values held at a time while nodes are scored: 16 MiB in single precision


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


HeadCriterion = Literal["weight_norm", "taylor"]


def head_scores(language: LanguageModel, criterion: HeadCriterion) -> dict[str, Tensor]:
    """By attention layer a score for each head (heads,), in double precision; the lowest go first.

    weight_norm  Frobenius norm of the head's rows of the output projection,
    taylor       mean over the calibration blocks of |d loss / d gate|, where a gate of 1 multiplies what the head hands
                 to the output projection (Michel et al., 2019, before their normalisation by layer), in nats.
    """
    model, layers = language.model, _attention(language.model)
    if criterion == "taylor":
        return _gate_gradients(model, language.calibration)
    if criterion != "weight_norm":
        raise UserError(f"there is no criterion {criterion!r} for heads; there are weight_norm, taylor")
    rows = {name: layer.c_proj.weight.detach().double().cpu() for name, layer in layers.items()}
    return {name: weight.unflatten(0, (layers[name].num_heads, -1)).norm(dim=(1, 2)) for name, weight in rows.items()}


@contextmanager
def heads_off(model: GPT2LMHeadModel, keep: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context those heads hand on zeros whose entry in `keep`, by layer booleans (heads,), is false.

    Layers that `keep` does not name keep all heads; no weight is touched.
    """
    layers = _attention(model)
    for name, kept in keep.items():
        if name not in layers:
            raise UserError(f"there is no attention layer {name!r}; there are {', '.join(layers)}")
        heads, got = layers[name].num_heads, f"{tuple(kept.shape)} of {kept.dtype}"
        if kept.dtype != torch.bool or kept.shape != (heads,):
            raise UserError(f"layer {name} needs one boolean for each of its {heads} heads, not {got}")
    with _gated(model, keep):
        yield


def _attention(model: GPT2LMHeadModel) -> dict[str, Any]:
    return {f"transformer.h.{index}.attn": block.attn for index, block in enumerate(model.transformer.h)}


@contextmanager
def _gated(model: GPT2LMHeadModel, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the context what each head hands to the output projection is multiplied by its gate, (…, heads)."""
    layers = _attention(model)

    def multiplied(gate: Tensor, inputs: Tensor) -> Tensor:
        return (inputs.unflatten(-1, (gate.shape[-1], -1)) * gate.to(inputs)[..., None]).flatten(-2)

    with ExitStack() as hooks:
        for name, gate in gates.items():
            hook = layers[name].c_proj.register_forward_pre_hook(lambda _, inputs, g=gate: multiplied(g, *inputs))
            hooks.callback(hook.remove)
        yield


def _gate_gradients(model: GPT2LMHeadModel, blocks: Tensor) -> dict[str, Tensor]:
    heads = {name: layer.num_heads for name, layer in _attention(model).items()}
    scores = {name: torch.zeros(count, dtype=torch.float64) for name, count in heads.items()}
    for batch in batches_of(blocks):  # every block has gates of its own, so one backward pass tells them apart
        gates = {name: torch.ones(len(batch), 1, count, requires_grad=True) for name, count in heads.items()}
        with _gated(model, gates):
            loss = token_losses(model, batch).mean(1).sum()
        for name, gradient in zip(gates, torch.autograd.grad(loss, list(gates.values())), strict=True):
            scores[name] += gradient.double().abs().sum((0, 1)) / len(blocks)
    return scores
