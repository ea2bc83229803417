"""Temperature: how noisy the training of dense networks was, by the setting that a grid varies; a grid and its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.landscape.optimisation import MOMENTUM, Images, Recipe
from prunecast.networks.vision import pixel_standards, pixel_values

Kind = Literal["epochs", "batch_size", "rho", "epochs_constant_rate", "epochs_late_milestone"]
KINDS: tuple[Kind, ...] = get_args(Kind)
HOTTER_WHEN_HIGHER = ("rho",)  # the others are hotter when they are lower
OPTIONS = ("mirrored", "bfloat16")
AT_ONCE, SMALL = 32, 8  # networks, and the side of images in pixels, up to which that is faster
MILESTONES = {"epochs_constant_rate": (), "epochs_late_milestone": (0.75,)}  # the controls of the learning rate


@dataclass(frozen=True)
class Grid:
    """A study of the three regimes.

    Attributes:
        kind: What is varied in the training of the dense networks.
        temperatures: Its values.
        densities: Shares of the weights of each convolution that pruning leaves.
        dense_seeds: Number of dense networks for each temperature.
        retrain_seeds: Number of networks trained from each pruned one, at least 2.
        depth: Layers of the PreResNet.
        width: Channels of its first stage.
        side: Height and width, in pixels, that images are reduced to.
        train_examples: Training images, from the first.
        compared_examples: Of these, those on which networks are compared and statistics of batch norms taken anew.
        eval_examples: Validation images, from the first.
        dense: Training of the dense networks, before `kind` varies it.
        retraining: Training after pruning.
        together: Networks that are trained at once, at most.
        bfloat16: Whether products of the training are computed in bfloat16.
    """

    kind: Kind
    temperatures: tuple[float, ...]
    densities: tuple[float, ...]
    dense_seeds: int
    retrain_seeds: int
    depth: int
    width: int
    side: int
    train_examples: int
    compared_examples: int
    eval_examples: int
    dense: Recipe
    retraining: Recipe
    together: int
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Refuse a grid that shows nothing or cannot be measured.

        Raises:
            UserError: There are fewer than two temperatures, densities or networks to compare, or a density is none.
        """
        for number in (*self.temperatures, *self.densities):
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise UserError(f"temperatures and densities are numbers; {number!r} is none")
        least = {"depth": 1, "width": 1, "side": 4, "train_examples": 1, "compared_examples": 4, "eval_examples": 1}
        least |= {"together": 1, "dense_seeds": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise UserError(f"{name} of a grid is {number} or more, not {getattr(self, name)}")
        for recipe in (self.dense, self.retraining):
            for name in ("epochs", "batch_size", "learning_rate"):
                if getattr(recipe, name) <= 0:
                    raise UserError(f"{name} of a training is a positive number, not {getattr(recipe, name)}")
        for name, count, what in (
            (self.kind, len(set(self.temperatures)), "temperatures"),
            ("densities", len(set(self.densities)), "densities"),
            ("retrain_seeds", self.retrain_seeds, "networks trained from each pruned one"),
        ):
            if count < 2:
                raise UserError(f"a grid compares two {what} or more; {name} gives {count}")
        for density in self.densities:
            if not 0 < density <= 1:
                raise UserError(f"a density is a share of the weights above 0, at most 1, not {density:g}")
        recipes(self.kind, self.temperatures, self.dense)


def grids(
    values: Mapping[Kind, Sequence[float]], densities: Sequence[float], fewer: Sequence[float], **settings: Any
) -> list[Grid]:
    """The grids of a study, one for each kind of temperature that it has values of.

    Args:
        values: Values by kind; a kind without values has no grid.
        densities: Densities where `epochs` is varied.
        fewer: Densities where something else is.
        **settings: All other attributes of `Grid`.

    Returns:
        The grids.

    Raises:
        UserError: A grid shows nothing, or there is none.
    """
    found = [
        Grid(kind, tuple(given), tuple(densities if kind == "epochs" else fewer), **settings)
        for kind, given in values.items()
        if given
    ]
    if not found:
        raise UserError(f"a study of the regimes needs values of {', '.join(values)} or of several of these")
    return found


def settings_of(
    seeds: Sequence[int],
    network: Sequence[int],
    images: Sequence[int],
    training: Sequence[float],
    options: Sequence[str],
) -> dict[str, Any]:
    """The settings of a grid from the lists of a page's parameters.

    Args:
        seeds: Numbers of dense networks and of networks trained from each pruned one.
        network: Layers of the network and channels of its first stage.
        images: Side of an image, and numbers of training, compared and validation images.
        training: Epochs before and after pruning, batch size, learning rate and weight decay.
        options: Any of `OPTIONS`.

    Returns:
        Attributes of `Grid` by name. Small images are trained `AT_ONCE`, larger ones one network at a time, which is
        no slower.

    Raises:
        UserError: A list has another length, or an option is unknown.
    """
    lists: dict[str, tuple[Sequence[Any], int]] = {"seeds": (seeds, 2), "network": (network, 2), "images": (images, 4)}
    for name, (given, count) in (lists | {"training": (training, 5)}).items():
        if len(given) != count or not all(isinstance(value, int | float) for value in given):
            raise UserError(f"{name} is a list of {count} numbers, not {list(given)}")
    if unknown := [option for option in options if option not in OPTIONS]:
        raise UserError(f"there is no option {unknown[0]!r}; there are {', '.join(OPTIONS)}")
    before, after, batch_size, learning_rate, weight_decay = training
    common: dict[str, Any] = {"batch_size": int(batch_size), "learning_rate": learning_rate}
    common |= {"weight_decay": weight_decay, "mirrored": "mirrored" in options}
    names = ("side", "train_examples", "compared_examples", "eval_examples")
    return dict(zip(names, images, strict=True)) | {
        "dense_seeds": seeds[0],
        "retrain_seeds": seeds[1],
        "depth": network[0],
        "width": network[1],
        "dense": Recipe(int(before), **common),
        "retraining": Recipe(int(after), **common),
        "together": AT_ONCE if images[0] <= SMALL else 1,
        "bfloat16": "bfloat16" in options,
    }


def recipes(kind: Kind, values: Sequence[float], base: Recipe) -> list[tuple[Recipe, dict[int, float]]]:
    """The trainings of dense networks that a range of temperatures needs.

    Args:
        kind: What is varied. `epochs` stops one training early; `epochs_constant_rate` and `epochs_late_milestone` do
            so with a learning rate that stays, and with one that falls once, later; `batch_size` keeps the number of
            steps of `base`; `rho` is the radius of sharpness-aware minimisation.
        values: The values of the setting.
        base: The other settings.

    Returns:
        A training for each network, with the number of epochs after which each value is reached.

    Raises:
        UserError: There is no such kind, or a value that it cannot take.
    """
    _check(kind, values, base)
    if kind == "batch_size":
        sizes = [
            replace(base, batch_size=int(size), epochs=round(base.epochs * size / base.batch_size)) for size in values
        ]
        if not all(recipe.epochs for recipe in sizes):
            raise UserError(
                f"batch size {min(values):g} takes the steps of {base.epochs} epochs in less than half of one"
            )
        return [(recipe, {recipe.epochs: size}) for recipe, size in zip(sizes, values, strict=True)]
    if kind == "rho":
        return [(replace(base, rho=float(rho)), {base.epochs: rho}) for rho in values]
    recipe = replace(base, milestones=MILESTONES.get(kind, base.milestones))
    return [(recipe, {int(epochs): epochs for epochs in values})]


@dataclass(frozen=True)
class Data:
    """Standardised images of a task, reduced to the size of a grid."""

    train: Images
    compared: Images
    validation: Images
    classes: int


def data_of(task: Task, grid: Grid) -> Data:
    """Prepare the images of a task for a grid.

    Args:
        task: A task of images.
        grid: The grid.

    Returns:
        The images, averaged over square areas where they are larger than the grid's, and standardised by channel.

    Raises:
        UserError: The task is not of images, or its images cannot be reduced to the size.
    """
    if task.kind != "image":
        raise UserError(f"the three regimes are studied on images; task {task.name!r} consists of {task.kind}s")
    height, width = task.train.images.shape[1:3]
    if height != width or height % grid.side:
        raise UserError(f"images of {height} by {width} pixels cannot be averaged to {grid.side} by {grid.side}")
    mean, deviation = pixel_standards(task.train.images)
    scale = height // grid.side

    def images(split: Split) -> Images:
        pixels = torch.nn.functional.avg_pool2d(pixel_values(split.images), scale)
        standard = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
        return Images(standard, torch.from_numpy(np.asarray(split.labels)).long())

    train, compared = (task.train.first(most) for most in (grid.train_examples, grid.compared_examples))
    return Data(images(train), images(compared), images(task.validation.first(grid.eval_examples)), task.classes)


def reduced(task: Task, side: int) -> Task:
    """A task with its images averaged over square areas, for checkpoints of a grid.

    Args:
        task: A task of square images whose side is a multiple of `side`.
        side: Height and width of the averaged images, in pixels.

    Returns:
        The task; pixel values are rounded.
    """

    def averaged(split: Split) -> Split:
        count, height, _, channels = split.images.shape
        areas = split.images.reshape(count, side, height // side, side, height // side, channels)
        return Split(areas.mean((2, 4)).round().astype(np.uint8), split.labels)

    return replace(task, train=averaged(task.train), validation=averaged(task.validation))


def from_hot_to_cold(kind: str, values: Sequence[float]) -> list[float]:
    """The values of a setting, each once, from the hottest to the coldest."""
    return sorted(set(values), reverse=kind in HOTTER_WHEN_HIGHER)


def noise_scale(recipe: Recipe, epochs: int, state: Mapping[str, Tensor]) -> float:
    """Noise of the last steps relative to the size of the weights.

    The learning rate in the last epoch over batch size, one minus momentum, and the mean square of the weights of
    convolutions: a network with batch norms is the same at any scale of these weights, so that a step turns them the
    more the smaller they are (Li et al., 2020). A cousin of the effective noise scale of Zhang et al. (2026).

    Args:
        recipe: How the network was trained.
        epochs: Number of epochs after which training stopped.
        state: State of the network.

    Returns:
        The noise scale, without unit.
    """
    squares = np.concatenate([t.double().square().flatten().numpy() for t in state.values() if t.dim() == 4])
    return recipe.rate_in(epochs - 1) / (recipe.batch_size * (1 - MOMENTUM) * float(squares.mean()))


def _check(kind: str, values: Sequence[float], base: Recipe) -> None:
    if kind not in KINDS:
        raise UserError(f"there is no temperature {kind!r}; there are {', '.join(KINDS)}")
    whole = kind != "rho"
    most = base.epochs if kind.startswith("epochs") else float("inf")
    for value in values:
        if value <= 0 or value > most or (whole and value != int(value)):
            limit = f" up to the {base.epochs} of the training" if kind.startswith("epochs") else ""
            raise UserError(
                f"{kind} is {'a positive whole number' if whole else 'a positive number'}{limit}, not {value:g}"
            )
