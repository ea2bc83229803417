import re

import front
import numpy as np
import pytest
from products import RUN, missing_run
from prunecast import paths

NUMBER = re.compile(r"(?<![#\w])-?\d+(?:\.\d+)?(?![\w.])")
HASHED = re.compile(r"(?<=#)[mp][0-9a-f]{10}|(?<=id=\")[mp][0-9a-f]{10}")  # names made of what they name


def _drawn(svg):
    """What is drawn: the elements without their numbers, and the numbers."""
    without_names = HASHED.sub("", svg)
    return NUMBER.sub("", without_names), np.array(NUMBER.findall(without_names), float)


@pytest.mark.pages
@missing_run
def test_the_picture_of_the_readme_is_the_figure_that_opens_the_book():
    elements, numbers = _drawn(front.FILE.read_text(encoding="utf-8"))
    now, numbers_now = _drawn(front.figure_of(RUN / "notebooks" / f"{front.PAGE}.ipynb"))
    assert elements == now
    np.testing.assert_allclose(numbers, numbers_now, atol=0.05)  # points; forecasts differ in their last digits


def test_the_readme_shows_the_picture_and_says_what_is_in_it():
    ((text, file),) = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", (paths.ROOT / "README.md").read_text(encoding="utf-8"))
    assert (paths.ROOT / file).resolve() == front.FILE
    assert len(text) > 20
    assert front.FILE.stat().st_size < 150_000
