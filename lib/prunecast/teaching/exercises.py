"""The exercises of a page, parsed from its source."""

import re
from dataclasses import dataclass
from pathlib import Path

from prunecast.errors import UserError
from prunecast.workflow import pages

HEADING = "## Exercises"
KINDS = {"Understand": 5, "Change": 10, "Extend": 20}  # minutes that an exercise of each kind takes
CELL = re.compile(r"^# %%.*$", re.MULTILINE)
TITLE = re.compile(r"^\*\*Exercise (\d+): (\w+)\*\* \((\d+) minutes\)\. ", re.MULTILINE)
DROPDOWN = re.compile(r"^:::\{dropdown\} Solution\n(.*?)^:::$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANSWER = re.compile(r"^answer\b.*=|^answer\[", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise of a page.

    Attributes:
        page: Name of the page.
        number: Place on the page, from 1.
        kind: One of `KINDS`.
        minutes: Time it takes.
        question: The task, as Markdown.
        solution: Text of the solution without its code, as Markdown.
        code: Code of the solution, which assigns `answer`; empty where the solution is a text.
    """

    page: str
    number: int
    kind: str
    minutes: int
    question: str
    solution: str
    code: str


def chapters() -> list[str]:
    """Names of the pages that have exercises, in alphabetical order."""
    return [page for page in pages.pages() if _has_exercises(pages.source_of(page))]


def exercises_of(page: str) -> list[Exercise]:
    """The exercises of a page, in their order.

    Args:
        page: Name of the page.

    Returns:
        At least one exercise of each kind, in the order of `KINDS`.

    Raises:
        UserError: There is no such page, or its exercises do not have the form that the page *Teaching* describes.
    """
    return parsed(page, pages.source_of(page).read_text(encoding="utf-8"))


def opening_of(page: str) -> str:
    """The first cell of a page, as Markdown: title, question, prerequisites, goals and minutes.

    Args:
        page: Name of the page.

    Raises:
        UserError: There is no such page.
    """
    return _markdown(CELL.split(pages.source_of(page).read_text(encoding="utf-8"))[1])


def parsed(page: str, source: str) -> list[Exercise]:
    """Parse exercises from the source of a page.

    Args:
        page: Name of the page, for errors.
        source: Its source in the percent format of jupytext.

    Returns:
        At least one exercise of each kind, in the order of `KINDS`.

    Raises:
        UserError: The exercises do not have the form that the page *Teaching* describes.
    """
    last = _markdown(CELL.split(source)[-1])
    if HEADING not in last.splitlines():
        raise UserError(f"page {page} has no {HEADING!r} in its last cell")
    places = list(TITLE.finditer(last))
    ends = [place.start() for place in places[1:]] + [len(last)]
    found = [_exercise(page, place, last[place.end() : end]) for place, end in zip(places, ends, strict=True)]
    if [each.number for each in found] != list(range(1, len(found) + 1)):
        raise UserError(f"the exercises of page {page} are not numbered from 1 on")
    order = [list(KINDS).index(each.kind) for each in found]
    if order != sorted(order) or set(order) != set(range(len(KINDS))):
        raise UserError(f"page {page} needs exercises of the kinds {', '.join(KINDS)}, in this order")
    if not any(each.code for each in found):
        raise UserError(f"no exercise of page {page} has a solution in Python")
    return found


def _exercise(page: str, title: re.Match[str], body: str) -> Exercise:
    number, kind, minutes = int(title[1]), title[2], int(title[3])
    where = f"exercise {number} of page {page}"
    if kind not in KINDS:
        raise UserError(f"{where} is of kind {kind!r}; there are {', '.join(KINDS)}")
    if minutes != KINDS[kind]:
        raise UserError(f"{where} takes {minutes} minutes; one of kind {kind} takes {KINDS[kind]}")
    solutions = DROPDOWN.findall(body)
    if len(solutions) != 1:
        raise UserError(f"{where} has {len(solutions)} dropdowns named Solution; it needs one")
    question, text = DROPDOWN.sub("", body).strip(), CODE.sub("", solutions[0]).strip()
    code = "\n".join(CODE.findall(solutions[0])).strip()
    if not question or not text:
        raise UserError(f"{where} has no {'text in its solution' if question else 'question'}")
    if code and not ANSWER.search(code):
        raise UserError(f"the solution of {where} does not assign `answer`")
    return Exercise(page, number, kind, minutes, question, text, code)


def _markdown(cell: str) -> str:
    """Text of a Markdown cell without the signs of a comment."""
    lines = (line.removeprefix("#").removeprefix(" ") for line in cell.strip().splitlines())
    return "\n".join(lines).strip()


def _has_exercises(source: Path) -> bool:
    return f"# {HEADING}" in source.read_text(encoding="utf-8").splitlines()
