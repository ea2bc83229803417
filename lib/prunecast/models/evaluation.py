"""Accuracy and loss of a model on examples that are prepared once and evaluated many times, in whole or in part."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor, nn
from torch.nn import functional

from prunecast.datasets.tasks import Split
from prunecast.models.vision import pixel_values

Precision = Literal["float32", "bfloat16"]
TOKENS = 2048  # of a batch, padding included: the activations of one layer then stay in the cache
IMAGES = 64


@dataclass(frozen=True)
class Examples:
    """Examples in the order of their split: `inputs` (n, …) token ids, padded at the end, or pixel values.

    `lengths` (n,) counts the tokens of each text and is None for images; `labels` (n,).
    """

    inputs: Tensor
    lengths: Tensor | None
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Outcome:
    """What a model makes of some examples, by example: `correct` (n,), `loss` (n,) cross-entropy in nats, and
    `margin` (n,), the logit of the right class above the highest other one."""

    correct: Tensor
    loss: Tensor
    margin: Tensor

    def of(self, rows: np.ndarray) -> "Outcome":
        """The outcome of some of these examples alone."""
        return Outcome(self.correct[rows], self.loss[rows], self.margin[rows])

    @property
    def accuracy(self) -> float:
        """Share of examples that are classified correctly."""
        return int(self.correct.sum()) / len(self.correct)

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.loss.mean())


def prepare(split: Split, tokenizer: Any, max_length: int) -> Examples:
    """Turn a split into tensors: texts are tokenised once, images are scaled once."""
    labels = torch.from_numpy(split.labels)
    if tokenizer is None:
        return Examples(pixel_values(split.inputs), None, labels)  # type: ignore[arg-type]
    texts = list(split.inputs)
    ids = tokenizer(texts, truncation=True, max_length=max_length, return_token_type_ids=False)["input_ids"]
    lengths = torch.tensor([len(row) for row in ids])
    padded = torch.full((len(ids), int(lengths.max())), tokenizer.pad_token_id or 0)
    for row, pieces in enumerate(ids):
        padded[row, : len(pieces)] = torch.tensor(pieces)
    return Examples(padded, lengths, labels)


def evaluate(
    model: nn.Module, examples: Examples, rows: Tensor | None = None, precision: Precision = "float32"
) -> Outcome:
    """The outcome for `rows` of the examples (n,), all of them by default, in the order of `rows`."""
    rows = torch.arange(len(examples)) if rows is None else rows
    found, labels = logits(model, examples, rows, precision), examples.labels[rows]
    right = found.gather(1, labels[:, None])[:, 0]
    return Outcome(
        found.argmax(-1) == labels,
        functional.cross_entropy(found, labels, reduction="none"),
        (right - found.scatter(1, labels[:, None], -torch.inf).amax(1)).float(),
    )


@torch.inference_mode()
def logits(
    model: nn.Module, examples: Examples, rows: Tensor | None = None, precision: Precision = "float32"
) -> Tensor:
    """The logits (n, classes) of the model for `rows` of the examples, all of them by default, in double precision."""
    rows = torch.arange(len(examples)) if rows is None else rows
    device = next(model.parameters()).device
    places, found = [], []
    with _fast_linear(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for batch in _batches(examples, rows):
            inputs = {name: tensor.to(device) for name, tensor in batch_of(examples, rows[batch]).items()}
            places.append(batch)
            found.append(model(**inputs)["logits"].double().cpu())
    return torch.cat(found)[torch.cat(places).argsort()]


def _batches(examples: Examples, rows: Tensor) -> Iterator[Tensor]:
    """Places in `rows`, a batch each: texts of like length together, so that little is padded."""
    if examples.lengths is None:
        yield from torch.arange(len(rows)).split(IMAGES)
        return
    order = examples.lengths[rows].argsort(stable=True)
    lengths = examples.lengths[rows][order].tolist()
    start = 0
    for stop in range(1, len(lengths) + 1):
        if stop == len(lengths) or (stop + 1 - start) * lengths[stop] > TOKENS:
            yield order[start:stop]
            start = stop


def batch_of(examples: Examples, rows: Tensor) -> dict[str, Tensor]:
    """The inputs of a model for `rows` of the examples (n,), as one batch padded to its longest text."""
    if examples.lengths is None:
        return {"pixel_values": examples.inputs[rows]}
    lengths = examples.lengths[rows]
    longest = int(lengths.max())
    return {
        "input_ids": examples.inputs[rows, :longest],
        "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
    }


@contextmanager
def _fast_linear(model: nn.Module) -> Iterator[None]:
    """Inside the context linear layers on a processor multiply through oneDNN, in the same float32.

    torch hands float32 products to MKL, which on some processors reaches half of what oneDNN does.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear and _for_onednn(module)]
    for layer in layers:
        layer.forward = partial(_onednn_linear, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _for_onednn(layer: nn.Linear) -> bool:
    return torch.backends.mkldnn.is_available() and layer.weight.is_cpu and layer.weight.dtype == torch.float32


def _onednn_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        return functional.linear(x, layer.weight, layer.bias)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, F1 and Matthews correlation of logits (n, classes) against labels (n,).

    F1 is that of class 1 where there are two classes, as in GLUE, and its plain mean over the classes where there are
    more. Matthews correlation lies between -1 and 1, and is 0 for a model that always answers the same.
    """
    answers = logits.argmax(-1)
    average = "binary" if logits.shape[-1] == 2 else "macro"
    return {
        "accuracy": float((answers == labels).double().mean()),
        "f1": float(f1_score(labels, answers, average=average, zero_division=0)),
        "matthews": float(matthews_corrcoef(labels, answers)),
    }


def agreement(logits: Tensor, others: Tensor) -> float:
    """Share of examples that two models put into the same class, by their logits (n, classes)."""
    return float(torch.eq(logits.argmax(-1), others.argmax(-1)).double().mean())
