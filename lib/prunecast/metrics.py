"""What the answers of a classifier are worth, in the figures that papers print."""

import torch
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import Tensor


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
