"""Joules that some work takes, from the counter of a GPU or a processor, or estimated, or not measured at all.

Counters are read over long windows. NVML's power reading is no substitute: on an A100 or H100 it samples about a
quarter of the run time (Yang, Adamek and Armour, 2023, "Part-time Power Measurements: nvidia-smi's Lack of Attention",
arXiv 2312.02741). Intel Power Gadget, which read the counter on Windows and macOS, was withdrawn in October 2023;
nothing replaces it here.
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

from prunecast.cost.latency import synchronise
from prunecast.errors import UserError

Source = Literal["nvml", "rapl", "estimated", "not measured"]
CPU = torch.device("cpu")
POWERCAP = Path("/sys/class/powercap")
WINDOW_S = 1.0  # NVML's counter moves every 20 to 100 ms, RAPL's about every ms: at most a tenth is missed
JOULES_PER_KWH = 3.6e6


def _nothing() -> tuple[float, ...]:
    return ()


@dataclass(frozen=True)
class Meter:
    """Counters of joules that only grow.

    Attributes:
        source: Where the joules come from, as the tables name it.
        note: What is counted, and why a better source could not be used, in sentences.
        read: Reads all counters, in joules.
        ranges: Joules after which each counter wraps around to zero.
        device: The device whose work is measured.
    """

    source: Source
    note: str
    read: Callable[[], tuple[float, ...]] = _nothing
    ranges: tuple[float, ...] = ()
    device: torch.device = CPU

    def joules(self, work: Callable[[], object]) -> float | None:
        """Joules between a reading before some work and one after it.

        Args:
            work: Called once, measured or not; each counter may wrap around once meanwhile, not twice.

        Returns:
            Joules summed over the counters; None if not measured.
        """
        self._finish()
        before = self.read()
        work()
        self._finish()
        differences = [b - a for a, b in zip(before, self.read(), strict=True)]
        if self.source == "not measured":
            return None
        return sum(
            joules if joules >= 0 else joules + size for joules, size in zip(differences, self.ranges, strict=True)
        )

    def _finish(self) -> None:
        if self.device.type == "cuda":
            synchronise(self.device)


def per_thousand(
    meter: Meter, once: Callable[[], object], inferences_per_call: int, window_s: float = WINDOW_S
) -> float | None:
    """Joules per 1,000 inferences.

    Args:
        meter: The meter.
        once: The call to measure, repeated until the window is over, at least once.
        inferences_per_call: Inferences of one call, such as its batch size.
        window_s: Length of the window in seconds.

    Returns:
        Joules; None if nothing is measured, or if the counter never moved, as in some virtual machines.
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
    """Repeated measurements of the same number of calls, each beside an idle time of the same length.

    Args:
        meter: The meter.
        once: The call to measure.
        repeats: Number of measurements.
        window_s: Approximate length of one measurement in seconds.

    Returns:
        Rows of the table `meter`: `work` (inference or idle), `repeat`, `seconds`, `joules` and `energy_source`.
    """
    once()  # the first call may cost more than the others
    started = time.monotonic()
    once()
    calls = max(1, round(window_s / (time.monotonic() - started)))
    rows = []
    for repeat in range(repeats):
        started = time.monotonic()
        busy = meter.joules(lambda: _repeat(once, calls))
        seconds = time.monotonic() - started
        idle = meter.joules(partial(time.sleep, seconds))
        rows += [("inference", repeat, seconds, busy), ("idle", repeat, seconds, idle)]
    table = pd.DataFrame(rows, columns=["work", "repeat", "seconds", "joules"])
    return table.astype({"joules": float}).assign(energy_source=meter.source)


def _repeat(once: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        once()


def grams_of_co2(joules: float, grams_per_kwh: float) -> float:
    """Carbon dioxide of some electric energy, in grams.

    Args:
        joules: The energy.
        grams_per_kwh: Carbon intensity of the grid in grams a kilowatt-hour.

    Returns:
        Grams of carbon dioxide.
    """
    return joules / JOULES_PER_KWH * grams_per_kwh


def meter(device: torch.device, watts_per_core: float | None = None, powercap: Path = POWERCAP) -> Meter:
    """The best meter for work on a device: NVML for a GPU, RAPL for a processor, else an estimate, else none.

    Args:
        device: The device that the work is done on.
        watts_per_core: Power of one busy core in watts, for the estimate; None for no estimate. It is used for a
            processor only, because it would leave out what a GPU takes.
        powercap: Folder where the kernel lists the counters of RAPL.

    Returns:
        The meter, whose source is `not measured` if there is none.

    Raises:
        UserError: The power is not a positive number.
    """
    if watts_per_core is not None and not (math.isfinite(watts_per_core) and watts_per_core > 0):
        raise UserError(f"watts_per_core is {watts_per_core}; it must be a positive number of watts, such as 8")
    if device.type == "cuda":
        return _nvml(device)
    rapl = _rapl(powercap)
    if rapl.source != "not measured" or watts_per_core is None:
        return rapl
    note = f"{rapl.note} Estimated: CPU seconds of this process times {watts_per_core:g} W, a power set as a parameter."
    return Meter("estimated", note, partial(_busy_joules, watts_per_core), (math.inf,))


def _busy_joules(watts_per_core: float) -> tuple[float, ...]:
    return (time.process_time() * watts_per_core,)


def _nvml(device: torch.device) -> Meter:
    try:
        import pynvml
    except ImportError:
        return _unmeasured("NVML cannot be read: the distribution nvidia-ml-py is not installed.")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _unmeasured(f"NVML is absent: {error}.")
    if not torch.cuda.is_available() or not pynvml.nvmlDeviceGetCount():
        return _unmeasured("NVML is present, but no GPU that torch can use.")
    # torch numbers the visible devices, NVML all of them: only the identifier denotes the same GPU in both
    identifier = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        read = partial(_nvml_joules, pynvml.nvmlDeviceGetHandleByUUID(identifier))
        read()
    except pynvml.NVMLError as error:
        return _unmeasured(f"NVML gives no energy counter for this GPU or this part of one: {error}.")
    return Meter("nvml", "NVML counts the whole GPU, other processes included.", read, (math.inf,), device)


def _nvml_joules(handle: object) -> tuple[float, ...]:
    import pynvml

    return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,)  # from mJ


def _rapl(powercap: Path) -> Meter:
    try:
        zones = sorted(powercap.glob("intel-rapl:*"))
        packages = [zone for zone in zones if _text(zone / "name").startswith("package-")]
        if not packages:
            return _unmeasured(f"RAPL is absent: {powercap} lists no processor package.")
        ranges = _microjoules([zone / "max_energy_range_uj" for zone in packages])
        read = partial(_microjoules, [zone / "energy_uj" for zone in packages])
        read()
    except PermissionError as error:
        return _unmeasured(f"RAPL is present, but {error.filename} may be read by the administrator only.")
    except (OSError, ValueError) as error:
        return _unmeasured(f"RAPL is present, but cannot be read: {error}.")
    return Meter("rapl", "RAPL counts the whole processor package, other processes included.", read, ranges)


def _microjoules(files: list[Path]) -> tuple[float, ...]:
    """The joules in some files of microjoules."""
    return tuple(int(_text(file)) / 1e6 for file in files)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


def _unmeasured(reason: str) -> Meter:
    return Meter("not measured", reason)
