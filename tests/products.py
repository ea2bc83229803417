"""The default study as `make book` left it, for the tests that look at its pages."""

from pathlib import Path

import pytest
from prunecast import paths

RUN = paths.ROOT / "runs" / "laptop"
HTML = paths.ROOT / "_build" / "html"
missing_run = pytest.mark.skipif(not (RUN / "notebooks").exists(), reason="the default study was not run: make book")
missing_book = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="the book was not rendered: make book")


def executed_pages() -> list[Path]:
    return sorted((RUN / "notebooks").glob("*.ipynb"))
