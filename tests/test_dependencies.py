from prunecast import paths, studies
from prunecast.dependencies import PACKAGE, rooms_of


def _rooms(page):
    return {path.relative_to(PACKAGE).as_posix() for path in rooms_of(paths.NOTEBOOKS / f"{page}.py")}


def test_a_page_depends_on_what_it_imports_and_on_what_that_imports():
    assert {"collect.py", "pruning/masks.py", "paths.py"} <= _rooms("collect_sweeps")
    assert {"surrogates/lstm.py", "tables.py", "seeds.py"} <= _rooms("surrogate")


def test_a_page_does_not_depend_on_what_it_never_calls():
    assert not {"surrogates/lstm.py", "cli.py", "runs.py"} & _rooms("collect_sweeps")
    assert not {"training.py", "zoo.py"} & _rooms("surrogate")


def test_no_room_of_a_page_is_missed_by_every_page():
    outside = {"__init__.py", "cli.py", "runs.py", "studies.py", "dependencies.py", "provenance.py"}
    everything = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert set.union(*(_rooms(page) for page in studies.pages())) >= everything - outside
