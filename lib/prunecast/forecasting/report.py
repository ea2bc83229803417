"""What `prunecast predict` answers, as lines of text and as a document for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from prunecast import __version__
from prunecast.errors import UserError
from prunecast.forecasting.predict import POINTS, Prediction
from prunecast.forecasting.subjects import Subject
from prunecast.pruning.masks import Scope
from prunecast.sweeps.curve_metrics import chance_within
from prunecast.sweeps.safe_search import Safe

FORMAT = 1  # of the document; it is raised when a key is renamed, removed or changes its meaning
FIGURE = Path("forecast.svg")
HIGHEST = (POINTS - 2) / (POINTS - 1)  # ratio that is measured
COLUMNS = ["scope", "sparsity", "predicted", "lower", "upper"]


@dataclass(frozen=True)
class Measured:
    """The measured largest safe ratio.

    Attributes:
        scope: Whether weights were ranked over all layers or in each layer.
        ratio: The ratio, as a fraction of the prunable weights.
        accuracy: Accuracy there, as a fraction; where not all examples were evaluated, the others are taken as they are
            without pruning.
        whole: Whether all examples were evaluated there.
        exact: Whether, moreover, the next ratio was found unsafe.
        chance: Probability that the loss in the population is within epsilon; None where not all were evaluated.
        evaluations: What finding it cost beside the dense evaluation, in evaluations of all examples.
        seconds: The time that took.
        saved: Folder of the pruned model, as text; None where it was not to be saved.
    """

    scope: Scope
    ratio: float
    accuracy: float
    whole: bool
    exact: bool
    chance: float | None
    evaluations: float
    seconds: float
    saved: str | None


def measured(
    scope: Scope, ratio: float, safe: Safe, examples: int, epsilon: float, seconds: float, saved: str | None
) -> Measured:
    """Describe a measured ratio.

    Args:
        scope: Whether weights were ranked over all layers or in each layer.
        ratio: The ratio that `predict.largest_safe` found, a fraction.
        safe: How it was measured.
        examples: Number of examples.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        seconds: Time of the measurement.
        saved: Folder of the pruned model; None where it was not to be saved.

    Returns:
        The description.
    """
    chance = chance_within(safe.lost, safe.gained, examples, epsilon) if safe.measured else None
    spent = safe.evaluated / examples
    return Measured(scope, ratio, safe.accuracy, safe.measured, safe.exact, chance, spent, seconds, saved)


def lines(subject: Subject, prediction: Prediction, epsilon: float) -> Iterator[str]:
    """The forecast as text.

    Args:
        subject: The checkpoint.
        prediction: Its forecast.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Yields:
        Lines: the curve at every tenth of the weights, the dense accuracy, warnings, and a ratio for each scope.
    """
    shown = prediction.curve[prediction.curve["threshold"] % 1 == 0]
    yield shown[COLUMNS].to_string(index=False, float_format="{:.3f}".format)
    majority = subject.model.task.majority_accuracy
    yield f"dense accuracy {prediction.dense_accuracy:.3f}, majority class {majority:.3f}"
    yield f"forecast in {prediction.seconds:.1f} s"
    yield from (f"warning: {warning}" for warning in prediction.warnings)
    for scope, ratio in prediction.recommended.items():
        yield f"recommended in {scope} scope: prune {ratio:.0%}, then measure; epsilon is {epsilon:g}"


def lines_of(found: Measured, epsilon: float) -> Iterator[str]:
    """The measured ratio as text.

    Args:
        found: The ratio.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Yields:
        Lines: the ratio with its accuracy, how certain it is, what it cost, and where the pruned model is.
    """
    if not found.whole:
        yield (
            f"found in {found.scope} scope within the budget: prune {found.ratio:.0%}, accuracy about "
            f"{found.accuracy:.3f}; not every example was evaluated there"
        )
    elif found.ratio:
        what = f"prune {found.ratio:.0%}, accuracy {found.accuracy:.3f}"
        yield f"measured in {found.scope} scope: {what}; {_beyond(found)}"
    else:
        yield f"measured in {found.scope} scope: no ratio is safe, not even one per cent"
    if found.chance is not None:
        yield f"the loss over the population is within {epsilon:g} with probability {found.chance:.2f}"
    yield f"cost {found.evaluations:.1f} evaluations of all examples, {found.seconds:.1f} s"
    if found.saved:
        yield f"saved to {found.saved}{'' if found.ratio else ', without pruning'}"


def _beyond(found: Measured) -> str:
    if not found.exact:
        return "a higher ratio may be safe, beyond the budget"
    return "one per cent more is not safe" if found.ratio < HIGHEST else "no higher one is tried"


def document(subject: Subject, prediction: Prediction, epsilon: float, found: Measured | None) -> str:
    """The forecast, and the measured ratio if there is one, as JSON.

    Args:
        subject: The checkpoint.
        prediction: Its forecast.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        found: The measured ratio.

    Returns:
        One JSON object: accuracies, sparsities and ratios are fractions; `format` is the version of its form.
    """
    model = subject.model
    content = {
        "format": FORMAT,
        "prunecast": __version__,
        "checkpoint": model.name,
        "task": model.task.name,
        "classes": list(model.task.label_names),
        "examples": len(model.examples),
        "epsilon": epsilon,
        "dense_accuracy": prediction.dense_accuracy,
        "majority_accuracy": model.task.majority_accuracy,
        "curve": prediction.curve[COLUMNS].to_dict("records"),
        "recommended": prediction.recommended,
        "measured": asdict(found) if found else None,
        "notes": list(subject.notes),
        "warnings": prediction.warnings,
        "forecast_seconds": prediction.seconds,
    }
    return json.dumps(content, indent=1, allow_nan=False)


def draw(figure: Path | None, prediction: Prediction) -> str:
    """Draw the forecast; only a figure that was asked for is worth an error once the forecast is there.

    Args:
        figure: The file; None for `FIGURE`.
        prediction: The forecast.

    Returns:
        The path, or a note that it was not drawn.

    Raises:
        UserError: A figure that was asked for cannot be written.
    """
    from prunecast.plotting import curves

    path = figure or FIGURE
    try:
        drawn = curves.draw_prediction(prediction.curve, prediction.recommended, prediction.dense_accuracy)
        drawn.savefig(path)
    except OSError as error:
        sentence = f"figure {path} was not drawn: {error.strerror or error}"
        if figure:
            raise UserError(sentence) from None
        return f"note: {sentence}"
    return str(path)
