"""Recalibration of batch normalisation after pruning, whose running statistics are those of the dense model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from prunecast.errors import check_recalibrate
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.models.inputs import Examples, batch_of, device_of, prepare
from prunecast.networks.batch_norm import running_statistics, statistics_anew
from prunecast.progress import track
from prunecast.pruning.criteria import Criterion, Weights, magnitude
from prunecast.pruning.masks import SCOPES, Cuts, Pruner, cut, pruned_counts, rank, sparsity

BATCH = 128  # images that pass together, at most


def recalibrating(subject: TrainedModel, count: int, processor: Any = None) -> TrainedModel:
    """The same model, to be recalibrated on unlabelled images whenever it is pruned.

    The images are drawn at random from the training split, or from the examples that are evaluated where a user's
    data have no other. A text classifier, and a network without batch norms, is returned as it is.

    Args:
        subject: A trained model.
        count: Number of images, all where there are fewer; 0 for no recalibration.
        processor: What prepares its inputs; None for the image networks of this package.

    Returns:
        The model, with the images in `recalibrate_on`.

    Raises:
        UserError: The number is 1 or negative.
    """
    task = subject.task
    if not check_recalibrate(count) or task.kind != "image" or not running_statistics(subject.model):
        return subject
    images = (task.train if len(task.train) else task.validation).sample(count, subject.seed)
    return replace(subject, recalibrate_on=prepare(images, processor, 0))


@torch.no_grad()
def recalibrate(model: nn.Module, images: Examples) -> None:
    """Replace the running means and variances of all batch norms by those over some images.

    Args:
        model: The network, changed in place; its batch norms are in evaluation mode afterwards.
        images: The images; their labels are not used.
    """
    with statistics_anew(model):
        for rows in torch.tensor_split(torch.arange(len(images)), -(-len(images) // BATCH)):  # of equal weight
            model(**batch_of(images, rows, device_of(model)))


class ModelPruner(Pruner):
    """Prunes a model as `Pruner` does, and takes the statistics of its batch norms anew after each pruning.

    Where nothing is pruned, the statistics are the model's own: its dense accuracy is not that of other statistics.
    At the end of the `with` block statistics are restored, as weights are.

    Attributes:
        model: The model, whose running statistics are overwritten in single precision.
        images: Images to take them over, labels not used; None for a `Pruner` alone.
        own: Copies of the statistics as they were before any pruning; empty where there is nothing to recalibrate.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Weights,
        criterion: Criterion,
        groups: Mapping[str, list[str]],
        images: Examples | None,
    ):
        super().__init__(weights, criterion, groups)
        self.model, self.images = model, images
        self.own = [] if images is None else [statistic.clone() for statistic in running_statistics(model)]

    def prune(self, cuts: Cuts) -> None:
        """Prune as `Pruner.prune` does, and recalibrate where there is anything to recalibrate."""
        if cuts is self.cuts:
            return
        super().prune(cuts)
        if self.images is None or not self.own:
            return
        if all(place.score == -np.inf for place in cuts.values()):
            self._restore_statistics()
        else:
            recalibrate(self.model, self.images)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        self._restore_statistics()

    def _restore_statistics(self) -> None:
        for statistic, own in zip(running_statistics(self.model) if self.own else [], self.own, strict=True):
            statistic.copy_(own)


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
