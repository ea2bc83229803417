"""The machine: names of processor and GPU, and worker processes that use no more cores than one process would."""

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from joblib import Parallel, delayed, parallel_config

from prunecast.progress import track

if TYPE_CHECKING:
    import torch

POLL_S = 1.0  # between two checks of a worker that its parent is alive

Result = TypeVar("Result")


def device_name(device: "torch.device") -> str:
    """Name of the processor or GPU."""
    import torch  # here, because the name of the processor takes none

    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """Name of the processor, as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def in_processes(function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], label: str) -> list[Result]:
    """Results of `function` for each of the jobs, computed in worker processes of one thread each.

    There are as many workers as this process may use threads, so that together they use no more cores than it would
    alone, whatever `OMP_NUM_THREADS` says. A worker whose parent has died ends within a second or so.

    Args:
        function: Importable by its module and name.
        jobs: Positional arguments of each call.
        label: Of the progress bar.

    Returns:
        One result for each job, in the order of the jobs.
    """
    calls = (delayed(_call)(function, os.getpid(), job) for job in track(jobs, label))
    import torch

    with parallel_config("loky", n_jobs=torch.get_num_threads(), inner_max_num_threads=1):
        return list(Parallel()(calls))


def _call(function: Callable[..., Result], parent: int, job: tuple[Any, ...]) -> Result:
    if os.getpid() != parent and not any(thread.name == _end_with.__name__ for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(parent,), name=_end_with.__name__, daemon=True).start()
    return function(*job)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)
