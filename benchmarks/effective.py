"""How fast is the effective number? Writes `data/measured/effective_speed`.

    python benchmarks/effective.py

On 10⁸ normally distributed scores the rule's mask and that of `torch.nn.utils.prune.global_unstructured`, which prunes
as many, take turns in processes of their own, and say by how much each raised the peak of memory. Then the rule alone,
on scores that are made as they are read, from 10⁶ to 10⁹ of them.
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
SHARE = 0.6366  # of the entries that the rule keeps of such scores
MEGABYTE = 2**10  # in the units of ru_maxrss


def rule(weight: Tensor) -> None:
    """The effective number and the mask."""
    effective_number.mask(weight.abs_())


def torch_prune(weight: Tensor) -> None:
    """As many by the common way, which is told how many."""
    layer = nn.Module()
    layer.weight = nn.Parameter(weight)
    prune.global_unstructured(
        [(layer, "weight")], pruning_method=prune.L1Unstructured, amount=round((1 - SHARE) * weight.numel())
    )


def alone(way: str) -> tuple[float, float]:
    """Seconds of one call, and megabytes by which it raised the peak of memory."""
    weight = torch.randn(COMPARED, generator=torch.Generator().manual_seed(0))
    before, started = _peak(), time.perf_counter()
    {"effective number": rule, "global_unstructured": torch_prune}[way](weight)
    return time.perf_counter() - started, _peak() - before


def streamed(entries: int) -> tuple[float, float]:
    """The same of the rule on scores made as they are read, less the time that making them takes."""
    making = 0.0

    def parts() -> Iterator[Tensor]:
        nonlocal making
        generator = torch.Generator().manual_seed(0)
        for _ in range(entries // PART):
            began = time.perf_counter()
            part = torch.rand(PART, generator=generator)
            making += time.perf_counter() - began
            yield part

    before, started = _peak(), time.perf_counter()
    effective_number.effective(parts)
    return time.perf_counter() - started - making, _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE


def main() -> None:
    """Measure, keep and print."""
    torch.set_num_threads(1)
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for turn in range(TURNS):
            for way in ("effective number", "global_unstructured"):
                rows.append(("mask", way, COMPARED, turn, *pool.apply(alone, (way,))))
            rows += [("streamed", "effective number", size, turn, *pool.apply(streamed, (size,))) for size in STREAMED]
    found = pd.DataFrame(rows, columns=["task", "way", "entries", "turn", "seconds", "extra_mb"])
    folder = paths.MEASURED / "effective_speed"
    tables.write("effective_speed", found.round({"seconds": 4, "extra_mb": 1}), folder)
    provenance.write(folder, {"command": "python benchmarks/effective.py", "models": {}})
    print(found.groupby(["task", "way", "entries"])[["seconds", "extra_mb"]].median())


if __name__ == "__main__":
    main()
