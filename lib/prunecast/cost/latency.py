"""Latency of models called in turn, so that none has a quieter machine than the others."""

import time
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch

from prunecast.errors import UserError
from prunecast.seeding import seed_everything

WARM_UP = 3  # calls of each form before the clock is looked at
STEPS = 100  # steps of the clock that a call must take, so that the clock adds at most a hundredth to it


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


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _clock_step_ms() -> float:
    """The smallest step of the clock in milliseconds, among many readings one right after the other."""
    readings = [time.perf_counter_ns() for _ in range(10_000)]
    return min(b - a for a, b in pairwise(readings) if b > a) / 1e6
