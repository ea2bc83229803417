"""Examples as tensors: prepared once, handed out in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunecast.datasets.tasks import Split
from prunecast.networks.vision import pixel_values

TOKENS = 2048  # of a batch, padding included: the activations of one layer then fit the cache of the processor
IMAGES = 64  # of a batch


@dataclass(frozen=True)
class Examples:
    """Examples in the order of their split.

    Attributes:
        inputs: Token ids (n, longest), padded at the end, or pixel values (n, channels, height, width).
        lengths: Number of tokens (n,) of each text; None for images.
        labels: Index (n,) of the class of each example.
    """

    inputs: Tensor
    lengths: Tensor | None
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def prepare(split: Split, tokenizer: Any, max_length: int) -> Examples:
    """Convert a split to tensors: texts are tokenised, images are scaled.

    Args:
        split: n texts or images with their labels.
        tokenizer: Tokenizer of the model, or None for images.
        max_length: Number of tokens after which a text is cut off.

    Returns:
        The n examples.
    """
    labels = torch.from_numpy(split.labels)
    if tokenizer is None:
        return Examples(pixel_values(split.images), None, labels)
    texts = list(split.inputs)
    ids = tokenizer(texts, truncation=True, max_length=max_length, return_token_type_ids=False)["input_ids"]
    lengths = torch.tensor([len(row) for row in ids])
    padded = torch.full((len(ids), int(lengths.max())), tokenizer.pad_token_id or 0)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = torch.tensor(tokens)
    return Examples(padded, lengths, labels)


def batches(examples: Examples, rows: Tensor) -> Iterator[Tensor]:
    """Positions in `rows`, one batch at a time: texts of similar length together, so that there is little padding."""
    if examples.lengths is None:
        yield from torch.split(torch.arange(len(rows)), IMAGES)
        return
    order = examples.lengths[rows].argsort(stable=True)
    lengths = examples.lengths[rows][order].tolist()
    start = 0
    for stop in range(1, len(lengths) + 1):
        if stop == len(lengths) or (stop + 1 - start) * lengths[stop] > TOKENS:
            yield order[start:stop]
            start = stop


def batch_of(examples: Examples, rows: Tensor) -> dict[str, Tensor]:
    """Assemble one batch.

    Args:
        examples: The evaluation set.
        rows: Positions (n,) of the examples of the batch.

    Returns:
        The arguments of the model's forward pass: `pixel_values` (n, channels, height, width), or `input_ids` and
        `attention_mask` (n, longest), cut to the longest text of the batch.
    """
    if examples.lengths is None:
        return {"pixel_values": examples.inputs[rows]}
    lengths = examples.lengths[rows]
    longest = int(lengths.max())
    return {
        "input_ids": examples.inputs[rows, :longest],
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
    }
