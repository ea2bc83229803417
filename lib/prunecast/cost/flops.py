"""Operations, parameters and bytes of a model, dense and effective."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def size(model: nn.Module) -> dict[str, int]:
    """How many `parameters` and `parameters_nonzero`, and the `size_bytes` of a safetensors file of the state.

    Tied parameters count once. A sparse weight has as many parameters as its dense form; in the file it is its values
    and its indices.
    """
    sparse = [module for module in model.modules() if _sparse_weight(module) is not None]
    buffers = (named for module in sparse for named in module.named_buffers(recurse=False))
    held = (tensor for name, tensor in buffers if name in ("weight", "bias"))
    parameters = {id(tensor): tensor for tensor in chain(model.parameters(), held)}.values()
    state = {id(tensor): (name, tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    file = dict(part for name, tensor in state.values() for part in _dense_parts(name, tensor.detach()))
    return {
        "parameters": sum(tensor.numel() for tensor in parameters),
        "parameters_nonzero": sum(_nonzero(tensor) for tensor in parameters),
        "size_bytes": len(safetensors.torch.save(file)),
    }


def flops(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[int, int]:
    """Floating-point operations of one forward pass, two per multiply-add: dense, and effective.

    Effective operations are those with the weights of linear and convolution layers that are not zero; products without
    weights, as in attention, count in full. Biases, norms and activations count nothing.
    """
    dense = effective = inside = 0  # the last one: what torch itself counts within the layers, sparse ones included

    def enter(layer: nn.Module, _: Any) -> None:
        nonlocal inside
        inside -= counter.get_total_flops()

    def leave(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal dense, effective, inside
        inside += counter.get_total_flops()
        weight: Any = layer.weight
        uses = 2 * _positions(layer, given, output)
        dense += uses * weight.numel()
        effective += uses * _nonzero(weight)

    layers = [module for module in model.modules() if _is_layer(module)]
    hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
    hooks += [layer.register_forward_hook(leave) for layer in layers]
    try:
        with torch.no_grad(), _unfused(), FlopCounterMode(display=False) as counter:
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    rest = counter.get_total_flops() - inside
    return dense + rest, effective + rest


def _is_layer(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    kinds = (nn.Linear, Conv1D, nn.modules.conv._ConvNd)
    return isinstance(module, kinds) or _sparse_weight(module) is not None


def _sparse_weight(module: nn.Module) -> Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, Tensor) and weight.layout != torch.strided else None


def _positions(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> int:
    """How often each weight of a layer is used: tokens of a linear layer, pixels of a convolution."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return given[0].numel() // layer.in_channels
    weight: Any = layer.weight
    return output.numel() // getattr(layer, "nf", weight.shape[0])  # nf: GPT-2's layer, whose weight lies transposed


def _nonzero(tensor: Tensor) -> int:
    return int((tensor if tensor.layout == torch.strided else tensor.values()).count_nonzero())


def _dense_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensor as a file of dense ones holds it."""
    if tensor.layout == torch.strided:
        yield name, tensor.contiguous()
    else:
        yield f"{name}.values", tensor.values().contiguous()
        yield f"{name}.crow_indices", tensor.crow_indices()
        yield f"{name}.col_indices", tensor.col_indices()


@contextmanager
def _unfused() -> Iterator[None]:
    """Inside the context attention is made of products that torch can count."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
