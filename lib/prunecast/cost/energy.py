"""Joules that some work takes, from the counter of a GPU or a processor, or estimated, or not measured at all.

Counters are read over long windows. NVML's power reading is no substitute: on an A100 or H100 it samples about a
quarter of the run time (Yang, Adamek and Armour, arXiv 2312.02741). Intel Power Gadget, once the way on Windows and
macOS, was withdrawn in October 2023; nothing replaces it here.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from prunecast.errors import UserError

Source = Literal["nvml", "rapl", "estimated", "not measured"]
POWERCAP = Path("/sys/class/powercap")
WINDOW_S = 1.0  # NVML's counter moves every 20 to 100 ms, RAPL's about every ms: at most a tenth is missed
JOULES_PER_KWH = 3.6e6


def _nothing() -> tuple[float, ...]:
    return ()


@dataclass(frozen=True)
class Meter:
    """Counters of joules that only grow: `read` gives them all, `ranges` the joules after which each starts anew.

    `note` says in sentences what is counted, and why a better source was refused.
    """

    source: Source
    note: str
    read: Callable[[], tuple[float, ...]] = _nothing
    ranges: tuple[float, ...] = ()
    device: torch.device = torch.device("cpu")

    def joules(self, work: Callable[[], object]) -> float | None:
        """Joules between a reading before and one after the work, which is done in any case; None if not measured.

        A counter may start anew once during the work, not twice.
        """
        self._finish()
        before = self.read()
        work()
        self._finish()
        spent = [b - a for a, b in zip(before, self.read(), strict=True)]
        if self.source == "not measured":
            return None
        return sum(one if one >= 0 else one + size for one, size in zip(spent, self.ranges, strict=True))

    def _finish(self) -> None:
        if self.device.type == "cuda" and torch.cuda.is_initialized():
            torch.cuda.synchronize(self.device)


def per_thousand(
    meter: Meter, once: Callable[[], object], inferences_per_call: int, window_s: float = WINDOW_S
) -> float | None:
    """Joules per 1,000 inferences, from calling `once` until `window_s` seconds are over, at least once.

    None if nothing is measured, or if the counter stood still all the while, as it does in some virtual machines.
    """
    if meter.source == "not measured":
        return None
    calls = 0

    def repeat() -> None:
        nonlocal calls
        end = time.monotonic() + window_s
        while calls == 0 or time.monotonic() < end:
            once()
            calls += 1

    joules = meter.joules(repeat)
    return 1000 * joules / (calls * inferences_per_call) if joules else None


@torch.inference_mode()
def repeated(meter: Meter, once: Callable[[], object], repeats: int, window_s: float = WINDOW_S) -> pd.DataFrame:
    """The same number of calls of `once`, and being idle as long, metered `repeats` times: rows of `meter`."""
    once()  # the first call may cost more than the others
    started = time.monotonic()
    once()
    calls = max(1, round(window_s / (time.monotonic() - started)))
    rows = []
    for repeat in range(repeats):
        started = time.monotonic()
        spent = meter.joules(lambda: _again(once, calls))
        seconds = time.monotonic() - started
        idle = meter.joules(partial(time.sleep, seconds))
        rows += [("inference", repeat, seconds, spent), ("idle", repeat, seconds, idle)]
    table = pd.DataFrame(rows, columns=["work", "repeat", "seconds", "joules"])
    return table.astype({"joules": float}).assign(energy_source=meter.source)


def _again(once: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        once()


def grams_of_co2(joules: float, grams_per_kwh: float) -> float:
    """Carbon dioxide of some joules in grams, on a grid of an intensity in grams a kilowatt-hour."""
    return joules / JOULES_PER_KWH * grams_per_kwh


def meter(device: torch.device, watts_per_core: float | None = None, powercap: Path = POWERCAP) -> Meter:
    """The best meter for work on `device`: NVML for a GPU, RAPL for a processor, else an estimate, else none.

    The estimate needs `watts_per_core`, the power of one busy core in watts, and is made for a processor only: it
    would leave out what a GPU takes. Raises UserError for a power that is not a positive number.
    """
    if watts_per_core is not None and not (math.isfinite(watts_per_core) and watts_per_core > 0):
        raise UserError(f"watts_per_core is {watts_per_core}; it must be a positive number of watts, such as 8")
    if device.type == "cuda":
        return _nvml(device)
    found = _rapl(powercap)
    if found.source != "not measured" or watts_per_core is None:
        return found
    said = f"{found.note} Estimated: CPU seconds of this process times {watts_per_core:g} W, a figure that was given."
    return Meter("estimated", said, partial(_busy_joules, watts_per_core), (math.inf,))


def _busy_joules(watts_per_core: float) -> tuple[float, ...]:
    return (time.process_time() * watts_per_core,)


def _nvml(device: torch.device) -> Meter:
    try:
        import pynvml
    except ImportError:
        return _refused("NVML cannot be asked: the distribution nvidia-ml-py is not installed.")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _refused(f"NVML is absent: {error}.")
    if not torch.cuda.is_available() or not pynvml.nvmlDeviceGetCount():
        return _refused("NVML is present, but no GPU that torch can use.")
    # torch counts the visible devices, NVML all of them: only the identifier means the same GPU to both
    identifier = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        read = partial(_nvml_joules, pynvml.nvmlDeviceGetHandleByUUID(identifier))
        read()
    except pynvml.NVMLError as error:
        return _refused(f"NVML gives no energy counter for this GPU or this part of one: {error}.")
    return Meter("nvml", "NVML counts the whole GPU, other processes included.", read, (math.inf,), device)


def _nvml_joules(handle: object) -> tuple[float, ...]:
    import pynvml

    return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,)  # from mJ


def _rapl(powercap: Path) -> Meter:
    try:
        zones = sorted(powercap.glob("intel-rapl:*"))
        packages = [zone for zone in zones if _text(zone / "name").startswith("package-")]
        if not packages:
            return _refused(f"RAPL is absent: {powercap} lists no processor package.")
        ranges = _microjoules([zone / "max_energy_range_uj" for zone in packages])
        read = partial(_microjoules, [zone / "energy_uj" for zone in packages])
        read()
    except PermissionError as error:
        return _refused(f"RAPL is present, but {error.filename} may be read by the administrator only.")
    except (OSError, ValueError) as error:
        return _refused(f"RAPL is present, but cannot be read: {error}.")
    return Meter("rapl", "RAPL counts the whole processor package, other processes included.", read, ranges)


def _microjoules(files: list[Path]) -> tuple[float, ...]:
    """The joules in some files of microjoules."""
    return tuple(int(_text(file)) / 1e6 for file in files)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _refused(why: str) -> Meter:
    return Meter("not measured", why)
