"""Accuracy and loss of a model on examples that are prepared once and evaluated many times."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from prunecast.tasks import Split
from prunecast.vision import pixel_values

BATCH_SIZE = 64


@dataclass(frozen=True)
class Score:
    """What one evaluation gives: `accuracy` as a fraction, `loss` as mean cross-entropy in nats."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class Batch:
    """Inputs of a forward pass by keyword, and labels (n,)."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor


def prepare(split: Split, tokenizer: Any, max_length: int) -> list[Batch]:
    """Turn a split into batches: texts tokenised once and sorted by length, so that little is padded."""
    labels = torch.from_numpy(split.labels)
    if tokenizer is None:
        pixels = pixel_values(split.inputs)  # type: ignore[arg-type]
        chunks = torch.arange(len(split)).split(BATCH_SIZE)
        return [Batch({"pixel_values": pixels[rows]}, labels[rows]) for rows in chunks]
    texts = list(split.inputs)
    ids = tokenizer(texts, truncation=True, max_length=max_length, return_token_type_ids=False)["input_ids"]
    by_length = torch.tensor([len(row) for row in ids]).argsort(stable=True)
    return [
        Batch(dict(tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")), labels[rows])
        for rows in by_length.split(BATCH_SIZE)
    ]


@torch.inference_mode()
def score(model: nn.Module, batches: list[Batch]) -> Score:
    """Accuracy and mean cross-entropy of `model` over all batches, in float32."""
    device = next(model.parameters()).device
    correct, loss, count = 0, 0.0, 0
    for batch in batches:
        logits = model(**{name: tensor.to(device) for name, tensor in batch.inputs.items()})["logits"]
        labels = batch.labels.to(device)
        correct += int((logits.argmax(-1) == labels).sum())
        loss += float(functional.cross_entropy(logits.double(), labels, reduction="sum"))
        count += len(labels)
    return Score(correct / count, loss / count)
