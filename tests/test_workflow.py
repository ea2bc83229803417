"""What Snakemake runs again after an edit, tried on a copy of the project with the products of `make book`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from products import missing_book, missing_run
from prunecast import paths

pytestmark = [pytest.mark.pages, missing_run, missing_book]
LEFT_OUT = {".git", ".venv", "_build/source", "runs/campaign", "runs/page", ".mypy_cache"}


def _left_out(folder: str, names: list[str]) -> set[str]:
    inside = Path(folder).relative_to(paths.ROOT)
    weights = {name for name in names if name.endswith(".safetensors") and inside.parts[:1] == ("runs",)}
    return weights | {name for name in names if (inside / name).as_posix() in LEFT_OUT}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    house = tmp_path_factory.mktemp("workflow") / "house"
    shutil.copytree(paths.ROOT, house, ignore=_left_out, symlinks=True)
    return house


@pytest.fixture
def house(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "house", symlinks=True)
    return tmp_path / "house"


def _snakemake(house: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PRUNECAST_")}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", *arguments],
        cwd=house,
        env=settings | {"PYTHONPATH": str(house / "lib")},
        capture_output=True,
        text=True,
    )


def _planned(house: Path) -> set[str]:
    done = _snakemake(house, "studies/laptop.yml", "--dry-run", "--", "all", "book")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    return {line.split()[1].rstrip(":") for line in said.splitlines() if line.startswith(("rule ", "localrule "))} - {
        "all"
    }


def _edit(file: Path, old: str, new: str):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "planned"),
    [
        ("book/glossary.md", "Not pruned.", "Not pruned at all.", {"book"}),
        ("notebooks/surrogate.py", "ten others", "ten other surrogates", {"surrogate", "tables", "book"}),
        (
            "lib/prunecast/surrogates/lstm.py",
            "HIDDEN = 32",
            "HIDDEN = 16",
            {"protocols", "surrogate", "coverage", "explorer", "reproductions", "vgg16_transfer", "your_model", "book"},
        ),
        ("studies/laptop.yml", "splits: [points,", "splits: [vgg16,", {"protocols", "book"}),
        (
            "lib/prunecast/sweeps/sweeper.py",
            "Sweeps of one model",
            "Sweeps of a model",
            {
                "model",
                "collect_sweeps",
                "magnitude_pruning",
                "zero_cost_proxies",
                "protocols",
                "vgg16_transfer",
                "schedules",
                "energy",
                "pareto",
                "effective_number",
                "explorer",
                "your_model",
                "layer_sensitivity",
                "book",
            },
        ),
    ],
)
def test_an_edit_runs_what_it_touches_and_no_more(house, file, old, new, planned):
    assert _planned(house) == set()
    _edit(house / file, old, new)
    assert _planned(house) == planned


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("pages:", "page:", "page is unknown; known are study, purpose, threads, pages"),
        ("points: 101", "point: 101", "page collect_sweeps has no parameter 'point'; it has criteria, exact, measured"),
        ("sweeps_from: laptop", "sweeps_from: 3", "sweeps_from of page zero_cost_proxies must be of type str, not 3"),
    ],
)
def test_a_wrong_study_is_one_sentence_before_anything_runs(house, old, new, sentence):
    _edit(house / "studies" / "laptop.yml", old, new)
    done = _snakemake(house, "studies/laptop.yml")
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_page_that_fails_leaves_the_products_of_the_last_good_run(house):
    tables = house / "runs" / "laptop" / "tables"
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    _edit(house / "studies" / "laptop.yml", "sweeps_from: laptop", "sweeps_from: nowhere")
    done = _snakemake(house, "studies/laptop.yml")
    assert done.returncode != 0
    assert "there is no models.csv" in done.stdout + done.stderr
    assert {path.name: path.read_bytes() for path in tables.iterdir()} == before
    assert (house / "runs" / "laptop" / "notebooks" / "zero_cost_proxies.ipynb").exists()
