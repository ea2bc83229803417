"""What `prunecast sensitivity` answers, as lines of text, as a document for programs, and as a figure."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast import __version__
from prunecast.errors import UserError
from prunecast.models.checkpoints import TrainedModel
from prunecast.plotting.sensitivity import draw_sensitivity
from prunecast.selection.sensitivity import Sensitivity, within

FORMAT = 1  # of the document; it is raised when a key is renamed, removed or changes its meaning
OF_UNIT = ["unit", "kind", "matrices", "parameters", "share", "parts"]
OF_RATIO = ["ratio", "channel_ratio", "accuracy", "lost", "agreement", "forecast"]
HEADERS = {"share": "of all", "forecast": "forecast ratio", "measured": "measured ratio", "channel_ratio": "channels"}


def lines(subject: TrainedModel, found: Sensitivity, epsilon: float) -> Iterator[str]:
    """The sensitivity as text.

    Args:
        subject: The model.
        found: Its sensitivity.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Yields:
        Lines: what each unit loses at each ratio, the largest ratio of each, and what it cost.
    """
    majority = subject.task.majority_accuracy
    yield f"dense accuracy {found.dense_accuracy:.3f}, majority class {majority:.3f}"
    if found.dense_accuracy <= majority:
        yield "warning: the model is no more accurate than the majority class; are its classes in this order?"
    measured = {"lost": "accuracy lost, measured"} if found.evaluations else {}
    for column, title in (measured | {"forecast": "accuracy lost, forecast"}).items():
        by_ratio = found.rows.pivot(index="unit", columns="ratio", values=column).reindex(found.rows["unit"].unique())
        by_ratio.columns = [f"{100 * float(str(ratio)):.4g}%" for ratio in by_ratio]
        yield f"{title}, by the share of the weights of the unit that is pruned:"
        yield by_ratio.rename_axis(None).to_string(float_format="{:.3f}".format)
    units = within(found.rows, epsilon)
    shown = units if found.evaluations else units.drop(columns="measured")
    shares = {name: _percent for name in ("share", "forecast", "measured", "channel_ratio") if name in shown}
    yield f"largest tested ratio with at most {epsilon:g} of accuracy lost, each unit pruned alone:"
    yield shown.rename(columns=HEADERS).to_string(
        index=False, na_rep="", formatters={HEADERS[name]: write for name, write in shares.items()}
    )
    yield (
        "channels: the share of the heads, neurons or channels whose removal takes as many weights away; losses of "
        "units add up, so measure what is pruned together"
    )
    alone = f"{found.forecast_evaluations:.1f} evaluations of all examples, on {found.sampled} of them without labels"
    whole = (
        f"{found.evaluations} evaluations of all examples; the forecast alone takes {found.forecast_evaluations:.1f}"
    )
    yield f"cost {whole if found.evaluations else alone}; {found.seconds:.0f} s"


def document(subject: TrainedModel, found: Sensitivity, epsilon: float, notes: Sequence[str]) -> str:
    """The sensitivity as JSON.

    Args:
        subject: The model.
        found: Its sensitivity.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        notes: What is evaluated and pruned, a sentence for each fact.

    Returns:
        One JSON object: accuracies, losses, shares and ratios are fractions, and what was not measured, or cannot be
        removed as wholes, is null; `format` is the version of its form.
    """
    largest = within(found.rows, epsilon).set_index("unit")[["forecast", "measured", "channel_ratio"]]
    units = [
        {**_plain(own[OF_UNIT].iloc[:1])[0], "largest": _plain(largest.loc[[unit]])[0], "ratios": _plain(own[OF_RATIO])}
        for unit, own in found.rows.groupby("unit", sort=False)
    ]
    content = {
        "format": FORMAT,
        "prunecast": __version__,
        "checkpoint": subject.name,
        "task": subject.task.name,
        "classes": list(subject.task.label_names),
        "examples": len(subject.examples),
        "epsilon": epsilon,
        "dense_accuracy": found.dense_accuracy,
        "majority_accuracy": subject.task.majority_accuracy,
        "units": units,
        "sampled": found.sampled,
        "evaluations": found.evaluations,
        "forecast_evaluations": found.forecast_evaluations,
        "seconds": found.seconds,
        "notes": list(notes),
    }
    return json.dumps(content, indent=1, allow_nan=False)


def draw(figure: Path, found: Sensitivity, epsilon: float) -> str:
    """Draw the largest ratio of each unit.

    Args:
        figure: The file.
        found: The sensitivity.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        The path.

    Raises:
        UserError: The figure cannot be written.
    """
    try:
        draw_sensitivity(within(found.rows, epsilon)).savefig(figure)
    except OSError as error:
        raise UserError(f"figure {figure} was not drawn: {error.strerror or error}") from None
    return str(figure)


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.0%}"


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None in place of empty cells."""
    return [
        {str(name): None if isinstance(value, float) and np.isnan(value) else value for name, value in row.items()}
        for row in rows.to_dict("records")
    ]
