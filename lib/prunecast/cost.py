"""What the forms of a model cost: parameters, bytes, floating-point operations, milliseconds and joules."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prunecast import energy
from prunecast.errors import UserError
from prunecast.evaluation import Examples, batch_of
from prunecast.progress import track
from prunecast.seeds import seed_everything

TURNS = 3  # windows of energy of each form
WARM_UP = 3  # calls of each form before the clock is looked at
STEPS = 100  # steps of the clock that a call must take, so that the clock adds at most a hundredth to it


def costs(
    forms: Mapping[str, nn.Module],
    inputs: Mapping[int, dict[str, Tensor]],
    rounds: int,
    meter: energy.Meter,
    device: str,
    window_s: float = energy.WINDOW_S,
    seed: int = 0,
) -> pd.DataFrame:
    """A row per form and batch size of `inputs`: operations of one inference, milliseconds of one call, joules of 1,000
    inferences (empty if not measured). The forms are in evaluation mode; `device` is the name of what they run on."""
    rows = []
    for batch, batch_inputs in track(list(inputs.items()), "costs"):
        placed = {form: _placed(batch_inputs, _device(model)) for form, model in forms.items()}
        calls = {form: partial(model, **placed[form]) for form, model in forms.items()}
        times = latency(calls, rounds, seed)
        joules = _joules(calls, batch, meter, window_s)
        for form, model in forms.items():
            dense, effective = flops(model, placed[form])
            low, median, high = np.percentile(times[form], [10, 50, 90])
            rows.append(
                {"form": form}
                | size(model)
                | {"flops_dense": round(dense / batch), "flops_effective": round(effective / batch), "batch": batch}
                | {"latency_ms_p10": low, "latency_ms_median": median, "latency_ms_p90": high}
                | {"energy_j": joules[form], "energy_source": meter.source, "device": device, "rounds": rounds}
            )
    return pd.DataFrame(rows).astype({"energy_j": float})


@torch.inference_mode()
def _joules(
    calls: Mapping[str, Callable[[], object]], batch: int, meter: energy.Meter, window_s: float
) -> dict[Any, float]:
    """Joules of 1,000 inferences of each form: the median of some windows, which the forms take in turn."""
    turns = [
        {form: energy.per_thousand(meter, call, batch, window_s) for form, call in calls.items()} for _ in range(TURNS)
    ]
    return pd.DataFrame(turns, dtype=float).median().to_dict()


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


@torch.inference_mode()
def latency(calls: Mapping[str, Callable[[], object]], rounds: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Milliseconds (rounds,) of each call: every round times each once, in an order shuffled from `seed`.

    What disturbs the machine for a while thus meets all calls alike. Raises UserError for a call too short to time.
    """
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; it must be at least 1")
    shuffle, names = seed_everything(seed, "latency"), list(calls)
    for name in names * WARM_UP:
        calls[name]()
    taken = {name: np.empty(rounds) for name in names}
    for turn in range(rounds):
        for place in shuffle.permutation(len(names)):
            _synchronise()
            start = time.perf_counter_ns()
            calls[names[place]]()
            _synchronise()
            taken[names[place]][turn] = (time.perf_counter_ns() - start) / 1e6
    step = _clock_step_ms()
    for name, times in taken.items():
        if np.median(times) < STEPS * step:
            raise UserError(
                f"a call of {name} takes {np.median(times):.2g} ms, too short for a clock with steps of {step:.2g} ms; "
                f"take a larger batch so that it lasts at least {STEPS} steps"
            )
    return taken


def inputs_of(examples: Examples, batch: int) -> dict[str, Tensor]:
    """Inputs of a model for `batch` examples: texts as close to the median length as there are, padded at the end.

    Where there are fewer examples, they are repeated.
    """
    rows = torch.arange(batch) % len(examples)
    if examples.lengths is not None:
        rows = (examples.lengths - examples.lengths.median()).abs().argsort(stable=True)[rows]
    return batch_of(examples, rows)


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


def _device(model: nn.Module) -> torch.device:
    return next(chain(model.parameters(), model.buffers())).device


def _placed(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _clock_step_ms() -> float:
    """The smallest step of the clock in milliseconds, among many readings one right after the other."""
    readings = [time.perf_counter_ns() for _ in range(10_000)]
    return min(b - a for a, b in pairwise(readings) if b > a) / 1e6
