"""Evaluation of classifiers on examples that are prepared once and evaluated many times, all or some of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from prunecast.models.inputs import Examples, batch_of, batches, device_of

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of an evaluation, by example.

    Attributes:
        correct: Whether each example is classified correctly (n,).
        loss: Cross-entropy (n,) in nats.
        margin: Logit of the true class less the highest logit of the other classes (n,).
    """

    correct: Tensor
    loss: Tensor
    margin: Tensor

    def of(self, rows: NDArray[np.integer]) -> "Outcome":
        """Select the outcome of some examples.

        Args:
            rows: Positions (m,) among the n examples.

        Returns:
            The outcome of these m examples, in this order.
        """
        return Outcome(self.correct[rows], self.loss[rows], self.margin[rows])

    @property
    def accuracy(self) -> float:
        """Share of examples that are classified correctly, as a fraction."""
        return int(self.correct.sum()) / len(self.correct)

    @property
    def mean_loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.loss.mean())


def evaluate(
    model: nn.Module, examples: Examples, rows: Tensor | None = None, precision: Precision = "float32"
) -> Outcome:
    """Evaluate a classifier.

    Args:
        model: The classifier, on any device.
        examples: The evaluation set.
        rows: Positions (n,) of the examples to evaluate; None for all.
        precision: Arithmetic of the forward pass.

    Returns:
        The outcome (n,) in the order of `rows`, on the processor.
    """
    rows = torch.arange(len(examples)) if rows is None else rows
    return outcome_of(logits(model, examples, rows, precision), examples.labels[rows])


def outcome_of(scores: Tensor, labels: Tensor) -> Outcome:
    """The outcome of an evaluation, from what the classifier answered.

    Args:
        scores: Logits (n, classes).
        labels: Index (n,) of the true classes.

    Returns:
        The outcome (n,).
    """
    true_class = scores.gather(1, labels[:, None])[:, 0]
    return Outcome(
        scores.argmax(-1) == labels,
        functional.cross_entropy(scores, labels, reduction="none"),
        (true_class - scores.scatter(1, labels[:, None], -torch.inf).amax(1)).float(),
    )


@torch.inference_mode()
def logits(
    model: nn.Module, examples: Examples, rows: Tensor | None = None, precision: Precision = "float32"
) -> Tensor:
    """Compute the logits of a classifier.

    Args:
        model: The classifier, on any device.
        examples: The evaluation set.
        rows: Positions (n,) of the examples to evaluate; None for all.
        precision: Arithmetic of the forward pass.

    Returns:
        Logits (n, classes) in the order of `rows`, in double precision and on the processor.
    """
    rows = torch.arange(len(examples)) if rows is None else rows
    device = device_of(model)
    positions, by_batch = [], []
    with fast_linear(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for batch in batches(examples, rows):
            positions.append(batch)
            by_batch.append(model(**batch_of(examples, rows[batch], device))["logits"].double().cpu())
    return torch.cat(by_batch)[torch.cat(positions).argsort()]


@contextmanager
def fast_linear(model: nn.Module) -> Iterator[None]:
    """Inside the context, linear layers on a processor use the float32 matrix product of oneDNN.

    By default torch uses that of MKL, which on some processors is half as fast.
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
    mkldnn: Any = torch.backends.mkldnn  # its functions have no annotations
    return mkldnn.is_available() and layer.weight.is_cpu and layer.weight.dtype == torch.float32


def _onednn_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        return functional.linear(x, layer.weight, layer.bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return product


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute accuracy, F1 and Matthews correlation.

    F1 is that of class 1 where there are two classes, as in GLUE (Wang et al., 2019), and its unweighted mean over the
    classes where there are more. Matthews correlation is between -1 and 1, and 0 for a model that always predicts the
    same class.

    Args:
        logits: Logits (n, classes).
        labels: Index (n,) of the true classes.

    Returns:
        `accuracy` and `f1` as fractions, and `matthews`.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef  # here, because most evaluations need neither

    predicted = logits.argmax(-1)
    average = "binary" if logits.shape[-1] == 2 else "macro"
    return {
        "accuracy": float((predicted == labels).double().mean()),
        "f1": float(f1_score(labels, predicted, average=average, zero_division=0)),
        "matthews": float(matthews_corrcoef(labels, predicted)),
    }


def agreement(logits: Tensor, others: Tensor) -> float:
    """Compute the share of examples that two models put into the same class.

    Args:
        logits: Logits (n, classes) of one model.
        others: Logits (n, classes) of the other.

    Returns:
        The share, as a fraction.
    """
    return float(torch.eq(logits.argmax(-1), others.argmax(-1)).double().mean())
