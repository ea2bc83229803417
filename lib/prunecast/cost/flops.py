"""Floating-point operations, parameters and bytes of a model, dense and effective."""

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
    """Numbers of parameters, and bytes of a safetensors file of the model's state.

    Tied parameters count once. A sparse weight has as many parameters as its dense form; the file contains its values
    and its indices.

    Args:
        model: The model, whose layers may be sparse.

    Returns:
        `parameters`, `parameters_nonzero` and `size_bytes`.
    """
    sparse = [module for module in model.modules() if _sparse_weight(module) is not None]
    buffers = (named for module in sparse for named in module.named_buffers(recurse=False))
    in_buffers = (tensor for name, tensor in buffers if name in ("weight", "bias"))
    parameters = {id(tensor): tensor for tensor in chain(model.parameters(), in_buffers)}.values()
    state = {id(tensor): (name, tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    file = dict(part for name, tensor in state.values() for part in _dense_parts(name, tensor.detach()))
    return {
        "parameters": sum(tensor.numel() for tensor in parameters),
        "parameters_nonzero": sum(_nonzero(tensor) for tensor in parameters),
        "size_bytes": len(safetensors.torch.save(file)),
    }


def flops(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[int, int]:
    """Floating-point operations of one forward pass, two per multiply-add: dense, and effective.

    Effective operations are those with nonzero weights of linear and convolution layers; products without weights, as
    in attention, count in full. Biases, norms and activations are not counted.

    Args:
        model: The model, whose layers may be masked or sparse; it is left unchanged.
        inputs: One batch, by the names of the model's arguments.

    Returns:
        Dense and effective operations for the whole batch.
    """
    dense = effective = inside = 0  # the last one: what torch itself counts within the layers, sparse ones included

    def enter(_layer: nn.Module, _: Any) -> None:
        nonlocal inside
        inside -= counter.get_total_flops()

    def leave(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal dense, effective, inside
        inside += counter.get_total_flops()
        weight: Any = layer.weight
        uses = 2 * _positions(layer, arguments, output)
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


def _positions(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> int:
    """How often each weight of a layer is used: tokens of a linear layer, pixels of a convolution."""
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return arguments[0].numel() // layer.in_channels
    weight: Any = layer.weight
    outputs: int = getattr(layer, "nf", weight.shape[0])  # nf: GPT-2's layer, whose weight is stored transposed
    return output.numel() // outputs


def _nonzero(tensor: Tensor) -> int:
    return int((tensor if tensor.layout == torch.strided else tensor.values()).count_nonzero())


def _dense_parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The dense tensors, by name, that a file stores for a tensor."""
    if tensor.layout == torch.strided:
        yield name, tensor.contiguous()
    else:
        yield f"{name}.values", tensor.values().contiguous()
        yield f"{name}.crow_indices", tensor.crow_indices()
        yield f"{name}.col_indices", tensor.col_indices()


@contextmanager
def _unfused() -> Iterator[None]:
    """Inside the context attention is computed by products that torch can count."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
