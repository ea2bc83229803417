"""The one exception whose message is meant for the person at the keyboard."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound=BaseModel)


class UserError(ValueError):
    """What was wrong, where, and what would be right, in one sentence."""


def validated(settings: type[Settings], **parameters: Any) -> Settings:
    """The settings with these parameters; raises UserError for the first that cannot be."""
    try:
        return settings(**parameters)
    except ValidationError as error:
        raise UserError(first_complaint(error, settings)) from None


def first_complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing pydantic found wrong, in one clause; an unknown key is answered with the known ones."""
    unknown = [found for found in error.errors() if found["type"] == "extra_forbidden"]
    first = [*unknown, *error.errors()][0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where} is unknown; known are {', '.join(model.model_fields)}"
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where or 'the file'} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
