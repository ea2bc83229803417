"""Weights of a model as entries to be pruned: which ones, their scores, and a context in which only some are left."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.inputs import batch_of, device_of, prepare
from prunecast.pruning import criteria

CALIBRATION_EXAMPLES = 256  # training examples of the data-dependent criteria
BATCH = 64  # of them at a time


def every_weight(model: nn.Module) -> dict[str, Tensor]:
    """The weights of every linear and convolution layer by name, the output layer included.

    Source: Wang et al. (2026), who prune these.
    """
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return {f"{name}.weight": module.weight for name, module in model.named_modules() if isinstance(module, kinds)}


@contextmanager
def only(weights: Mapping[str, Tensor], retained: Mapping[str, Tensor]) -> Iterator[None]:
    """A context in which all weights but the retained ones are zero; they are restored at the end.

    Args:
        weights: Weights by name.
        retained: Boolean masks by name, in the shapes of the weights; weights without a mask are retained.
    """
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        try:
            for name, mask in retained.items():
                weights[name].mul_(mask.to(weights[name].device))
            yield
        finally:
            for name, weight in weights.items():
                weight.copy_(before[name])


def calibration_batches(subject: TrainedModel) -> list[dict[str, Tensor]]:
    """Calibration batches of a classifier: its first `CALIBRATION_EXAMPLES` training examples, with labels.

    Args:
        subject: The classifier.

    Returns:
        Inputs by the names of the model's arguments, and `labels`, in batches of `BATCH` on the model's device.
    """
    tokenizer = storage.load(subject.folder)[1]
    examples = prepare(subject.task.train.first(CALIBRATION_EXAMPLES), tokenizer, subject.spec.max_length)
    device = device_of(subject.model)
    parts = torch.split(torch.arange(len(examples)), BATCH)
    return [batch_of(examples, part, device) | {"labels": examples.labels[part].to(device)} for part in parts]


def weight_scores(
    names: Sequence[str],
    model: nn.Module,
    weights: Mapping[str, Tensor],
    batches: Callable[[], criteria.Batches],
    seed: int,
) -> dict[str, dict[str, Tensor]]:
    """Scores of weights under several criteria.

    Args:
        names: Criteria, with or without data.
        model: The model.
        weights: Its weights by layer.
        batches: Makes calibration batches, for data-dependent criteria alone.
        seed: Seed of the random criterion.

    Returns:
        Scores by criterion and layer, in the shapes of the weights.

    Raises:
        UserError: If a criterion is unknown.
    """
    scores: dict[str, dict[str, Tensor]] = {}
    for name in names:
        if name in criteria.DATA_DEPENDENT:
            scores[name] = criteria.data_dependent_scores(name, model, weights, batches())
        elif name in criteria.CRITERIA:
            criterion = criteria.criterion_called(name, seed)
            scores[name] = {layer: criterion(layer, weight) for layer, weight in weights.items()}
        else:
            known = ", ".join((*criteria.CRITERIA, *criteria.DATA_DEPENDENT))
            raise UserError(f"there is no criterion {name!r}; there are {known}")
    return scores
