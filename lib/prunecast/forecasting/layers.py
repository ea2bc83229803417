"""Which blocks a transformer can do without: ranked by a forecast, measured, and removed one after the other."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prunecast.cost.latency import latency
from prunecast.datasets.tasks import Task
from prunecast.edge_surrogates.gate_scores import integrated_gradients
from prunecast.errors import UserError, check_epsilon
from prunecast.forecasting.subjects import EXAMPLES, chosen_device, open_subject
from prunecast.graph.blocks import TransformerBlocks
from prunecast.loading import storage
from prunecast.loading.folders import config_of, local_folder
from prunecast.loading.language import language_model, token_blocks
from prunecast.loading.text import most_tokens
from prunecast.models.inputs import device_of
from prunecast.seeding import generator
from prunecast.sweeps.curve_metrics import within_epsilon

TEXT_BLOCKS = 12  # of running text that are evaluated, at most, where no number is given
EPSILON = 0.01  # of accuracy
RISE = 0.1  # of perplexity, relative
USELESS = 5  # times the perplexity of the whole model
CANDIDATES = 4  # blocks of the lowest forecast that are measured in each step
GRADIENT = (
    5  # evaluations that gradients of the gates take: a backward pass takes as long as two, forward passes are three
)
ROUNDS = 7  # timed calls
TOLERANCE = 1e-4  # of losses and answers of one network, computed in two ways


@dataclass(frozen=True)
class LayerSubject:
    """A transformer with what it is evaluated on.

    Attributes:
        name: Name of the checkpoint.
        network: The transformer, whose blocks have gates.
        processor: Its tokenizer or `ImageInputs`.
        floor: Accuracy of the majority class, as a fraction; None for a language model.
        notes: What is evaluated, a sentence for each fact.
    """

    name: str
    network: TransformerBlocks
    processor: Any
    floor: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Removed:
    """A transformer without some of its blocks.

    Attributes:
        blocks: Places of the removed blocks, in their order.
        forecast: Loss in nats that was forecast before it was measured; None for the whole model.
        loss: Measured loss in nats.
        accuracy: Measured accuracy; of a language model, the share of the tokens that are predicted. A fraction.
    """

    blocks: tuple[int, ...]
    forecast: float | None
    loss: float
    accuracy: float

    @property
    def perplexity(self) -> float:
        """Perplexity of a language model per token of its tokenizer."""
        return math.exp(self.loss)


@dataclass(frozen=True)
class Layers:
    """Which blocks a transformer can do without.

    Attributes:
        whole: All blocks.
        single: Each block removed alone, in the order of the blocks.
        sets: The best set found of one block, of two, and so on, until the model is of no use.
        chosen: The largest of all measured sets within epsilon of the whole model; the whole one where there is none.
        epsilon: What may be lost, as in `find_layers`.
        evaluations: What this cost, in evaluations of all examples.
        parameters: Number of parameters before and after the removal of the chosen set.
        milliseconds: Median time of one example before and after.
        seconds: Time of everything but loading the checkpoint.
    """

    whole: Removed
    single: tuple[Removed, ...]
    sets: tuple[Removed, ...]
    chosen: Removed
    epsilon: float
    evaluations: int
    parameters: tuple[int, ...]
    milliseconds: tuple[float, ...]
    seconds: float


def open_classifier(checkpoint: str, task: Task, examples: int | None = None, **settings: Any) -> LayerSubject:
    """Load a classifier whose blocks can be removed, with the examples of a task.

    Args:
        checkpoint: As for `open_subject`.
        task: Its task.
        examples: Number of examples that are evaluated, at most; None for `EXAMPLES`.
        **settings: Further arguments of `open_subject`.

    Returns:
        The classifier.

    Raises:
        UserError: As for `open_subject`, it is a language model, or its blocks are not found.
    """
    folder = local_folder(checkpoint)
    saved = config_of(folder).get("architectures") if folder else None
    if saved and str(saved[0]).endswith(storage.LANGUAGE_MODEL):
        raise UserError(
            f"checkpoint {checkpoint} was saved as {saved[0]}; a language model is given running text, with --corpus"
        )
    subject = open_subject(checkpoint, task, examples=examples or EXAMPLES, **settings)
    model = subject.model
    network = TransformerBlocks(model.model, model.examples)
    return LayerSubject(model.name, network, subject.processor, model.task.majority_accuracy, subject.notes)


def open_language_model(
    checkpoint: str, text: str, *, device: str, examples: int | None, max_length: int, seed: int
) -> LayerSubject:
    """Load a causal language model whose blocks can be removed, with running text.

    Args:
        checkpoint: A folder, a name in `PRUNECAST_MODELS`, or an id of the hub.
        text: The text.
        device: Device of the model; empty for the GPU where there is one.
        examples: Number of blocks of tokens that are evaluated, at most; None for `TEXT_BLOCKS`.
        max_length: Number of tokens of a block, unless the checkpoint takes fewer.
        seed: Seed of the draw of blocks.

    Returns:
        The language model.

    Raises:
        UserError: There is no such checkpoint or device, it is no causal language model, its blocks are not found, or
            the text is shorter than one block.
    """
    place = chosen_device(device)
    model, tokenizer, name = language_model(checkpoint)
    length = min(max_length, most_tokens(model, tokenizer))
    tokens = token_blocks(text, tokenizer, length)
    count = min(examples or TEXT_BLOCKS, len(tokens))
    rows = torch.from_numpy(generator(seed, "layers").permutation(len(tokens))[:count].copy()).sort().values
    drawn = "" if count == len(tokens) else f", drawn at random with seed {seed}"
    start = "" if tokenizer.bos_token_id is None else ", each after the start token"
    sentence = f"{count:,} of {len(tokens):,} blocks of {length} tokens are evaluated{start}{drawn}"
    return LayerSubject(name, TransformerBlocks(model.to(place), tokens[rows]), tokenizer, None, (sentence,))


def find_layers(subject: LayerSubject, epsilon: float | None = None) -> Layers:
    """Find the blocks that a transformer can do without.

    Each block is removed alone; its forecast is the gradient in its gate where all gates are half closed. Then the set
    grows by one block in each step: the forecast of a larger set is the loss of the best set so far, and what the
    removal of the further block added when it was last measured; the `CANDIDATES` sets of the lowest forecast are
    measured, and the best of them stays.

    Args:
        subject: The transformer.
        epsilon: What may be lost: accuracy, as a fraction, or of a language model the relative rise of its perplexity;
            None for `EPSILON` and `RISE`.

    Returns:
        What was found.

    Raises:
        UserError: Epsilon does not lie between 0 and 1, a loss is not finite, or the transformer with the blocks
            physically removed has another loss than with closed gates, or it has one block.

    Source: lazy greedy search as in Minoux (1978), "Accelerated Greedy Algorithms for Maximizing Submodular Set
    Functions", with a fixed number of candidates, since losses of blocks are not submodular.
    """
    usual = RISE if subject.floor is None else EPSILON
    accepted = check_epsilon(usual if epsilon is None else epsilon)
    started = time.monotonic()
    network, depth = subject.network, len(subject.network.graph.edges)
    if depth < 2:
        raise UserError(f"{subject.name} has one block, which must stay")
    gradient = integrated_gradients(network, 1)  # at half-closed gates: at open ones they say far less
    sets: list[tuple[int, ...]] = [(), *((block,) for block in range(depth))]
    forecasts = [None, *(gradient.loss + gradient.scores).tolist()]
    whole, *single = _measured(subject, sets, forecasts, "measuring each block")
    best = min(single, key=_loss)
    found, tried = [best], list(single)
    added = [each.loss - whole.loss for each in single]  # by the removal of each block, when it was last measured
    while _is_of_use(subject, whole, best) and len(best.blocks) < depth - 1:
        others = sorted(set(range(depth)) - set(best.blocks), key=added.__getitem__)[:CANDIDATES]
        sets = [tuple(sorted((*best.blocks, block))) for block in others]
        forecasts = [best.loss + added[block] for block in others]
        measured = _measured(subject, sets, forecasts, f"removing {len(best.blocks) + 1} blocks")
        for block, each in zip(others, measured, strict=True):
            added[block] = each.loss - best.loss
        best = min(measured, key=_loss)
        found.append(best)
        tried += measured
    within = [each for each in tried if _within(subject, whole, each, accepted)]
    chosen = max(within, key=lambda each: (len(each.blocks), -each.loss), default=whole)
    smaller = network.without(chosen.blocks)
    _check_removal(subject, smaller, chosen)
    forms = {"whole": network, "smaller": smaller}
    times = latency({form: partial(each.model, **each.example()) for form, each in forms.items()}, ROUNDS)
    return Layers(
        whole=whole,
        single=tuple(single),
        sets=tuple(found),
        chosen=chosen,
        epsilon=accepted,
        evaluations=GRADIENT + 1 + len(tried) + 1,  # the whole model, and the one with the blocks physically removed
        parameters=tuple(sum(weight.numel() for weight in each.model.parameters()) for each in forms.values()),
        milliseconds=tuple(float(np.median(times[form])) for form in forms),
        seconds=time.monotonic() - started,
    )


def save(subject: LayerSubject, found: Layers, folder: Path) -> None:
    """Save a transformer without the chosen blocks, and read it back.

    Args:
        subject: The transformer.
        found: The blocks.
        folder: Where it is saved, in the format that `from_pretrained` reads; it does not exist, or is empty.

    Raises:
        UserError: The folder cannot be written to, or the model is another one when it is read back.
    """
    smaller = subject.network.without(found.chosen.blocks)
    with storage.saved_beside(folder, smaller.model, subject.processor, subject.name) as saved:
        again: nn.Module = storage.load(saved)[0] if subject.floor is not None else language_model(str(saved))[0]
        again.to(device_of(smaller.model))
        with torch.inference_mode():
            here, there = (model(**smaller.example())["logits"] for model in (smaller.model, again))
        if not torch.allclose(here, there, rtol=TOLERANCE, atol=TOLERANCE):
            raise UserError(f"{subject.name} cannot be saved: read back, it answers otherwise")
        saved.replace(folder)


def _measured(
    subject: LayerSubject, sets: Sequence[tuple[int, ...]], forecasts: Sequence[float | None], label: str
) -> list[Removed]:
    masks = np.ones((len(sets), len(subject.network.graph.edges)), bool)
    for mask, blocks in zip(masks, sets, strict=True):
        mask[list(blocks)] = False
    evaluation = subject.network.evaluate(masks, label)
    losses, correct = evaluation.loss.mean(1), evaluation.correct.mean(1)
    for blocks, loss in zip(sets, losses, strict=True):
        if not np.isfinite(loss):
            raise UserError(f"{subject.name} without blocks {listed(blocks)} has a loss that is not a finite number")
    rows = zip(sets, forecasts, losses.tolist(), correct.tolist(), strict=True)
    return [Removed(*row) for row in rows]


def _loss(each: Removed) -> float:
    return each.loss


def _is_of_use(subject: LayerSubject, whole: Removed, each: Removed) -> bool:
    """Whether a classifier is nearer to the accuracy of the whole one than to that of the majority class."""
    if subject.floor is None:
        return each.loss < whole.loss + math.log(USELESS)
    return each.accuracy > (subject.floor + whole.accuracy) / 2


def _within(subject: LayerSubject, whole: Removed, each: Removed, epsilon: float) -> bool:
    if subject.floor is None:
        return each.loss <= whole.loss + math.log1p(epsilon)
    return bool(within_epsilon(each.accuracy, whole.accuracy, epsilon))


def _check_removal(subject: LayerSubject, smaller: TransformerBlocks, chosen: Removed) -> None:
    loss = smaller.losses(np.ones((1, len(smaller.graph.edges))))[0]
    if abs(loss - chosen.loss) > TOLERANCE * (1 + chosen.loss):
        raise UserError(
            f"{subject.name} with blocks {listed(chosen.blocks)} physically removed has a loss of {loss:.4f}, and "
            f"{chosen.loss:.4f} with them left out: its other parts depend on the places of the blocks"
        )


def listed(blocks: Sequence[int]) -> str:
    """Places of blocks as a list in prose."""
    return ", ".join(map(str, blocks)) or "none"
