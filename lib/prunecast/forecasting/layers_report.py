"""What `prunecast layers` answers, as lines of text and as a document for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

from scipy.stats import spearmanr

from prunecast import __version__
from prunecast.forecasting.layers import GRADIENT, Layers, LayerSubject, listed

FORMAT = 1  # of the document; it is raised when a key is renamed, removed or changes its meaning


def lines(subject: LayerSubject, found: Layers) -> Iterator[str]:
    """What was found as text.

    Args:
        subject: The transformer.
        found: The blocks.

    Yields:
        Lines: each block removed alone, the best sets, which blocks can go, and what it cost.
    """
    classifier = subject.floor is not None
    quality = "accuracy" if classifier else "perplexity"
    yield f"{'removed':>8} {'forecast':>9} {'loss':>7} {quality:>10}  blocks"
    for each in (found.whole, *found.single, *found.sets[1:]):
        forecast = "" if each.forecast is None else f"{each.forecast:.3f}"
        value = f"{each.accuracy:.3f}" if classifier else f"{each.perplexity:.2f}"
        yield f"{len(each.blocks):>8} {forecast:>9} {each.loss:>7.3f} {value:>10}  {listed(each.blocks)}"
    rank = spearmanr([each.forecast for each in found.single], [each.loss for each in found.single]).statistic
    yield (
        f"forecast of one block: gradients of gates, {GRADIENT} evaluations, rank correlation with the measured loss "
        f"{rank:.2f}; of more: what each block last added"
    )
    for before, after in pairwise((found.whole, *found.sets)):
        if after.loss < before.loss:
            more, fewer = len(after.blocks), len(before.blocks)
            yield f"the loss without {more} blocks is lower than without {fewer}: losses of blocks do not add up"
    if classifier and found.whole.accuracy <= (subject.floor or 0):
        yield "warning: the whole model is no more accurate than the majority class; are its classes in this order?"
    yield _verdict(subject, found)
    yield f"cost {found.evaluations} evaluations of all examples, {found.seconds:.0f} s"


def document(subject: LayerSubject, found: Layers, saved: str | None) -> str:
    """What was found as JSON.

    Args:
        subject: The transformer.
        found: The blocks.
        saved: Folder of the smaller model; None where there is none.

    Returns:
        One JSON object with the attributes of `Layers`; `format` is the version of its form.
    """
    content = {
        "format": FORMAT,
        "prunecast": __version__,
        "checkpoint": subject.name,
        "kind": "classifier" if subject.floor is not None else "language model",
        "majority_accuracy": subject.floor,
        "examples": subject.network.examples,
        "notes": list(subject.notes),
        "saved": saved,
    }
    return json.dumps(content | asdict(found), indent=1, allow_nan=False)


def _verdict(subject: LayerSubject, found: Layers) -> str:
    if subject.floor is None:
        lost = f"at most {found.epsilon:.0%} of rise of the perplexity"
        values = f"perplexity {found.chosen.perplexity:.2f} in place of {found.whole.perplexity:.2f}"
    else:
        lost = f"at most {found.epsilon:g} of accuracy lost"
        values = f"accuracy {found.chosen.accuracy:.3f} in place of {found.whole.accuracy:.3f}"
    if not found.chosen.blocks:
        return f"no block can go with {lost}"
    before, after = (f"{count / 1e6:.1f} M" for count in found.parameters)
    plural = "s" if len(found.chosen.blocks) > 1 else ""
    return (
        f"block{plural} {listed(found.chosen.blocks)} can go with {lost}: {values}, on the same examples; {after} "
        f"parameters in place of {before}, {found.milliseconds[1]:.1f} ms an example in place of "
        f"{found.milliseconds[0]:.1f}"
    )
