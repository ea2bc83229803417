"""Splits of curves into training and test, the protocols that use each split, and forecasts of groups left out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.hardware import in_processes
from prunecast.seeding import generator
from prunecast.surrogates.features import CurveSet, Forecast, Surrogate
from prunecast.sweeps.curve_metrics import relatives

CONVOLUTIONAL = ("vgg", "resnet")  # families
SHOTS = (1, 3, 5)
HIDDEN_SHARE = 0.2  # of the measured points, in the protocol `points`
EVALUATIONS = ("one_evaluation", "one_evaluation_reused")  # the examples spent are left out of the truth, or in it


Groups = NDArray[np.object_]


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
    """Split by points: a random fifth of the measured points of every curve is forecast from all others.

    Imitates the source study's undisclosed split at its most lenient: the neighbours of each test point are known.

    Args:
        curves: All curves.
        seed: Seed of the draw.

    Yields:
        One fold.
    """
    hidden = (generator(seed, "points").random(curves.accuracy.shape) < HIDDEN_SHARE) & curves.measured
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
    """Split by `relatives`: each group is forecast without a model of its families or pretrained parents.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold for each group.
    """
    groups = relatives(curves.facts)
    protocols = ("leave_one_architecture_out", *EVALUATIONS, *(f"few_shot_{shots}" for shots in SHOTS))
    for group in dict.fromkeys(groups):
        yield Fold(curves.at(groups != group), curves.at(groups == group), protocols)


def leave_one_task_out(curves: CurveSet, seed: int) -> Iterator[Fold]:  # noqa: ARG001 - as `points` has
    """Split by tasks: the curves of each task are forecast from those of all other tasks.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold for each task.
    """
    tasks = LEFT_OUT["leave_one_task_out"](curves.facts)
    for task in dict.fromkeys(tasks):
        yield Fold(curves.at(tasks != task), curves.at(tasks == task), ("leave_one_task_out",))


def leave_one_parent_out(curves: CurveSet, seed: int) -> Iterator[Fold]:  # noqa: ARG001 - as `points` has
    """Split by pretrained parents: the curves of each are forecast from those of all others; so are those from scratch.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold for each parent, and one for the models trained from scratch.
    """
    parents = LEFT_OUT["leave_one_parent_out"](curves.facts)
    for parent in dict.fromkeys(parents):
        yield Fold(curves.at(parents != parent), curves.at(parents == parent), ("leave_one_parent_out",))


def vgg16(curves: CurveSet, seed: int) -> Iterator[Fold]:  # noqa: ARG001 - as `points` has
    """Split by kind: VGG16 and PreResNet-20 are forecast by surrogates trained on transformers alone.

    Args:
        curves: All curves.
        seed: Not used.

    Yields:
        One fold, or none where either kind is missing.
    """
    training = (curves.facts["kind"] == "text").to_numpy()
    tested = curves.facts["family"].isin(CONVOLUTIONAL).to_numpy()
    protocols = ("vgg16", *(f"vgg16_{name}" for name in EVALUATIONS))
    if training.any() and tested.any():
        yield Fold(curves.at(training), curves.at(tested), protocols)


LEFT_OUT: dict[str, Callable[[pd.DataFrame], Groups]] = {  # groups of the rows of `models` that a split leaves out
    "leave_one_architecture_out": relatives,
    "leave_one_task_out": lambda models: models["task"].to_numpy(object),
    "leave_one_parent_out": lambda models: models["parent"].fillna("").to_numpy(object),
}
SPLITS: dict[str, Callable[[CurveSet, int], Iterator[Fold]]] = {
    "points": points,
    "leave_one_model_out": leave_one_model_out,
    "leave_one_architecture_out": leave_one_architecture_out,
    "leave_one_task_out": leave_one_task_out,
    "leave_one_parent_out": leave_one_parent_out,
    "vgg16": vgg16,
}


def leave_one_group_out(curves: CurveSet, groups: Groups, make: Callable[[], Surrogate]) -> Forecast:
    """Forecasts of all curves, each by a surrogate trained without its group.

    Args:
        curves: C curves at T thresholds; for a forecast, no point but the dense one is known.
        groups: Group of each curve (C), such as its `relatives` or its task.
        make: Makes the unfitted surrogate.

    Returns:
        Forecast accuracies (C, T), as fractions, with intervals that are not calibrated.
    """
    parts = _without(curves, groups, [(group,) for group in sorted(set(groups))], make)
    ends = np.full((3, *curves.accuracy.shape), np.nan)
    for (group,), forecast in parts.items():
        ends[:, groups == group] = forecast.predicted, forecast.lower, forecast.upper
    return Forecast(*ends)


def leave_two_groups_out(curves: CurveSet, groups: Groups, make: Callable[[], Surrogate]) -> Forecast:
    """Forecasts of all curves, for every group by surrogates trained without that group as well.

    Args:
        curves: C curves of G groups at T thresholds; for a forecast, no point but the dense one is known.
        groups: Group of each curve (C), such as its `relatives` or its task.
        make: Makes the unfitted surrogate.

    Returns:
        Forecast accuracies (G, C, T), as fractions, with intervals that are not calibrated: row g of the groups in
        sorted order holds each curve as forecast without group g and without the curve's own group.
    """
    names = sorted(set(groups))
    parts = _without(curves, groups, [(name,) for name in names] + list(combinations(names, 2)), make)
    ends = np.full((3, len(names), *curves.accuracy.shape), np.nan)
    for left_out, forecast in parts.items():
        of = groups[np.isin(groups, left_out)]
        for name, other in ((left_out[0], left_out[-1]), (left_out[-1], left_out[0])):
            rows = of == name
            ends[:, names.index(other), groups == name] = (
                forecast.predicted[rows], forecast.lower[rows], forecast.upper[rows],
            )  # fmt: skip
    return Forecast(*ends)


def _without(
    curves: CurveSet, groups: Groups, left_out: Sequence[tuple[str, ...]], make: Callable[[], Surrogate]
) -> dict[tuple[str, ...], Forecast]:
    """Forecasts of the curves of some groups by a surrogate trained on all others, for each tuple of groups."""
    outs = [np.isin(groups, names) for names in left_out]
    jobs = [(curves.at(~out), curves.at(out), make) for out in outs]
    return dict(zip(left_out, in_processes(_blind, jobs, "leaving groups out"), strict=True))


def _blind(training: CurveSet, tested: CurveSet, make: Callable[[], Surrogate]) -> Forecast:
    return make().fit(training).predict(tested.knowing(np.zeros(tested.accuracy.shape, bool)))
