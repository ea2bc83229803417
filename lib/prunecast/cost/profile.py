"""Costs of the forms of a model: parameters, bytes, floating-point operations, milliseconds and joules."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from prunecast.cost import energy
from prunecast.cost.flops import flops, size
from prunecast.cost.latency import latency
from prunecast.models.inputs import Examples, batch_of, device_of
from prunecast.progress import track

TURNS = 3  # windows of energy of each form


def costs(
    forms: Mapping[str, nn.Module],
    inputs: Mapping[int, dict[str, Tensor]],
    rounds: int,
    meter: energy.Meter,
    device: str,
    window_s: float = energy.WINDOW_S,
    seed: int = 0,
) -> pd.DataFrame:
    """Costs of some forms of a model, measured in turn.

    Args:
        forms: Models in evaluation mode, by the name of the form.
        inputs: One batch for each batch size, by the names of the models' arguments.
        rounds: Number of timed calls of each form.
        meter: The meter of energy.
        device: Name of what the models run on.
        window_s: Length of a window of energy in seconds.
        seed: Seed of the orders in which the forms are timed.

    Returns:
        A row per form and batch size: its `size`, operations of one inference, percentiles of the milliseconds of one
        call, and joules of 1,000 inferences, which are empty if not measured.

    Raises:
        UserError: There are no rounds, or a call is too short for the clock.
    """
    rows = []
    for batch, batch_inputs in track(list(inputs.items()), "costs"):
        placed = {form: _placed(batch_inputs, device_of(model)) for form, model in forms.items()}
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
    """Joules of 1,000 inferences of each form: the median of `TURNS` windows, which the forms take in turn."""
    turns = [
        {form: energy.per_thousand(meter, call, batch, window_s) for form, call in calls.items()} for _ in range(TURNS)
    ]
    return pd.DataFrame(turns, dtype=float).median().to_dict()


def inputs_of(examples: Examples, batch: int, device: torch.device | None = None) -> dict[str, Tensor]:
    """Inputs of a model for a number of examples: the texts closest to the median length, or the first images.

    Args:
        examples: The examples; they are repeated where there are fewer than `batch`.
        batch: Number of examples.
        device: Where the inputs are put; None for the processor.

    Returns:
        Inputs (batch, …) by the names of the model's arguments; texts are padded at the end.
    """
    rows = torch.arange(batch) % len(examples)
    if examples.lengths is not None:
        rows = (examples.lengths - examples.lengths.median()).abs().argsort(stable=True)[rows]
    return batch_of(examples, rows, device)


def _placed(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}
