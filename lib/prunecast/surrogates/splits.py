"""How curves are split into training and test, and which protocols each split serves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from prunecast.seeding import seed_everything
from prunecast.surrogates.features import CurveSet

IMAGE_ARCHITECTURES = ("vgg16_bn", "preresnet20", "fc2", "fc5", "fc12")
CONVOLUTIONAL = ("vgg16_bn", "preresnet20")
SHOTS = (1, 3, 5)
HIDDEN_SHARE = 0.2  # of the points, in the protocol `points`


@dataclass(frozen=True)
class Fold:
    """Curves to learn from, curves to forecast, and the protocols that ask for that."""

    training: CurveSet
    tested: CurveSet
    asked: tuple[str, ...]
    hidden: np.ndarray | None = None  # of the tested curves, in `points` alone


def points(curves: CurveSet, seed: int) -> Iterator[Fold]:
    """One fold: a random fifth of the points of every curve is forecast from all others.

    Imitates the source study's undisclosed split at its most lenient: the neighbours of each test point are known.
    """
    hidden = seed_everything(seed, "points").random(curves.accuracy.shape) < HIDDEN_SHARE
    hidden[:, 0] = False
    yield Fold(curves.knowing(~hidden), curves, ("points",), hidden)


def leave_one_model_out(curves: CurveSet, seed: int) -> Iterator[Fold]:
    """One fold a model: all its curves are forecast from those of the other models, none of its points is known."""
    for model in dict.fromkeys(curves.models):
        out = curves.models == model
        yield Fold(curves.at(~out), curves.at(out), ("leave_one_model_out",))


def leave_one_architecture_out(curves: CurveSet, seed: int) -> Iterator[Fold]:
    """One fold for each group of `relatives`, forecast without a model of its architectures or pretrained parents."""
    groups = relatives(curves.facts)
    asked = ("leave_one_architecture_out", "one_evaluation", *(f"few_shot_{shots}" for shots in SHOTS))
    for group in dict.fromkeys(groups):
        yield Fold(curves.at(groups != group), curves.at(groups == group), asked)


def vgg16(curves: CurveSet, seed: int) -> Iterator[Fold]:
    """One fold: VGG16 and PreResNet-20, forecast by what was learned on transformers alone."""
    architectures = curves.facts["architecture"]
    learned, tested = (
        (~architectures.isin(IMAGE_ARCHITECTURES)).to_numpy(),
        architectures.isin(CONVOLUTIONAL).to_numpy(),
    )
    asked = ("vgg16", "vgg16_one_evaluation", *(f"vgg16_few_shot_{shots}" for shots in SHOTS))
    if learned.any() and tested.any():
        yield Fold(curves.at(learned), curves.at(tested), asked)


SPLITS: dict[str, Callable[[CurveSet, int], Iterator[Fold]]] = {
    "points": points,
    "leave_one_model_out": leave_one_model_out,
    "leave_one_architecture_out": leave_one_architecture_out,
    "vgg16": vgg16,
}


def relatives(models: pd.DataFrame) -> np.ndarray:
    """Group of each row of `models`: they share an architecture or a pretrained parent, directly or through others.

    The fully connected networks, of whatever depth, are one architecture.
    """
    groups = models["architecture"].str.replace(r"^fc\d+$", "fc", regex=True).to_numpy(copy=True)
    for _, rows in models.groupby("parent").indices.items():
        names = sorted(set(groups[rows]))
        groups[np.isin(groups, names)] = names[0]
    return groups
