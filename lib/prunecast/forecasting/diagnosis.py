"""Two networks that were pruned from one: how well they are connected, their regime, and what it advises."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecast import __version__
from prunecast.datasets.tasks import Task
from prunecast.errors import UserError
from prunecast.forecasting.pairs import Pair, open_pair
from prunecast.forecasting.subjects import MAX_LENGTH
from prunecast.landscape.connectivity import POINTS, along, connectivity
from prunecast.landscape.regimes import DISSIMILAR, POOR, REGIMES, SIMILAR, Boundaries, cells, learn, resampled
from prunecast.landscape.similarity import linear_cka, unbiased_linear_cka
from prunecast.loading import classes
from prunecast.models.evaluation import logits
from prunecast.models.inputs import Examples, batch_of, device_of
from prunecast.networks.batch_norm import statistics_anew
from prunecast.progress import track
from prunecast.seeding import generator

EXAMPLES = 2000  # at most: two PreResNet-20 then take a minute on two cores
FEWEST = 20  # examples
STATISTICS = 1000  # examples over which the statistics of batch norms are taken anew, at most
BATCH = 125  # of these, at most
KIND = "epochs"  # temperature from which the boundaries are learned
DRAWS = 100  # of boundaries and examples
COMMON = 0.99  # share of a mask from which it counts as the same
NEAR = 1.05  # densities that differ by this factor or less are the same
CONSTANT = 1e-6  # softmax outputs that differ by less between examples do not depend on them
FORMAT = 1  # of the document; it is raised when a key is renamed, removed or changes its meaning
ADVICE = {
    POOR: "the two networks are poorly connected; prune a network that was trained hotter (fewer epochs, a smaller "
    "batch, or a larger rho of sharpness-aware minimisation)",
    DISSIMILAR: "the two networks are connected, but answer differently; prune a network that was trained colder (more "
    "epochs, a larger batch, or a smaller rho of sharpness-aware minimisation)",
    SIMILAR: "the two networks are connected and answer alike; the temperature that the dense network was trained at "
    "hardly matters",
}
WITHOUT_TRAINING = "the regimes were learned on examples that the networks had been trained on; here there are none"
TRANSFER = "the regimes were learned on small PreResNets for CIFAR-10, and their boundaries need not hold elsewhere"


@dataclass(frozen=True)
class Diagnosis:
    """What is measured on a pair of networks, and the regime that it puts them into.

    Attributes:
        checkpoints: Both, as they were named.
        task: Name of the task.
        classes: Its classes, in the order of the networks'.
        split: Split of the task that was evaluated.
        examples: Number of examples.
        errors: Error at each point of the line from the first network to the second, as a fraction; statistics of
            batch norms were taken anew at each.
        lmc: Linear mode connectivity, as a fraction: 0 is connected, negative a barrier.
        cka: Linear CKA of the softmax outputs by the biased estimator, to which the boundaries refer.
        cka_unbiased: The same by the unbiased estimator.
        densities: Share of the prunable weights that is not zero, in each network.
        common_mask: Share of the zeros, or of the other weights where that is lower, that both networks have in the
            same places; 0 where neither is pruned.
        boundaries: Boundaries of the regimes.
        regime: The regime.
        shares: Share of the draws of boundaries and examples that gives each regime.
        notes: What was evaluated, a sentence for each fact.
        warnings: What makes the regime doubtful, a sentence for each reason.
    """

    checkpoints: tuple[str, str]
    task: str
    classes: tuple[str, ...]
    split: str
    examples: int
    errors: tuple[float, ...]
    lmc: float
    cka: float
    cka_unbiased: float
    densities: tuple[float, float]
    common_mask: float
    boundaries: Boundaries
    regime: str
    shares: dict[str, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def advice(self) -> str:
        """What the regime advises, in one sentence."""
        return f"regime {self.regime} ({self.shares[self.regime]:.0%} of resampled boundaries): {ADVICE[self.regime]}"


def diagnose(
    first: str,
    second: str,
    task: Task,
    rows: pd.DataFrame,
    *,
    device: str = "",
    examples: int = EXAMPLES,
    max_length: int = MAX_LENGTH,
    seed: int = 0,
) -> Diagnosis:
    """Measure how two pruned networks are connected, and find their regime.

    Args:
        first: A checkpoint, as for `open_subject`.
        second: Another one, pruned from the same network with the same mask and trained from another seed.
        task: Their task. Examples to train on are evaluated; where it has none, the others.
        rows: Rows of the table `regimes`, from which the boundaries are learned.
        device: Device of the networks; empty for the GPU where there is one.
        examples: Number of examples that are evaluated; all where there are fewer.
        max_length: Number of tokens after which a text is cut off.
        seed: Seed of the draw of examples, and of the resampling.

    Returns:
        The diagnosis. A pair without a common mask is measured like any other, with a warning.

    Raises:
        UserError: A checkpoint cannot be opened, the networks have other shapes, classes or settings or the same
            weights, answers are not finite or the same for all examples, or there are too few examples or rows.

    Source: Zhou et al. (2023), "A Three-regime Model of Network Pruning", section 3.
    """
    known = rows[rows["temperature_kind"] == KIND]
    if known.empty:
        raise UserError(f"the table regimes has no row of the kind {KIND}, from which the boundaries are learned")
    split: Literal["train", "validation"] = "train" if len(task.train) else "validation"
    available = min(examples, len(task.train) or len(task.validation))
    if available < FEWEST:
        raise UserError(f"a pair of networks is compared on {FEWEST} examples or more, not on {available}")
    boundaries = learn(cells(known))
    settings: Any = {"device": device, "examples": examples, "max_length": max_length, "seed": seed, "split": split}
    pair = open_pair(first, second, task, **settings)
    wrong, answers = _on_the_line(pair, seed)
    outputs = [each.softmax(-1).numpy() for each in answers]
    for name, output in zip(pair.names, outputs, strict=True):
        usual = np.median(output, axis=0)
        if (np.abs(output - usual).max(1) > CONSTANT).sum() < 2:
            raise UserError(
                f"checkpoint {name} gives all examples the same output, at most one apart, so that it has no regime"
            )
    lmc, cka = float(connectivity(wrong.mean(1))), linear_cka(*outputs)
    own = pair.subject.model.task
    return Diagnosis(
        checkpoints=(first, second),
        task=task.name,
        classes=own.label_names,
        split=split,
        examples=wrong.shape[1],
        errors=tuple(wrong.mean(1).tolist()),
        lmc=lmc,
        cka=cka,
        cka_unbiased=unbiased_linear_cka(*outputs),
        densities=pair.densities,
        common_mask=pair.common_mask,
        boundaries=boundaries,
        regime=str(boundaries.regimes(lmc, cka)),
        shares=_shares(wrong, outputs, resampled(known, seed, DRAWS), seed),
        notes=(*pair.notes, *([WITHOUT_TRAINING] if split == "validation" else [])),
        warnings=(*_warnings_on_answers(answers, own, pair.names), *_warnings_on_masks(pair, known["density"])),
    )


def lines(found: Diagnosis) -> Iterator[str]:
    """A diagnosis as text.

    Yields:
        Lines: notes, what was measured, warnings, and the advice.
    """
    yield from (f"note: {note}" for note in found.notes)
    yield f"errors {found.errors[0]:.3f} and {found.errors[-1]:.3f}, at most {max(found.errors):.3f} between them"
    yield f"linear mode connectivity {found.lmc:.3f}, boundary {found.boundaries.lmc:.3f}"
    yield f"CKA {found.cka:.3f} (without bias {found.cka_unbiased:.3f}), boundary {found.boundaries.cka:.3f}"
    yield f"density {found.densities[0]:.3f} and {found.densities[1]:.3f}, common mask {found.common_mask:.1%}"
    yield from (f"warning: {warning}" for warning in found.warnings)
    yield "draws of boundaries and examples: " + ", ".join(
        f"{name} {share:.0%}" for name, share in found.shares.items()
    )
    yield found.advice
    yield TRANSFER


def document(found: Diagnosis) -> str:
    """A diagnosis as JSON.

    Returns:
        One JSON object with the attributes of `Diagnosis`; `format` is the version of its form.
    """
    content = {"format": FORMAT, "prunecast": __version__} | asdict(found) | {"advice": found.advice, "scope": TRANSFER}
    return json.dumps(content, indent=1, allow_nan=False)


def _on_the_line(pair: Pair, seed: int) -> tuple[NDArray[np.bool_], list[Tensor]]:
    """Which examples are answered wrongly at each point (points, n), and the logits (n, classes) of both ends."""
    model, examples = pair.subject.model.model, pair.subject.model.examples
    order = torch.from_numpy(generator(seed, "statistics").permutation(len(examples)))  # a split may be sorted by class

    def answers() -> Tensor:
        _take_statistics(model, examples, order[:STATISTICS])
        return logits(model, examples)

    wrong: list[NDArray[np.bool_]] = []
    ends: list[Tensor] = []
    points = along(model, pair.first, pair.second, answers)
    for number, found in enumerate(track(points, "evaluating networks on the line", POINTS)):
        finite = found.isfinite().all(1)
        if number in (0, POINTS - 1):
            if not finite.all():
                raise UserError(f"checkpoint {pair.names[len(ends)]} gives answers that are not finite numbers")
            ends.append(found)
        wrong.append(((found.argmax(1) != examples.labels) | ~finite).numpy())
    return np.stack(wrong), ends


@torch.no_grad()
def _take_statistics(model: nn.Module, examples: Examples, rows: Tensor) -> None:
    """Replace the running statistics of all batch norms, if there are any, by those over some examples."""
    with statistics_anew(model) as norms:
        for part in rows.tensor_split(-(-len(rows) // BATCH)) if norms else ():
            model(**batch_of(examples, part, device_of(model)))


def _shares(
    wrong: NDArray[np.bool_], outputs: Sequence[NDArray[np.floating]], spread: Sequence[Boundaries], seed: int
) -> dict[str, float]:
    """How often each regime is found, each time with other boundaries and examples drawn with replacement."""
    draw = generator(seed, "diagnosis")
    found = []
    for boundaries in spread:
        rows = draw.integers(wrong.shape[1], size=wrong.shape[1])
        with suppress(UserError):  # a draw of examples that all have the same output has no regime
            cka = linear_cka(outputs[0][rows], outputs[1][rows])
            found.append(str(boundaries.regimes(connectivity(wrong[:, rows].mean(1)), cka)))
    return {name: found.count(name) / len(spread) for name in REGIMES}


def _warnings_on_answers(answers: Sequence[Tensor], task: Task, names: Sequence[str]) -> Iterator[str]:
    labels = task.validation.labels
    majority = np.bincount(labels).max() / len(labels)
    for scores, name in zip(answers, names, strict=True):
        predicted = scores.argmax(1).numpy()
        if (predicted == labels).mean() <= majority:
            yield f"{name} is no more accurate than the majority class, so that its regime means nothing"
        if order := classes.likely_order(predicted, labels, task.label_names):
            yield f"{name}: {order}"


def _warnings_on_masks(pair: Pair, learned: "pd.Series[float]") -> Iterator[str]:
    if pair.common_mask < COMMON:
        but = "neither of these is pruned" if min(pair.densities) == 1 else "these two do not"
        yield f"the regimes were learned from pairs that share parent and mask; {but}"
    elif not learned.min() / NEAR <= min(pair.densities) <= learned.max() * NEAR:
        yield (
            f"the regimes were learned at densities from {learned.min():g} to {learned.max():g}, and this pair has "
            f"{min(pair.densities):.3g}"
        )
