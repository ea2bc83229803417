"""The picture of the README: the figure that opens the book, as the page `coverage` draws it.

python tests/front.py    run that page and write the picture
"""

import os
import tempfile
from pathlib import Path

import nbformat
from prunecast import paths
from prunecast.workflow import runs

FILE = paths.ROOT / "book" / "_static" / "front.svg"
PAGE, FIGURE = "coverage", "fig-opening"


def figure_of(notebook: Path) -> str:
    """The opening figure of an executed page `coverage`, as SVG."""
    cells = nbformat.read(notebook, as_version=4).cells
    (cell,) = (cell for cell in cells if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == FIGURE)
    (drawn,) = (output.data["image/svg+xml"] for output in cell.outputs if "image/svg+xml" in output.get("data", {}))
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PRUNECAST_RUNS"] = folder
        FILE.write_text(figure_of(runs.run_page(PAGE, {}, "page")), encoding="utf-8")
