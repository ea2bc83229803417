import ast

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from prunecast import cli, paths
from prunecast.errors import UserError
from prunecast.teaching.copies import AUDIENCES, STUB, copy_of, plain, write_copies
from prunecast.teaching.exercises import chapters, exercises_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    write_copies(folder)
    return folder


def _read(folder, audience, page):
    return nbformat.read(folder / audience / f"{page}.ipynb", 4)


def test_every_chapter_has_a_valid_copy_for_each_audience(folder):
    for audience in AUDIENCES:
        assert sorted(path.stem for path in (folder / audience).iterdir()) == chapters()
        for page in chapters():
            nbformat.validate(_read(folder, audience, page))


@pytest.mark.parametrize("page", chapters())
def test_a_copy_for_students_holds_no_solution(folder, page):
    text = "\n".join(cell.source for cell in _read(folder, "student", page).cells)
    for exercise in exercises_of(page):
        assert exercise.question.split(". ")[0].split("`")[0].strip() in text
        assert exercise.solution[:40] not in text
        for line in exercise.code.splitlines():
            assert len(line) < 20 or line not in text
    code = [cell.source for cell in _read(folder, "student", page).cells if cell.cell_type == "code"]
    assert code.count(STUB) == sum(bool(exercise.code) for exercise in exercises_of(page))


@pytest.mark.parametrize("page", chapters())
def test_a_copy_for_instructors_holds_every_solution(folder, page):
    cells = _read(folder, "instructor", page).cells
    sources = {cell.source for cell in cells}
    for exercise in exercises_of(page):
        assert f"**Solution.** {plain(exercise.solution)}" in sources
        assert not exercise.code or exercise.code in sources


@pytest.mark.parametrize("page", chapters())
@pytest.mark.parametrize("audience", AUDIENCES)
def test_copies_are_plain_markdown_and_python(page, audience):
    for cell in copy_of(page, audience).cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
        else:
            assert "}`" not in cell.source
            assert ":::" not in cell.source


def test_writing_again_changes_nothing(folder, tmp_path):
    again = write_copies(tmp_path)
    assert len(again) == 2 * len(chapters())
    for path in again:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_roles_of_the_book_become_plain():
    text = "see {doc}`pareto`, a {term}`surrogate`, {term}`many <surrogate>` at {glue:text}`page.ipynb::x:.2f`, `code`"
    assert plain(text) == "see `pareto`, a `surrogate`, `many` at …, `code`"


def test_the_command_writes_the_copies(tmp_path, capsys):
    assert cli.main(["class", str(tmp_path / "class")]) == 0
    assert f"{2 * len(chapters())} notebooks" in capsys.readouterr().out
    assert (tmp_path / "class" / "student" / "pareto.ipynb").exists()


def test_a_file_in_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "class").write_text("")
    with pytest.raises(UserError, match="architectures.ipynb was not written to .*class/student: "):
        write_copies(tmp_path / "class")


def _executed(notebook, at):
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(at)}}).execute()
    return [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.slow
def test_a_copy_for_instructors_runs_and_is_right_anywhere(folder, tmp_path):
    printed = _executed(_read(folder, "instructor", "pareto"), tmp_path)
    assert len(printed) == 2
    assert all(text.startswith("Right: ") for text in printed)


@pytest.mark.slow
def test_a_copy_for_students_runs_up_to_the_first_stub(folder):
    with pytest.raises(CellExecutionError, match="no answer yet"):
        _executed(_read(folder, "student", "pareto"), paths.ROOT)
