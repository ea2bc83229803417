"""Splits of curves into training and test, and the protocols of the benchmark that use each split."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.seeding import seed_everything
from prunecast.surrogates.features import CurveSet

IMAGE_ARCHITECTURES = ("vgg16_bn", "preresnet20", "fc2", "fc5", "fc12")
CONVOLUTIONAL = ("vgg16_bn", "preresnet20")
SHOTS = (1, 3, 5)
HIDDEN_SHARE = 0.2  # of the points, in the protocol `points`


@dataclass(frozen=True)
class Fold:
    """Curves to learn from, curves to forecast, and the protocols that they serve.

    Attributes:
        training: Curves to learn from.
        tested: Curves (C, T) to forecast, with their true accuracies.
        protocols: Names of the protocols.
        hidden: Whether each tested point is forecast (C, T), in the protocol `points` alone.
    """

    training: CurveSet
    tested: CurveSet
    protocols: tuple[str, ...]
    hidden: NDArray[np.bool_] | None = None


def points(curves: CurveSet, seed: int) -> Iterator[Fold]:
    """Split by points: a random fifth of the points of every curve is forecast from all others.

    Imitates the source study's undisclosed split at its most lenient: the neighbours of each test point are known.

    Args:
        curves: All curves.
        seed: Seed of the draw.

    Yields:
        One fold.
    """
    hidden = seed_everything(seed, "points").random(curves.accuracy.shape) < HIDDEN_SHARE
    hidden[:, 0] = False
    yield Fold(curves.knowing(~hidden), curves, ("points",), hidden)


def leave_one_model_out(curves: CurveSet, seed: int) -> Iterator[Fold]:  # noqa: ARG001 - as `points` has
    """Split by models: all curves of one are forecast from those of the others, and none of its points is known.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold for each model.
    """
    for model in dict.fromkeys(curves.models):
        out = curves.models == model
        yield Fold(curves.at(~out), curves.at(out), ("leave_one_model_out",))


def leave_one_architecture_out(curves: CurveSet, seed: int) -> Iterator[Fold]:  # noqa: ARG001 - as `points` has
    """Split by `relatives`: each group is forecast without a model of its architectures or pretrained parents.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold for each group.
    """
    groups = relatives(curves.facts)
    protocols = ("leave_one_architecture_out", "one_evaluation", *(f"few_shot_{shots}" for shots in SHOTS))
    for group in dict.fromkeys(groups):
        yield Fold(curves.at(groups != group), curves.at(groups == group), protocols)


def vgg16(curves: CurveSet, seed: int) -> Iterator[Fold]:  # noqa: ARG001 - as `points` has
    """Split by kind: VGG16 and PreResNet-20 are forecast by surrogates trained on transformers alone.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold, or none where either kind is missing.
    """
    architectures = curves.facts["architecture"]
    training = (~architectures.isin(IMAGE_ARCHITECTURES)).to_numpy()
    tested = architectures.isin(CONVOLUTIONAL).to_numpy()
    protocols = ("vgg16", "vgg16_one_evaluation", *(f"vgg16_few_shot_{shots}" for shots in SHOTS))
    if training.any() and tested.any():
        yield Fold(curves.at(training), curves.at(tested), protocols)


SPLITS: dict[str, Callable[[CurveSet, int], Iterator[Fold]]] = {
    "points": points,
    "leave_one_model_out": leave_one_model_out,
    "leave_one_architecture_out": leave_one_architecture_out,
    "vgg16": vgg16,
}


def relatives(models: pd.DataFrame) -> NDArray[np.object_]:
    """Groups of models that share an architecture or a pretrained parent, directly or through others.

    The fully connected networks, of whatever depth, are one architecture.

    Args:
        models: Rows of the table `models`.

    Returns:
        Name of the group of each row.
    """
    groups = models["architecture"].str.replace(r"^fc\d+$", "fc", regex=True).to_numpy(copy=True)
    for rows in models.groupby("parent").indices.values():
        names = sorted(set(groups[rows]))
        groups[np.isin(groups, names)] = names[0]
    return groups
