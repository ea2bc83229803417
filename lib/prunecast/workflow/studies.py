"""Studies: which pages run with which parameters, checked before anything runs."""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from prunecast.errors import UserError, first_complaint
from prunecast.workflow.pages import parameters_of
from prunecast.workflow.values import check_values
from prunecast.workflow.yaml_text import parse

TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (list,),
}
RUN = "run"  # the parameter that says which run a page writes to; the runner fills it in


class Study(BaseModel):
    """A study file.

    Attributes:
        study: Name of the study and of its run.
        purpose: What it is for.
        threads: Processor threads of a job. Small models do not use many: with 1, jobs run side by side instead.
        pages: Parameters of each page it runs, by page.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = Field(pattern=r"^[a-z0-9_]+$")
    purpose: str
    threads: PositiveInt = 8
    pages: dict[str, dict[str, Any]]


def read_study(path: Path) -> Study:
    """Read and check a study file; raises UserError with one sentence for the first thing that is wrong."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"study {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"study {path.name}, line {line}: the file is not in UTF-8; save it in UTF-8") from None
    try:
        content = parse(text)
    except UserError as error:
        raise UserError(f"study {path.name}, {error}") from None
    return check_study(content, path.name)


def check_study(content: Any, where: str) -> Study:
    """Turn the content of a study file into a Study, or refuse its first unknown key, page or parameter."""
    if not isinstance(content, dict):
        raise UserError(f"study {where} is no mapping of {', '.join(Study.model_fields)}")
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise UserError(f"study {where}: {first_complaint(error, Study)}") from None
    for page, values in study.pages.items():
        check_parameters(page, values)
    return study


def parameters(study: Study, page: str) -> dict[str, Any]:
    """All parameters of a page in a study but its run: the study's values, and the page's defaults for the others."""
    defaults = {name: ast.literal_eval(rule["default"]) for name, rule in parameters_of(page).items() if name != RUN}
    return defaults | study.pages.get(page, {})


def check_parameters(page: str, values: Mapping[str, Any]) -> None:
    """Raise UserError for a parameter that the page does not declare or whose value is of another type or not allowed.

    What lies at a path is not checked: that may change until the page runs.
    """
    known = parameters_of(page)
    for name, value in values.items():
        if name not in known or name == RUN:
            allowed = ", ".join(sorted(set(known) - {RUN}))
            raise UserError(f"page {page} has no parameter {name!r}; it has {allowed}")
        wanted = known[name]["inferred_type_name"]
        if not isinstance(value, TYPES[wanted]) or (isinstance(value, bool) and wanted != "bool"):
            raise UserError(f"parameter {name} of page {page} must be of type {wanted}, not {value!r}")
    try:
        check_values(values)
    except UserError as error:
        raise UserError(f"page {page}: {error}") from None


def parse_parameters(page: str, texts: Sequence[str]) -> dict[str, Any]:
    """Parse texts `name=value` of the command line; a value is read as YAML unless the page declares a text.

    Raises UserError for a text of another form, or a parameter given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"parameter {text!r} is not of the form name=value")
        if name in values:
            raise UserError(f"parameter {name} is given twice")
        is_text = parameters_of(page).get(name, {}).get("inferred_type_name") == "str"
        try:
            values[name] = value if is_text else parse(value)
        except UserError:
            raise UserError(f"the value of parameter {name} cannot be read: {value!r}") from None
    return values
