import os
import re
import subprocess
import sys

import jupytext
import nbformat
import pytest
from products import RUN, executed_pages, missing_run
from prunecast import paths, studies

pytestmark = pytest.mark.filterwarnings("ignore")
LONGEST_CELL, CELLS = 15, range(8, 21)


def _cells(page):
    return jupytext.read(paths.NOTEBOOKS / f"{page}.py").cells


@pytest.mark.parametrize("page", studies.pages())
def test_a_page_keeps_the_style_of_the_house(page):
    cells = _cells(page)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert cells[0].source.startswith("# ")
    assert len(cells) in CELLS
    assert max(len(cell.source.splitlines()) for cell in code) <= LONGEST_CELL
    assert not [cell for cell in code if re.search(r"^(def|class) ", cell.source, re.MULTILINE)]
    assert [tag for cell in code for tag in cell.metadata.get("tags", []) if tag != "hide-input"] == ["parameters"]
    headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert "## What this shows" in headings
    assert "## Exercises" in headings


@pytest.mark.parametrize("page", studies.pages())
def test_every_figure_has_a_caption_an_alternative_text_and_a_mention(page):
    cells = _cells(page)
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    drawing = [cell for cell in cells if "grid_of_panels" in cell.source or "draw_curves" in cell.source]
    assert drawing
    for cell in drawing:
        settings = cell.metadata["mystnb"]
        assert len(settings["figure"]["caption"]) > 20
        assert len(settings["image"]["alt"]) > 20
        assert f"{{numref}}`{settings['figure']['name']}`" in prose


@pytest.mark.parametrize("page", studies.pages())
def test_no_measured_number_is_typed_into_prose(page):
    """Digits in prose are axis definitions, exercises and what a term means; decimals must be glued."""
    prose = [cell.source for cell in _cells(page) if cell.cell_type == "markdown" and "## Exercises" not in cell.source]
    assert not re.findall(r"(?<![\w`])\d+\.\d+", re.sub(r"\{glue:text\}`[^`]*`", "", "\n".join(prose)))


@missing_run
@pytest.mark.parametrize("path", executed_pages(), ids=lambda path: path.stem)
def test_an_executed_page_is_clean(path):
    text = path.read_text()
    assert str(paths.ROOT) not in text
    for cell in nbformat.reads(text, 4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output


@missing_run
def test_executing_every_page_again_gives_the_same_outputs(tmp_path):
    """nbval measures every sweep anew in an empty runs folder, on the checkpoints of the first run."""
    models = tmp_path / "runs" / "laptop" / "models"
    for folder in (RUN / "models").iterdir():
        (models / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            if file.name != "curve.jsonl":
                (models / folder.name / file.name).symlink_to(file)
    cached = tmp_path / "runs" / ".cache"
    cached.symlink_to(RUN.parent / ".cache")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    done = subprocess.run(
        [*command, "--nbval-cell-timeout=900", *map(str, executed_pages())],
        env=os.environ | {"PRUNECAST_RUNS": str(tmp_path / "runs")},
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(list(models.glob("*/curve.jsonl"))) == len(list(models.iterdir()))
    for table in (RUN / "tables").iterdir():
        assert (tmp_path / "runs" / "laptop" / "tables" / table.name).read_bytes() == table.read_bytes()
