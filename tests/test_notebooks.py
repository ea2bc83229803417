import re
import shutil

import jupytext
import nbformat
import pytest
import reproduce
from nbclient import NotebookClient
from products import RUN, executed_pages, missing_run
from prunecast import paths
from prunecast.workflow import pages

pytestmark = pytest.mark.filterwarnings("ignore")
LONGEST_CELL, CELLS = 15, range(8, 21)
ANEW = "docstrings_bert"


def _cells(page):
    return jupytext.read(paths.NOTEBOOKS / f"{page}.py").cells


@pytest.mark.parametrize("page", pages.pages())
def test_a_page_keeps_the_style_of_the_house(page):
    cells = _cells(page)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert cells[0].source.startswith("# ")
    assert len(cells) in CELLS
    assert max(len(cell.source.splitlines()) for cell in code) <= LONGEST_CELL
    assert not [cell for cell in code if re.search(r"^(def|class) ", cell.source, re.MULTILINE)]
    harmless = {"hide-input", "nbval-ignore-output"}
    assert [tag for cell in code for tag in cell.metadata.get("tags", []) if tag not in harmless] == ["parameters"]
    headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    assert "## What this shows" in headings
    assert "## Exercises" in headings


@pytest.mark.parametrize("page", pages.pages())
def test_every_figure_has_a_caption_an_alternative_text_and_a_mention(page):
    cells = _cells(page)
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    drawing = [cell for cell in cells if re.search(r"draw_\w+\(|style\.finish\(", cell.source)]
    assert drawing
    for cell in drawing:
        settings = cell.metadata["mystnb"]
        assert len(settings["figure"]["caption"]) > 20
        assert len(settings["image"]["alt"]) > 20
        assert f"{{numref}}`{settings['figure']['name']}`" in prose


@pytest.mark.parametrize("page", pages.pages())
def test_no_measured_number_is_typed_into_prose(page):
    """Digits in prose are axis definitions, exercises and what a term means; decimals must be glued."""
    prose = [cell.source for cell in _cells(page) if cell.cell_type == "markdown" and "## Exercises" not in cell.source]
    assert not re.findall(r"(?<![\w`])\d+\.\d+", re.sub(r"\{glue:text\}`[^`]*`", "", "\n".join(prose)))


@pytest.mark.slow
def test_a_page_runs_in_any_folder_and_leaves_nothing_there(tmp_path, monkeypatch):
    """As a notebook that was downloaded, without the program that runs pages."""
    monkeypatch.setenv("PRUNECAST_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "downloads"
    folder.mkdir()
    notebook = jupytext.read(paths.NOTEBOOKS / "campaign.py")
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    drawn = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/svg+xml" in output.get("data", {})
    ]
    assert drawn
    assert not list(folder.iterdir())


@pytest.mark.pages
@missing_run
@pytest.mark.parametrize("path", executed_pages(), ids=lambda path: path.stem)
def test_an_executed_page_is_clean(path):
    text = path.read_text()
    assert str(paths.ROOT) not in text
    for cell in nbformat.reads(text, 4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output


@pytest.mark.pages
@missing_run
def test_executing_the_pages_again_gives_the_same_outputs_and_tables(tmp_path):
    """On the checkpoints of the first run, one model measured anew; `make reproduce` trains and measures all anew.

    A page that was executed again already, and has not been executed by `make book` since, is left out.
    """
    stamps = RUN / "reproduced"
    stamps.mkdir(exist_ok=True)
    names = [path.stem for path in executed_pages()]
    known = {path.name: path.read_text() for path in stamps.iterdir()}
    changed = [name for name in names if known.get(name) != reproduce.digest_of(name)]
    if not changed:
        pytest.skip("no page has changed since it was executed again")
    for file in (path for path in (RUN / "models").glob("*/*") if path.parent.name != ANEW or path.suffix != ".jsonl"):
        link = tmp_path / "laptop" / "models" / file.parent.name / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    (tmp_path / ".cache").symlink_to(RUN.parent / ".cache")
    for table in (RUN / "tables").iterdir():
        (tmp_path / "laptop" / "tables").mkdir(exist_ok=True)
        shutil.copy(table, tmp_path / "laptop" / "tables")
    assert reproduce.main(tmp_path, changed) == 0
    if "collect_sweeps" in changed:
        assert (tmp_path / "laptop" / "models" / ANEW / "evaluations.jsonl").stat().st_size > 0
    for name in changed:
        (stamps / name).write_text(reproduce.digest_of(name))
