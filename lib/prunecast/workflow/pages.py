"""Pages: the notebooks there are, the parameters each declares, and the files each reads and writes."""

from functools import cache
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from pydantic import BaseModel, ConfigDict

from prunecast import paths
from prunecast.errors import UserError

INTRODUCTION = """# Parameters

What can be changed on each page without touching its code. `prunecast run PAGE -p NAME=VALUE` runs a page with another
value, and a study file, `studies/NAME.yml`, keeps several together: {doc}`how_to_read`. This page is generated from the
notebooks.
"""


class Files(BaseModel):
    """What a page reads and writes, as the header of its notebook says under `prunecast`.

    Attributes:
        reads: Files relative to the repository, or tables of its own run as `tables/NAME`.
        writes: Names of tables of its own run.
        all_cores: Whether nothing may run beside it, because it measures seconds or joules or computes in parallel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    all_cores: bool = False


def pages() -> list[str]:
    """Names of all pages, in alphabetical order."""
    return sorted(path.stem for path in paths.NOTEBOOKS.glob("*.py"))


def source_of(page: str) -> Path:
    """The notebook of a page.

    Raises:
        UserError: There is no such page.
    """
    if page not in pages():
        raise UserError(f"there is no page {page!r}; there are {', '.join(pages())}")
    return paths.NOTEBOOKS / f"{page}.py"


def files_of(page: str) -> Files:
    """What a page reads and writes; nothing where its header does not say.

    Raises:
        UserError: There is no such page.
    """
    lines = source_of(page).read_text(encoding="utf-8").splitlines()[1:]
    header = "\n".join(line.removeprefix("# ") for line in takewhile(lambda line: line != "# ---", lines))
    return Files.model_validate(yaml.safe_load(header)["jupyter"].get("prunecast", {}))


@cache
def parameters_of(page: str) -> dict[str, dict[str, str]]:
    """Parameters that a page declares: by name, a type name, a default and a help text.

    Raises:
        UserError: There is no such page.
    """
    source = source_of(page)
    import jupytext
    import papermill

    with TemporaryDirectory() as folder:
        notebook = Path(folder) / f"{page}.ipynb"
        jupytext.write(jupytext.read(source), notebook)
        return dict(papermill.inspect_notebook(notebook))


def described() -> str:
    """The page that lists every parameter of every page, as Markdown."""
    return "\n".join([INTRODUCTION, *map(_section, pages())])


def _section(page: str) -> str:
    header = ["| name | meaning | type | default |", "|---|---|---|---|"]
    rows = [_row(name, parameter) for name, parameter in parameters_of(page).items()]
    return "\n".join([f"## {{doc}}`{page}`\n", *header, *rows, ""])


def _row(name: str, parameter: dict[str, str]) -> str:
    meaning = parameter["help"].replace("|", "\\|")
    return f"| `{name}` | {meaning} | {parameter['inferred_type_name']} | `{parameter['default']}` |"
