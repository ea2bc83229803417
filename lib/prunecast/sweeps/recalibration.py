"""Batch normalisation after pruning: its running statistics are those of the dense model, and can be taken anew."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate, prepare
from prunecast.progress import track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import SCOPES, Pruner, cut, pruned_counts, rank, sparsity

BATCH = 128


@torch.no_grad()
def recalibrate(model: nn.Module, images: Tensor) -> None:
    """Replace the running means and variances of all batch norms by those over `images` (n, channels, h, w)."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    for batch in images.split(BATCH):
        model(pixel_values=batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def recalibrated(subject: TrainedModel, thresholds: Sequence[float], examples: int, images: int) -> pd.DataFrame:
    """Accuracy on the first `examples` before and after recalibration: rows of the table `recalibration`.

    The statistics are taken over the first `images` of the training set, whose labels are not used.
    """
    training = prepare(subject.task.train.first(images), None, 0).inputs
    rows = torch.arange(min(examples, len(subject.examples)))
    dense = {name: buffer.clone() for name, buffer in subject.model.named_buffers()}
    found = []
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
                found.append((scope, threshold, sparsity(ranking, counts), before, after))
    columns = ["scope", "threshold", "sparsity", "accuracy", "recalibrated"]
    table = pd.DataFrame(found, columns=columns)
    return table.assign(model=subject.name, eval_examples=len(rows), images=len(training))
