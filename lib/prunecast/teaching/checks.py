"""The check of an answer to an exercise, for students and teachers."""

from typing import Any

from prunecast.errors import UserError
from prunecast.teaching import deployment_checks, forecast_checks, structure_checks, sweep_checks
from prunecast.teaching.answers import Check

CHECKS: dict[tuple[str, int], Check] = (
    sweep_checks.CHECKS | forecast_checks.CHECKS | structure_checks.CHECKS | deployment_checks.CHECKS
)


def check(page: str, exercise: int, answer: Any) -> None:
    """Check the answer to an exercise, and print one sentence if it is right.

    Args:
        page: Name of the page, such as `pareto`.
        exercise: Number of the exercise on the page.
        answer: What the exercise asks for.

    Raises:
        UserError: There is no such check, no answer yet, or a wrong answer; the sentence says what is wrong with it
            without giving the right one away.
    """
    if (page, exercise) not in CHECKS:
        numbers = [str(number) for name, number in sorted(CHECKS) if name == page]
        known = f"the checked exercises of page {page} are {', '.join(numbers)}" if numbers else _pages()
        raise UserError(f"exercise {exercise} of page {page!r} is not checked; {known}")
    if answer is None or answer is ...:
        raise UserError(f"exercise {exercise} of page {page}: no answer yet; assign it to `answer`")
    print(f"Right: {CHECKS[page, exercise](answer)}")


def _pages() -> str:
    return f"pages with checked exercises are {', '.join(sorted({name for name, _ in CHECKS}))}"
