"""The one exception whose message is written for the user, and checks of settings that raise it."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound=BaseModel)


class UserError(ValueError):
    """What was wrong, where, and what would be right, in one sentence."""


def validated(settings: type[Settings], **parameters: Any) -> Settings:
    """Build settings from parameters.

    Args:
        settings: Pydantic model of the settings.
        parameters: Fields of the model by name.

    Returns:
        The settings.

    Raises:
        UserError: A parameter is unknown, missing or invalid; the sentence names the first such one.
    """
    try:
        return settings(**parameters)
    except ValidationError as error:
        raise UserError(first_complaint(error, settings)) from None


def first_complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe the first problem that pydantic reports, unknown keys before all others.

    Args:
        error: What pydantic raised.
        model: Pydantic model that was validated; its fields are named where a key is unknown.

    Returns:
        One clause without a full stop.
    """
    unknown = [problem for problem in error.errors() if problem["type"] == "extra_forbidden"]
    first = [*unknown, *error.errors()][0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where} is unknown; known are {', '.join(model.model_fields)}"
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where or 'the file'} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def check_epsilon(epsilon: float) -> float:
    """Return an epsilon that lies between 0 and 1.

    Args:
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        The same number.

    Raises:
        UserError: If it does not lie between 0 and 1, both excluded.
    """
    if not 0 < epsilon < 1:
        raise UserError(f"epsilon is {epsilon:g}; it is the accuracy one would give up, between 0 and 1")
    return epsilon


def check_ratios(ratios: Sequence[float]) -> Sequence[float]:
    """Return ratios of pruning that each lie between 0 and 1.

    Args:
        ratios: Shares of the weights that are pruned, as fractions.

    Returns:
        The same numbers.

    Raises:
        UserError: There are none, or one does not lie between 0 and 1, both excluded.
    """
    if not ratios or not all(0 < ratio < 1 for ratio in ratios):
        given = ", ".join(f"{ratio:g}" for ratio in ratios) or "empty"
        raise UserError(f"ratios is {given}; each is a share of the weights, between 0 and 1")
    return ratios


def check_recalibrate(images: int) -> int:
    """Return a number of images to recalibrate batch norms on.

    Args:
        images: Number of unlabelled images; 0 for no recalibration.

    Returns:
        The same number.

    Raises:
        UserError: If it is negative or 1, since the variance of one image need not be defined.
    """
    if images < 0 or images == 1:
        raise UserError(f"recalibrate is {images}; it is 0, for no recalibration, or a number of images from 2 on")
    return images
