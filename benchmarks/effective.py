"""How fast is the effective number, and how much memory does it take? Writes `data/measured/effective_speed`.

    python benchmarks/effective.py

On 10⁸ normally distributed scores the rule's mask and that of `torch.nn.utils.prune.global_unstructured`, which prunes
as many, take turns, each in a process of its own whose growth of peak memory is recorded. Then the rule is timed alone,
on 10⁶ to 10⁹ scores that are generated as they are read.
"""

import multiprocessing
import resource
import time
from collections.abc import Iterator

import pandas as pd
import torch
from prunecast import paths, tables
from prunecast.pruning import effective_number
from prunecast.workflow import provenance
from torch import Tensor, nn
from torch.nn.utils import prune

COMPARED = 10**8
STREAMED = (10**6, 10**7, 10**8, 10**9)
PART = 10**6
TURNS = 3
SHARE = 0.6366  # of the entries of normally distributed scores that the rule retains
MEGABYTE = 2**10  # in the units of ru_maxrss


def rule(weight: Tensor) -> None:
    """Compute the effective number and the mask of the absolute values of a tensor, in place."""
    effective_number.mask(weight.abs_())


def torch_prune(weight: Tensor) -> None:
    """Prune as many entries of a tensor by `torch.nn.utils.prune`, given their number."""
    layer = nn.Module()
    layer.weight = nn.Parameter(weight)
    prune.global_unstructured(
        [(layer, "weight")], pruning_method=prune.L1Unstructured, amount=round((1 - SHARE) * weight.numel())
    )


def mask_cost(way: str) -> tuple[float, float]:
    """Cost of one mask of `COMPARED` scores.

    Args:
        way: `effective number` or `global_unstructured`.

    Returns:
        Seconds, and megabytes by which the peak of memory rose.
    """
    weight = torch.randn(COMPARED, generator=torch.Generator().manual_seed(0))
    before, started = _peak(), time.perf_counter()
    {"effective number": rule, "global_unstructured": torch_prune}[way](weight)
    return time.perf_counter() - started, _peak() - before


def streamed_cost(entries: int) -> tuple[float, float]:
    """Cost of the rule on scores that are generated as they are read.

    Args:
        entries: Number of scores.

    Returns:
        Seconds without the generation of the scores, and megabytes by which the peak of memory rose.
    """
    generation = 0.0

    def parts() -> Iterator[Tensor]:
        nonlocal generation
        generator = torch.Generator().manual_seed(0)
        for _ in range(entries // PART):
            began = time.perf_counter()
            part = torch.rand(PART, generator=generator)
            generation += time.perf_counter() - began
            yield part

    before, started = _peak(), time.perf_counter()
    effective_number.effective(parts)
    return time.perf_counter() - started - generation, _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE


def main() -> None:
    """Measure, write the table with its provenance, and print medians."""
    torch.set_num_threads(1)
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for turn in range(TURNS):
            ways = ("effective number", "global_unstructured")
            rows += [("mask", way, COMPARED, turn, *pool.apply(mask_cost, (way,))) for way in ways]
            rows += [
                ("streamed", "effective number", size, turn, *pool.apply(streamed_cost, (size,))) for size in STREAMED
            ]
    costs = pd.DataFrame(rows, columns=["task", "way", "entries", "turn", "seconds", "extra_mb"])
    folder = paths.MEASURED / "effective_speed"
    tables.write("effective_speed", costs.round({"seconds": 4, "extra_mb": 1}), folder)
    provenance.write(folder, {"command": "python benchmarks/effective.py", "models": {}})
    print(costs.groupby(["task", "way", "entries"])[["seconds", "extra_mb"]].median())


if __name__ == "__main__":
    main()
