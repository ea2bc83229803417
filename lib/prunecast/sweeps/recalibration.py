"""Recalibration of batch normalisation after pruning, whose running statistics are those of the dense model."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.models.inputs import Examples, batch_of, device_of, prepare
from prunecast.networks.batch_norm import statistics_anew
from prunecast.progress import track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import SCOPES, Pruner, cut, pruned_counts, rank, sparsity

BATCH = 128


@torch.no_grad()
def recalibrate(model: nn.Module, images: Examples) -> None:
    """Replace the running means and variances of all batch norms by those over some images.

    Args:
        model: The network, changed in place; its batch norms are in evaluation mode afterwards.
        images: The images; their labels are not used.
    """
    with statistics_anew(model):
        for rows in torch.split(torch.arange(len(images)), BATCH):
            model(**batch_of(images, rows, device_of(model)))


def recalibrated(subject: TrainedModel, thresholds: Sequence[float], examples: int, images: int) -> pd.DataFrame:
    """Accuracy of pruned models before and after recalibration: rows of the table `recalibration`.

    The statistics are taken over the first images of the training set, whose labels are not used.

    Args:
        subject: A trained model with batch norms; its weights and statistics are restored at the end.
        thresholds: Percentile thresholds, in tenths of the weights.
        examples: Number of validation examples to evaluate, from the first.
        images: Number of training images to take statistics over.

    Returns:
        A row for each scope and threshold, with sparsity and both accuracies as fractions.
    """
    training = prepare(subject.task.train.first(images), None, 0)
    rows = torch.arange(min(examples, len(subject.examples)))
    dense = {name: buffer.clone() for name, buffer in subject.model.named_buffers()}
    records = []
    for scope in SCOPES:
        ranking = rank(subject.weights, magnitude, scope)
        with Pruner(subject.weights, magnitude, ranking.groups) as pruner:
            for threshold in track(thresholds, f"recalibrating {subject.name}, {scope} scope"):
                counts = pruned_counts(ranking, "percentile", threshold)
                pruner.prune(cut(ranking, counts))
                before = evaluate(subject.model, subject.examples, rows).accuracy
                recalibrate(subject.model, training)
                after = evaluate(subject.model, subject.examples, rows).accuracy
                for name, buffer in subject.model.named_buffers():
                    buffer.copy_(dense[name])
                records.append((scope, threshold, sparsity(ranking, counts), before, after))
    columns = ["scope", "threshold", "sparsity", "accuracy", "recalibrated"]
    table = pd.DataFrame(records, columns=columns)
    return table.assign(model=subject.name, eval_examples=len(rows), images=len(training))
