"""Latency of models that are called in turn, so that disturbances of the machine affect all of them alike."""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch

from prunecast.errors import UserError
from prunecast.seeding import generator

WARM_UP = 3  # calls of each form before timing starts
STEPS = 100  # steps of the clock that a call must take, so that the clock's error is at most a hundredth of it


@torch.inference_mode()
def latency(calls: Mapping[str, Callable[[], object]], rounds: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Milliseconds of each call in every round.

    A round times each call once, in a shuffled order, so that a temporary disturbance affects all calls alike.

    Args:
        calls: What to time, by name.
        rounds: Number of rounds, at least 1.
        seed: Seed of the orders.

    Returns:
        Milliseconds (rounds,) by name.

    Raises:
        UserError: There are no rounds, or a call is too short for the clock.
    """
    if rounds < 1:
        raise UserError(f"rounds is {rounds}; it must be at least 1")
    shuffle, names = generator(seed, "latency"), list(calls)
    for name in names * WARM_UP:
        calls[name]()
    milliseconds = {name: np.empty(rounds) for name in names}
    for turn in range(rounds):
        for place in shuffle.permutation(len(names)):
            synchronise()
            start = time.perf_counter_ns()
            calls[names[place]]()
            synchronise()
            milliseconds[names[place]][turn] = (time.perf_counter_ns() - start) / 1e6
    step = _clock_step_ms()
    for name, times in milliseconds.items():
        if np.median(times) < STEPS * step:
            raise UserError(
                f"a call of {name} takes {np.median(times):.2g} ms, too short for a clock with steps of {step:.2g} ms; "
                f"take a larger batch so that it lasts at least {STEPS} steps"
            )
    return milliseconds


def synchronise(device: torch.device | None = None) -> None:
    """Wait until a GPU has finished its work; without a GPU in use nothing happens.

    Args:
        device: The GPU; None for the current one.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)


def _clock_step_ms() -> float:
    """The smallest step of the clock in milliseconds, among many readings one right after the other."""
    readings = [time.perf_counter_ns() for _ in range(10_000)]
    return min(b - a for a, b in pairwise(readings) if b > a) / 1e6
