"""Examples as tensors: prepared once, handed out in batches."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from prunecast.datasets.tasks import Split
from prunecast.errors import UserError
from prunecast.loading.images import ImageInputs
from prunecast.loading.storage import NO_PADDING
from prunecast.loading.text import first_line
from prunecast.networks.vision import pixel_values

TOKENS = 2048  # of a batch, padding included: the activations of one layer then fit the cache of the processor
IMAGES = 64  # of a batch
ALIKE = 1e-3  # logits that differ by less, relative to those of two texts, are the same
ROUNDING = 1e-5  # and relative to the largest logit


@dataclass(frozen=True)
class Examples:
    """Examples in the order of their split, on the processor.

    Attributes:
        inputs: Token ids (n, longest), padded at the end, or pixel values (n, channels, height, width).
        lengths: Number of tokens (n,) of each text; None for images.
        labels: Index (n,) of the class of each example.
        token_types: Which of a pair of texts each token belongs to (n, longest); None where all are of the first.
        groups: A number (n,) for each text; only texts of the same number share a batch. None where all may.
        masked: Whether the model is given an attention mask.
        cut: Number of texts that were cut off.
    """

    inputs: Tensor
    lengths: Tensor | None
    labels: Tensor
    token_types: Tensor | None = None
    groups: Tensor | None = None
    masked: bool = True
    cut: int = 0

    def __len__(self) -> int:
        return len(self.labels)


def prepare(split: Split, processor: Any, max_length: int) -> Examples:
    """Convert a split to tensors: texts are tokenised, images are scaled.

    Args:
        split: n texts, pairs of texts or images, with their labels.
        processor: Tokenizer or `ImageInputs` of the model; None for an `ImageClassifier`.
        max_length: Number of tokens after which a text is cut off.

    Returns:
        The n examples.

    Raises:
        UserError: The tokenizer or the preparation of images cannot take these inputs.
    """
    labels = torch.from_numpy(split.labels)
    if processor is None:
        return Examples(pixel_values(split.images), None, labels)
    if isinstance(processor, ImageInputs):
        return Examples(processor.pixel_values(split.images), None, labels)
    columns = list(zip(*split.inputs, strict=True)) if isinstance(split.inputs[0], tuple) else [split.inputs]
    encoded = _tokenised(processor, columns, truncation=True, max_length=max_length)
    ids = encoded["input_ids"]
    lengths = torch.tensor([len(row) for row in ids])
    if not lengths.all():
        raise UserError(f"the text {str(split.inputs[int(lengths.argmin())])[:60]!r} has no tokens; drop it")
    types = encoded.get("token_type_ids")
    return Examples(
        _padded(ids, lengths, processor.pad_token_id or 0),
        lengths,
        labels,
        _padded(types, lengths, 0) if types and any(map(any, types)) else None,
        cut=_cut(encoded, processor, columns, max_length),
    )


def fitted(model: nn.Module, examples: Examples, name: str) -> Examples:
    """Arrange texts so that a model answers them in batches as it answers each text alone, without padding.

    The shortest and the longest text are answered in one batch and each alone. Where the answers differ, because the
    architecture ignores the attention mask or reads the place of the answer from padding tokens, only texts of equal
    length share a batch, and where even these answers differ, none.

    Args:
        model: The classifier, on any device; without a padding token it is set to take batches all the same.
        examples: The examples.
        name: Name of the checkpoint in errors.

    Returns:
        The examples, padded with the token that the model's configuration names.

    Raises:
        UserError: The model cannot take such an example, or its answers to one text change from call to call.
    """
    lengths = examples.lengths
    if lengths is None:
        _answer(model, examples, [0], name)
        return examples
    config: Any = model.config
    config = config.get_text_config()
    if config.pad_token_id is None:
        config.pad_token_id = NO_PADDING
    arguments = inspect.signature(model.forward).parameters
    padding = torch.arange(examples.inputs.shape[1]) >= lengths[:, None]
    if 0 <= config.pad_token_id < getattr(config, "vocab_size", 0):
        examples = replace(examples, inputs=examples.inputs.masked_fill(padding, config.pad_token_id))
    types = examples.token_types
    if types is not None and (
        "token_type_ids" not in arguments
        or int(types.max()) >= getattr(config, "type_vocab_size", int(types.max()) + 1)
    ):
        examples = replace(examples, token_types=None)
    ends = _ends(examples, padding, config)
    apart = replace(examples, groups=ends * (examples.inputs.shape[1] + 1) + lengths, masked=False)
    usual = (ends == ends.mode().values).nonzero()[:, 0]
    pair = [int(usual[index]) for index in (lengths[usual].argmin(), lengths[usual].argmax())]
    alone = torch.cat([_answer(model, apart, [row], name) for row in (*pair, int(ends.argmin()))])[:2]
    tolerance = max(ALIKE * float((alone[0] - alone[1]).abs().max()), ROUNDING * float(alone.abs().max()))
    if float((_answer(model, apart, pair[:1], name) - alone[:1]).abs().max()) > tolerance:
        raise UserError(
            f"checkpoint {name!r} answers the same text differently from one call to the next, as its architecture "
            f"{config.model_type} may do, so that its answers cannot be compared before and after pruning"
        )
    together = replace(examples, groups=None if bool((ends == ends[0]).all()) else ends)
    if "attention_mask" in arguments and _as_alone(model, together, pair, alone, tolerance):
        return together
    twice = [pair[0], pair[0]]
    in_batches = _as_alone(model, apart, twice, alone[[0, 0]], tolerance)
    return apart if in_batches else replace(apart, groups=torch.arange(len(examples)))


def batches(examples: Examples, rows: Tensor) -> Iterator[Tensor]:
    """Positions in `rows`, one batch at a time: texts of similar length together, so that there is little padding."""
    if examples.lengths is None:
        yield from torch.split(torch.arange(len(rows)), IMAGES)
        return
    order = examples.lengths[rows].argsort(stable=True)
    if examples.groups is not None:
        order = order[examples.groups[rows][order].argsort(stable=True)]
    lengths = examples.lengths[rows][order].tolist()
    groups = [0] * len(lengths) if examples.groups is None else examples.groups[rows][order].tolist()
    start = 0
    for stop in range(1, len(lengths) + 1):
        if (
            stop == len(lengths)
            or groups[stop] != groups[start]
            or (stop + 1 - start) * max(lengths[start], lengths[stop]) > TOKENS
        ):
            yield order[start:stop]
            start = stop


def batch_of(examples: Examples, rows: Tensor, device: torch.device | None = None) -> dict[str, Tensor]:
    """Assemble one batch.

    Args:
        examples: The evaluation set.
        rows: Positions (n,) of the examples of the batch.
        device: Device of the model, from `device_of`; None for the processor.

    Returns:
        The arguments of the model's forward pass, on the device: `pixel_values` (n, channels, height, width), or
        `input_ids` (n, longest), cut to the longest text of the batch, with an `attention_mask` where the model is
        given one or texts differ in length, and `token_type_ids` where there are any.
    """
    if examples.lengths is None:
        inputs = {"pixel_values": examples.inputs[rows]}
    else:
        lengths = examples.lengths[rows]
        longest = int(lengths.max())
        inputs = {"input_ids": examples.inputs[rows, :longest]}
        if examples.masked or bool((lengths != longest).any()):
            inputs["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
        if examples.token_types is not None:
            inputs["token_type_ids"] = examples.token_types[rows, :longest]
    return {argument: tensor.to(device=device) for argument, tensor in inputs.items()}


def device_of(model: nn.Module) -> torch.device:
    """The device of the weights of a model."""
    return next(chain(model.parameters(), model.buffers())).device


def _tokenised(tokenizer: Any, columns: list[Any], **options: Any) -> Any:
    try:
        return tokenizer(*map(list, columns), **options)
    except Exception as error:  # a tokenizer of the library raises whatever its own code does
        kind = "pairs of texts" if len(columns) > 1 else "texts"
        raise UserError(f"the tokenizer of the checkpoint cannot take {kind} ({first_line(error)})") from None


def _cut(encoded: Any, tokenizer: Any, columns: list[Any], max_length: int) -> int:
    """Number of texts that were cut off; a tokenizer in Python does not say it, and reads those of full length anew."""
    if encoded.encodings is not None:
        return sum(bool(each.overflowing) for each in encoded.encodings)
    full = [row for row, tokens in enumerate(encoded["input_ids"]) if len(tokens) >= max_length]
    whole = _tokenised(tokenizer, [[column[row] for row in full] for column in columns])["input_ids"] if full else []
    return sum(len(tokens) > max_length for tokens in whole)


def _padded(rows: list[list[int]], lengths: Tensor, padding: int) -> Tensor:
    padded = torch.full((len(rows), int(lengths.max())), padding)
    for row, tokens in enumerate(rows):
        padded[row, : len(tokens)] = torch.tensor(tokens)
    return padded


def _ends(examples: Examples, padding: Tensor, config: Any) -> Tensor:
    """Number of end tokens (n,) in each text; an encoder with a decoder takes only texts with as many in one batch."""
    if not getattr(config, "is_encoder_decoder", False) or not isinstance(config.eos_token_id, int):
        return torch.zeros(len(examples), dtype=torch.long)
    return ((examples.inputs == config.eos_token_id) & ~padding).sum(1)


@torch.inference_mode()
def _answer(model: nn.Module, examples: Examples, rows: list[int], name: str) -> Tensor:
    """Logits of some examples in one batch, on the processor."""
    inputs = batch_of(examples, torch.tensor(rows), device_of(model))
    try:
        outputs = model(**inputs)
    except Exception as error:  # the code of an architecture may fail in any way
        shape = " by ".join(map(str, next(iter(inputs.values())).shape[1:]))
        kind = f"a text of {shape} tokens" if examples.lengths is not None else f"an image of {shape}"
        raise UserError(f"checkpoint {name!r} fails on {kind} ({first_line(error)})") from None
    if "logits" not in outputs:
        raise UserError(f"checkpoint {name!r} gives no logits, by which its answers could be read")
    logits: Tensor = outputs["logits"]
    return logits.reshape(len(rows), -1).float().cpu()


def _as_alone(model: nn.Module, examples: Examples, rows: list[int], alone: Tensor, tolerance: float) -> bool:
    """Whether the texts of `rows` are answered in one batch as each alone."""
    try:
        together = _answer(model, examples, rows, "")
    except UserError:
        return False
    return together.shape == alone.shape and float((together - alone).abs().max()) <= tolerance
