"""What checks of answers have in common: an answer of the right type, a number that is right, curves read by hand."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from prunecast import paths
from prunecast.errors import UserError

TOLERANCE = 0.0006  # numbers may be rounded to three decimals
ROUNDING = 1e-9

Check = Callable[[Any], str]  # from an answer to a sentence on why it is right; raises UserError where it is wrong


def number(answer: Any, meaning: str) -> float:
    """The answer as a finite number.

    Args:
        answer: What a student assigned.
        meaning: What it stands for, for the error.

    Raises:
        UserError: It is not a finite number.
    """
    if isinstance(answer, str):
        raise UserError(f"the answer is a text; it is to be {meaning}, a number")
    try:
        found = float(answer)
    except (TypeError, ValueError):
        raise UserError(f"the answer is of type {type(answer).__name__}; it is to be {meaning}, a number") from None
    if not np.isfinite(found):
        raise UserError(f"the answer is {found}; it is to be {meaning}, a finite number")
    return found


def check_number(answer: Any, meaning: str, truth: float, mistakes: dict[str, float] | None = None) -> None:
    """Check that an answer is a number near the truth.

    Args:
        answer: What a student assigned.
        meaning: What it stands for, for errors.
        truth: The right number.
        mistakes: Numbers that come from known mistakes, by a hint at the mistake.

    Raises:
        UserError: It is no number, or not the right one; the sentence does not give the right one away.
    """
    found = number(answer, meaning)
    if abs(found - truth) <= TOLERANCE:
        return
    for hint, wrong in (mistakes or {}).items():
        if abs(found - wrong) <= TOLERANCE:
            raise UserError(f"{found:.4g} is not {meaning}: {hint}")
    if abs(found + truth) <= TOLERANCE:
        raise UserError(f"{found:.4g} is not {meaning}: the sign is wrong")
    raise UserError(f"{found:.4g} is not {meaning}; check which rows you took and what you averaged")


def function(answer: Any, signature: str) -> Callable[..., Any]:
    """The answer as a function.

    Args:
        answer: What a student assigned.
        signature: How it is called, for the error.

    Raises:
        UserError: It cannot be called.
    """
    if not callable(answer):
        raise UserError(f"the answer is of type {type(answer).__name__}; it is to be the function {signature} itself")
    return _explained(answer, signature)


def _explained(answer: Callable[..., Any], signature: str) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        try:
            return answer(*arguments)
        except UserError:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise UserError(f"{signature} raised {kind}: {' '.join(str(error).split())[:120]}") from None

    return called


def booleans(found: Any, length: int, signature: str) -> Any:
    """What a function returned, as an array of booleans.

    Args:
        found: What it returned.
        length: How many there should be.
        signature: How it is called, for the error.

    Returns:
        Booleans (length).

    Raises:
        UserError: It is something else.
    """
    array = np.asarray(found)
    if array.shape != (length,) or array.dtype != bool:
        raise UserError(
            f"{signature} returned an array of shape {array.shape} and type {array.dtype}; {length} booleans are needed"
        )
    return array


@cache
def rows_of(file: str) -> pd.DataFrame:
    """Rows of a table in the folder `data`, as they stand in the file; read once, not to be changed.

    Args:
        file: Its path in that folder.
    """
    return pd.read_csv(paths.DATA / file)


@cache
def safe_by_hand(study: str, scope: str, epsilon: float) -> dict[str, float]:
    """Largest safe sparsity of the magnitude curves of a study, by model, found point by point.

    Args:
        study: Folder in `data/measured`.
        scope: `global` or `layer`.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        The last sparsity before the loss first exceeds epsilon, on the percentile axis.
    """
    rows = rows_of(f"measured/{study}/sweeps.csv")
    rows = rows[(rows["criterion"] == "magnitude") & (rows["axis"] == "percentile") & (rows["scope"] == scope)]
    found: dict[str, float] = {}
    ended: set[str] = set()
    dense: dict[str, float] = {}
    for row in rows.sort_values(["model", "sparsity"]).itertuples():
        model, accuracy, sparsity = str(row.model), float(str(row.accuracy)), float(str(row.sparsity))
        dense.setdefault(model, accuracy)
        if dense[model] - accuracy > epsilon + ROUNDING:
            ended.add(model)
        if model not in ended:
            found[model] = sparsity
    return found


@cache
def errors_by_curve(protocol: str, surrogate: str) -> float:
    """Mean over curves of the mean absolute error at measured points, of forecasts for the campaign.

    Args:
        protocol: Name in the column `protocol`.
        surrogate: Name in the column `surrogate`.

    Returns:
        The error of accuracy, as a fraction.
    """
    rows = rows_of("measured/campaign/predictions.csv.gz")
    rows = rows[(rows["protocol"] == protocol) & (rows["surrogate"] == surrogate) & rows["measured"]]
    errors: dict[tuple[str, str], list[float]] = {}
    for model, scope, error in zip(
        rows["model"], rows["scope"], np.abs(rows["predicted"] - rows["accuracy"]), strict=True
    ):
        errors.setdefault((model, scope), []).append(error)
    return float(np.mean([np.mean(each) for each in errors.values()]))
