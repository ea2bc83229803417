"""Copies of the exercises of every page as notebooks: without solutions for students, with them for instructors."""

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import nbformat

from prunecast import tables
from prunecast.errors import UserError
from prunecast.teaching.checks import CHECKS
from prunecast.teaching.exercises import Exercise, chapters, exercises_of, opening_of

Audience = Literal["student", "instructor"]
AUDIENCES: tuple[Audience, ...] = get_args(Audience)
STUB = "answer = ...  # your code"
IMPORT = "from prunecast.teaching.checks import check"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
GLUED = re.compile(r"\{glue:\w+\}`[^`]*`")  # a number that only the executed page has
ROLE = re.compile(r"\{[a-z:]+\}`([^`<]*?)(?: <[^`]*>)?`")  # a link or a citation of the book


def write_copies(folder: Path) -> list[Path]:
    """Write the copies of all pages with exercises; a file of the same name is replaced.

    Args:
        folder: Folder to write to, made where it does not exist.

    Returns:
        The notebooks, in `student` and `instructor` of the folder, named after the pages.

    Raises:
        UserError: The folder cannot be made or written to, or exercises do not have the form they should have.
    """
    written = []
    for page in chapters():
        for audience in AUDIENCES:
            path = folder / audience / f"{page}.ipynb"
            text: str = nbformat.writes(copy_of(page, audience))  # type: ignore[no-untyped-call]
            try:
                tables.write_atomically(path, partial(Path.write_bytes, data=f"{text}\n".encode()))
            except OSError as error:  # its folder cannot be made
                raise UserError(f"{path.name} was not written to {path.parent}: {error.strerror}") from None
            written.append(path)
    return written


def copy_of(page: str, audience: Audience) -> Any:
    """The copy of a page as a notebook, which runs wherever the package is installed in its repository.

    Args:
        page: Name of the page.
        audience: `student`, for stubs in place of solutions, or `instructor`, for solutions.

    Returns:
        A notebook of nbformat; the same page gives the same cells with the same identifiers.

    Raises:
        UserError: There is no such page, or its exercises do not have the form they should have.
    """
    cells = [_markdown(f"{page}-opening", plain(opening_of(page))), _code(f"{page}-import", IMPORT)]
    for exercise in exercises_of(page):
        cells += _cells(exercise, audience)
    content = {"cells": cells, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}
    return nbformat.from_dict(content)  # type: ignore[no-untyped-call]


def plain(text: str) -> str:
    """Markdown of the book without its roles: links and citations become code, glued numbers three dots.

    Args:
        text: MyST Markdown.
    """
    return ROLE.sub(r"`\1`", GLUED.sub("…", text))


def _cells(exercise: Exercise, audience: Audience) -> list[dict[str, Any]]:
    name, solved = f"{exercise.page}-{exercise.number}", audience == "instructor"
    heading = f"## Exercise {exercise.number}: {exercise.kind} ({exercise.minutes} minutes)"
    cells = [_markdown(f"{name}-question", f"{heading}\n\n{plain(exercise.question)}")]
    checked = (exercise.page, exercise.number) in CHECKS
    if solved:
        cells.append(_markdown(f"{name}-solution", f"**Solution.** {plain(exercise.solution)}"))
    elif not checked:
        cells.append(_markdown(f"{name}-answer", "*Your answer:*"))
    if checked:
        cells.append(_code(f"{name}-answer", exercise.code if solved else STUB))
        cells.append(_code(f"{name}-check", f'check("{exercise.page}", {exercise.number}, answer)'))
    return cells


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name.replace("_", "-"), "metadata": {}, "source": text}


def _code(name: str, text: str) -> dict[str, Any]:
    return _markdown(name, text) | {"cell_type": "code", "execution_count": None, "outputs": []}
