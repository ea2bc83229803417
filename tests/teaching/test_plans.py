"""The lesson and the courses of the book: their minutes add up, and what they name is there."""

import re
import shlex

import pytest
from prunecast import paths
from prunecast.options import parser
from prunecast.teaching.exercises import chapters, exercises_of
from prunecast.workflow import studies

LESSON = (paths.ROOT / "book" / "lesson.md").read_text()
COURSES = (paths.ROOT / "book" / "teaching.md").read_text()
LECTURE = 90


def _rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_lesson_takes_ninety_minutes_with_more_exercises_than_talk():
    plan = [row for row in _rows(LESSON) if row[-1] in {"talk", "exercise"}]
    starts, minutes = ([int(row[place]) for row in plan] for place in (0, 1))
    assert starts == [sum(minutes[:place]) for place in range(len(plan))]
    assert sum(minutes) == LECTURE
    talk = sum(int(row[1]) for row in plan if row[-1] == "talk")
    exercises = [int(row[1]) for row in plan if row[-1] == "exercise"]
    assert talk <= 45
    assert sum(exercises) >= 40
    assert {5, 10, 20} <= set(exercises)


def _described(section):
    text = LESSON.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\*\*(.+?)\*\* \((\d+) minutes\)\.", text, re.MULTILINE)


def test_the_lesson_describes_every_part_of_its_plan():
    plan = _rows(LESSON)
    exercises = [(re.match(r"\*\*(.+?)\*\*", row[2])[1], row[1]) for row in plan if row[-1] == "exercise"]
    assert exercises == _described("The exercises")
    assert [row[1] for row in plan if row[-1] == "talk"] == [minutes for _, minutes in _described("What to say")]


def test_what_is_executed_in_the_lesson_takes_less_than_a_minute():
    timed = [row for row in _rows(LESSON) if row[0].startswith("`") and row[1].isdigit()]
    assert len(timed) >= 4
    assert all(int(row[1]) < 60 for row in timed if not row[2].startswith("before"))


@pytest.mark.parametrize("command", re.findall(r"`prunecast ([^`]+)`", LESSON + COURSES))
def test_a_command_of_the_lesson_is_one_that_there_is(command):
    options = parser().parse_args(shlex.split(command))
    if options.act == "run":
        studies.check_parameters(options.page, studies.parse_parameters(options.page, options.parameter))


@pytest.mark.parametrize("lectures", [2, 6])
def test_the_lectures_of_a_course_take_ninety_minutes_each(lectures):
    title = {2: "two", 6: "six"}[lectures]
    course = COURSES.split(f"## A course of {title} lectures")[1].split("\n## ")[0]
    rows = [row for row in _rows(course) if row[0].isdigit()]
    total = dict.fromkeys(range(1, lectures + 1), 0)
    talk = dict(total)
    for lecture, chapter, spoken, exercises, minutes, _extra in rows:
        total[int(lecture)] += int(minutes)
        talk[int(lecture)] += int(spoken)
        page = re.fullmatch(r"\{doc\}`(\w+)`", chapter)[1]
        if page == "lesson":
            continue
        assert page in chapters()
        done = [int(number) for number in exercises.split(", ")]
        assert int(minutes) == int(spoken) + sum(exercises_of(page)[number - 1].minutes for number in done)
    assert set(total.values()) == {LECTURE}
    assert max(talk.values()) <= 45
