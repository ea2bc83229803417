import pytest
from prunecast import paths
from prunecast.errors import UserError
from prunecast.teaching.exercises import KINDS, chapters, exercises_of, opening_of, parsed
from prunecast.workflow import pages

SOURCE = (paths.NOTEBOOKS / "pareto.py").read_text()


def test_every_page_is_a_chapter_with_exercises():
    assert chapters() == pages.pages()


@pytest.mark.parametrize("page", chapters())
def test_a_chapter_has_three_kinds_of_exercises_and_says_how_long_they_take(page):
    exercises = exercises_of(page)
    assert [each.kind for each in exercises] == list(KINDS)
    assert [each.minutes for each in exercises] == list(KINDS.values())
    assert all(len(each.question.split()) >= 15 and len(each.solution.split()) >= 15 for each in exercises)
    opening = opening_of(page)
    assert "**You will need**" in opening
    assert "**You will learn**" in opening
    assert f"**exercises**: {sum(each.minutes for each in exercises)} minutes" in opening


@pytest.mark.parametrize("page", chapters())
def test_code_of_a_solution_is_narrow_enough_for_the_dropdown(page):
    assert max(len(line) for each in exercises_of(page) for line in each.code.splitlines()) <= 88


def test_an_exercise_is_split_into_question_text_and_code():
    last = exercises_of("pareto")[-1]
    assert (last.page, last.number, last.kind, last.minutes) == ("pareto", 3, "Extend", 20)
    assert last.question.startswith("Write `front(costs)`")
    assert last.question.endswith("`answer` is the function.")
    assert last.code.startswith("import numpy as np")
    assert last.code.endswith("answer = front")
    assert last.solution.startswith("It compares all pairs")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("# ## Exercises", "# ## Tasks", "page pareto has no '## Exercises' in its last cell"),
        ("Exercise 2: Change", "Exercise 4: Change", "exercises of page pareto are not numbered from 1 on"),
        ("Exercise 1: Understand", "Exercise 1: Ponder", "is of kind 'Ponder'; there are Understand, Change, Extend"),
        ("Change** (10 minutes)", "Change** (15 minutes)", "takes 15 minutes; one of kind Change takes 10"),
        ("Exercise 1: Understand** (5", "Exercise 1: Change** (10", "needs exercises of the kinds Understand, Change"),
        ("# :::{dropdown} Solution\n# No.", "# No.", "exercise 1 of page pareto has 0 dropdowns"),
        ("# answer = front", "# front(costs)", "solution of exercise 3 of page pareto does not assign `answer`"),
    ],
)
def test_a_malformed_exercise_is_named(old, new, sentence):
    assert old in SOURCE
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        parsed("pareto", SOURCE.replace(old, new))


def test_an_unknown_page_is_named():
    with pytest.raises(UserError, match="there is no page 'pruning'"):
        exercises_of("pruning")
