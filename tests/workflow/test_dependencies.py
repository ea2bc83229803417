from prunecast import paths
from prunecast.workflow import pages
from prunecast.workflow.dependencies import PACKAGE, modules_of

OUTSIDE = ("workflow", "teaching")  # packages that no page uses


def _modules(page):
    return {path.relative_to(PACKAGE).as_posix() for path in modules_of(paths.NOTEBOOKS / f"{page}.py")}


def test_a_page_depends_on_what_it_imports_and_on_what_that_imports():
    assert {"sweeps/collect.py", "pruning/masks.py", "paths.py"} <= _modules("collect_sweeps")
    assert {"surrogates/lstm.py", "tables.py", "seeding.py"} <= _modules("surrogate")


def test_a_page_does_not_depend_on_what_it_never_calls():
    assert not {"surrogates/lstm.py", "cli.py", "workflow/runs.py"} & _modules("collect_sweeps")
    assert not {"models/training.py", "models/zoo.py"} & _modules("surrogate")


def test_no_module_for_pages_is_missed_by_every_page():
    outside = {
        "cli.py",
        "options.py",
        "loading/slices.py",
        "forecasting/report.py",
        "selection/sensitivity_report.py",
        "selection/onnx_export.py",
        *(path.relative_to(PACKAGE).as_posix() for place in OUTSIDE for path in (PACKAGE / place).glob("*.py")),
    }
    outside |= {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    everything = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert set.union(*(_modules(page) for page in pages.pages())) >= everything - outside
