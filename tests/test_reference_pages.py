"""The pages on the code name what there is: every module in the API reference, and in prose only names that exist."""

import pkgutil
import re
import tomllib
from collections import Counter

import prunecast
import pytest
from prunecast import paths

BOOK = paths.ROOT / "book"
MODULES = {module.name for module in pkgutil.walk_packages(prunecast.__path__, "prunecast.")} | {"prunecast"}


def test_the_api_reference_has_every_module_once():
    pages = "\n".join(path.read_text() for path in BOOK.glob("api*.md"))
    assert Counter(re.findall(r"automodule:: (\S+)", pages)) == Counter(MODULES)


@pytest.mark.parametrize("page", ["api", "architecture", "glossary"])
def test_a_page_names_only_what_the_package_has(page):
    names = re.findall(r"`(prunecast(?:\.\w+)+)`", (BOOK / f"{page}.md").read_text())
    assert names
    for name in names:
        pkgutil.resolve_name(name)


def test_the_architecture_page_has_the_floors_of_the_contract():
    settings = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())
    floors = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = re.findall(r"^\| \d+ \| (.+) \|$", (BOOK / "architecture.md").read_text(), re.MULTILINE)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [re.split(r" [|:] ", floor) for floor in floors]
