import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from prunecast.cost import energy
from prunecast.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
RANGE = 262_143_328_850  # µJ, of a real processor


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """The counters of a machine with two packages, a core inside the first, and a counter of the whole platform."""
    folder = tmp_path / "powercap"
    for zone, name in (("0", "package-0"), ("0:0", "core"), ("1", "package-1"), ("2", "psys")):
        _zone(folder, zone, name)
    return folder


def _zone(folder: Path, zone: str, name: str) -> None:
    place = folder / f"intel-rapl:{zone}"
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{RANGE}\n")
    _set(folder, zone, 1_000_000)


def _set(folder: Path, zone: str, microjoules: int) -> None:
    (folder / f"intel-rapl:{zone}" / "energy_uj").write_text(f"{microjoules}\n")


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_rapl_sums_the_packages_and_nothing_inside_or_around_them(powercap: Path) -> None:
    def work() -> None:
        for zone, microjoules in (("0", 4_000_000), ("0:0", 9_000_000), ("1", 1_500_000), ("2", 9_000_000)):
            _set(powercap, zone, microjoules)

    meter = energy.meter(CPU, powercap=powercap)
    assert meter.source == "rapl"
    assert meter.joules(work) == pytest.approx(3.5)


def test_a_counter_that_wraps_around_between_the_readings_is_continued_its_package_alone(powercap: Path) -> None:
    _set(powercap, "0", RANGE - 2_000_000)
    meter = energy.meter(CPU, powercap=powercap)

    def work() -> None:
        _set(powercap, "0", 500_000)
        _set(powercap, "1", 1_250_000)

    assert meter.joules(work) == pytest.approx(2.75)


def test_joules_per_thousand_inferences_do_not_depend_on_how_many_fit_in_the_window(powercap: Path) -> None:
    meter, count = energy.meter(CPU, powercap=powercap), iter(range(1, 10**9))

    def once() -> None:
        _set(powercap, "1", 1_000_000 + 20_000 * next(count))

    assert energy.per_thousand(meter, once, 4, window_s=0) == pytest.approx(5)
    assert energy.per_thousand(meter, once, 4, window_s=0.05) == pytest.approx(5)
    assert next(count) > 3


def test_a_counter_that_never_moves_gives_no_energy_rather_than_zero(powercap: Path) -> None:
    assert energy.per_thousand(energy.meter(CPU, powercap=powercap), int, 1, window_s=0.01) is None


def test_a_counter_for_the_administrator_only_is_noted_as_one(powercap: Path) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user reads every file, whatever its permissions")
    meter = energy.meter(CPU, powercap=powercap)
    assert (meter.source, meter.joules(int)) == ("not measured", None)
    assert "administrator" in meter.note


@pytest.mark.parametrize("broken", ["folder", "text"])
def test_a_counter_that_cannot_be_read_is_noted_as_one(powercap: Path, broken: str) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.unlink()
    if broken == "folder":
        file.mkdir()
    else:
        file.write_text("none\n")
    meter = energy.meter(CPU, powercap=powercap)
    assert (meter.source, meter.joules(int)) == ("not measured", None)
    assert meter.note.startswith("RAPL is present, but cannot be read: ")


def test_without_a_counter_or_a_power_nothing_is_measured_but_the_work_is_done(tmp_path: Path) -> None:
    meter = energy.meter(CPU, powercap=tmp_path / "none")
    done: list[int] = []
    assert meter.source == "not measured"
    assert meter.note == f"RAPL is absent: {tmp_path / 'none'} lists no processor package."
    assert meter.joules(partial(done.append, 1)) is None
    assert done == [1]
    assert energy.per_thousand(meter, partial(done.append, 2), 1) is None
    assert done == [1]


def test_the_estimate_is_in_proportion_to_busy_seconds_and_sleeping_costs_nothing(tmp_path: Path) -> None:
    meter = energy.meter(CPU, 10, powercap=tmp_path)
    assert meter.source == "estimated"
    assert "RAPL is absent" in meter.note
    assert "10 W" in meter.note
    assert meter.joules(partial(_busy, 0.1)) == pytest.approx(1, rel=0.1)
    assert meter.joules(partial(_busy, 0.2)) == pytest.approx(2, rel=0.1)
    assert meter.joules(partial(time.sleep, 0.2)) == pytest.approx(0, abs=0.2)
    assert energy.meter(CPU, 20, powercap=tmp_path).joules(partial(_busy, 0.1)) == pytest.approx(2, rel=0.1)


def test_the_estimate_per_thousand_inferences_counts_the_calls_of_the_window(tmp_path: Path) -> None:
    meter = energy.meter(CPU, 10, powercap=tmp_path)
    assert energy.per_thousand(meter, partial(_busy, 0.02), 2, window_s=0.1) == pytest.approx(100, rel=0.1)


def test_a_counter_is_preferred_to_the_estimate(powercap: Path) -> None:
    assert energy.meter(CPU, 10, powercap=powercap).source == "rapl"


@pytest.mark.parametrize("watts", [0, -1.5, float("nan"), float("inf")])
def test_a_power_that_is_not_a_positive_number_is_refused_in_one_sentence(powercap: Path, watts: float) -> None:
    with pytest.raises(UserError, match=r"^watts_per_core is \S+; it must be a positive number of watts, such as 8$"):
        energy.meter(CPU, watts, powercap=powercap)


def test_the_processor_is_not_taken_for_a_gpu_that_has_no_counter(powercap: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    meter = energy.meter(GPU, 10, powercap=powercap)
    assert meter.source == "not measured"
    assert meter.note.startswith("NVML ")


def test_nvml_counts_the_joules_of_a_gpu_that_works() -> None:
    pynvml: Any = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        pytest.skip(f"NVML does not start here: {error}")
    if not torch.cuda.is_available():
        pytest.skip("torch has no GPU here")
    meter = energy.meter(GPU)
    if meter.source != "nvml":
        assert meter.note
        pytest.skip(meter.note)
    matrix = torch.ones(2048, 2048, device=GPU)
    joules = energy.per_thousand(meter, lambda: matrix @ matrix, 1, window_s=1)
    assert joules is not None
    assert joules > 0
