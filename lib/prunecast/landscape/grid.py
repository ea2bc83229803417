"""The grid of a study of the three regimes: dense networks are trained, pruned, trained again and compared in pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from prunecast.cache import Key, keep_row, kept_folder, key_of, row_at
from prunecast.datasets.tasks import Task
from prunecast.landscape.connectivity import along, connectivity
from prunecast.landscape.optimisation import Images, Recipe, fit
from prunecast.landscape.similarity import linear_cka, unbiased_linear_cka
from prunecast.landscape.stacks import State, logits, recalibrate, stacked, unstacked
from prunecast.landscape.temperature import Data, Grid, data_of, noise_scale, recipes
from prunecast.networks.preresnet import PreResNet
from prunecast.networks.vision import ImageClassifier, pixel_standards
from prunecast.progress import note, track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import MAXIMUM, cut, masks, pruned_counts, rank
from prunecast.seeding import seed_everything

STAGE = "regimes"
MEASURED = ("test_error", "train_error", "lmc", "cka", "cka_unbiased")


@dataclass(frozen=True)
class Cell:
    """A place in a grid.

    Attributes:
        seed: Number of the dense network.
        temperature: Value of the varied setting.
        density: Share of the weights left.
    """

    seed: int
    temperature: float
    density: float

    def name_of(self, retrain_seed: int) -> str:
        """What the training of one of its networks is seeded with."""
        return f"{self.seed}/{self.temperature:g}/{self.density:g}/{retrain_seed}"


def measure(task: Task, grid: Grid, study: str, folder: Path) -> pd.DataFrame:
    """Fill a grid; what an earlier run has filled is read.

    Args:
        task: The task, of images.
        grid: The grid.
        study: Name of the study.
        folder: Folder for the dense networks and the filled cells.

    Returns:
        Rows of the table `regimes`, without regimes: one for each trained network of each cell.

    Raises:
        UserError: The task does not fit the grid.
    """
    data, key = data_of(task, grid), _key(task, grid)
    rows: list[dict[str, Any]] = []
    for seed in range(grid.dense_seeds):
        dense = _dense(data, grid, seed, folder, key)
        cells = [
            Cell(seed, t, density)
            for t in dict.fromkeys(grid.temperatures)
            for density in dict.fromkeys(grid.densities)
        ]
        rows += _filled(cells, dense, data, grid, folder, key)
    measured = pd.DataFrame(rows).astype(dict.fromkeys(MEASURED, float))
    return measured.assign(study=study, temperature_kind=grid.kind)


def save_pair(task: Task, grid: Grid, cell: Cell, folder: Path, target: Path) -> list[Path]:
    """Save two networks of a cell as checkpoints that `prunecast diagnose` reads.

    Args:
        task: The task, of images of the size of the grid.
        grid: The grid.
        cell: The cell.
        folder: Folder of the dense networks, as in `measure`.
        target: Folder for the checkpoints.

    Returns:
        The folder of each.

    Raises:
        UserError: The task does not fit the grid.
    """
    data = data_of(task, grid)
    dense = _dense(data, grid, cell.seed, folder, _key(task, grid))
    start = pruned(dense[cell.temperature][0], cell.density)
    names, shape = [cell.name_of(seed) for seed in (0, 1)], data.train.pixels.shape[1:]
    places = [target / f"network_{seed}" for seed in (0, 1)]
    for place, end in zip(places, _retrained([(start, name) for name in names], data, grid), strict=True):
        standards = pixel_standards(task.train.images)
        model = ImageClassifier(f"preresnet{grid.depth}_{grid.width}", data.classes, shape, *standards)
        model.network.load_state_dict(end)
        model.save_pretrained(place)
    return places


def pruned(state: State, density: float) -> tuple[State, dict[str, Tensor]]:
    """Prune a network by magnitude, the same share of every convolution; classifier and norms stay.

    Args:
        state: State of the network.
        density: Share of the weights left.

    Returns:
        The state of the pruned network, and by the name of a weight the mask (as the weight), true where it stays.
    """
    weights = {name: weight for name, weight in state.items() if weight.dim() == 4}
    ranking = rank(weights, magnitude, "layer")
    cuts = cut(ranking, pruned_counts(ranking, "percentile", (1 - density) * MAXIMUM))
    stays = masks(weights, magnitude, ranking.groups, cuts)
    return {name: value * stays[name] if name in stays else value for name, value in state.items()}, stays


def _key(task: Task, grid: Grid) -> Key:
    settings = asdict(grid) | dict.fromkeys(("together", "temperatures", "densities", "dense_seeds"))
    return key_of([STAGE], task.fingerprint, settings)


def _dense(data: Data, grid: Grid, seed: int, folder: Path, key: Key) -> dict[float, tuple[State, float]]:
    """The dense networks of a seed, each with its noise scale, by temperature; trained only where there is none."""
    networks = {}
    for recipe, values in recipes(grid.kind, grid.temperatures, grid.dense):
        place = folder / "_".join(["dense", str(seed), *(f"{value:g}" for value in values.values())])
        stated = asdict(recipe) | {"milestones": list(recipe.milestones)}  # as JSON has them
        own = key | {"dense": [stated, sorted(values), seed]}
        kept_folder(place, own, partial(_train_dense, data=data, grid=grid, recipe=recipe, values=values, seed=seed))
        for epochs, value in values.items():
            state = load_file(place / f"{value:g}.safetensors")
            networks[value] = state, noise_scale(recipe, epochs, state)
    return networks


def _train_dense(folder: Path, data: Data, grid: Grid, recipe: Recipe, values: dict[int, float], seed: int) -> None:
    seed_everything(seed, "dense", grid.kind)
    network = _network(data, grid, 1)
    kept = fit(network, data.train, recipe, [f"dense/{seed}"], checkpoints=values, bfloat16=grid.bfloat16)
    for epochs, state in kept.items():
        save_file(state, folder / f"{values[epochs]:g}.safetensors")
    note(f"dense network {seed}: {grid.kind} {', '.join(f'{value:g}' for value in values.values())} trained")


def _filled(
    cells: Sequence[Cell], dense: dict[float, tuple[State, float]], data: Data, grid: Grid, folder: Path, key: Key
) -> Iterator[dict[str, Any]]:
    """The rows of some cells; those that no earlier run has filled are filled in groups."""
    paths = {cell: folder / f"cell_{cell.seed}_{cell.temperature:g}_{cell.density:g}.json" for cell in cells}
    found = {cell: row_at(path, key) for cell, path in paths.items()}
    missing = [cell for cell in cells if found[cell] is None]
    groups = _parts(missing, max(grid.together // grid.retrain_seeds, 1))
    for group in track(groups, f"{grid.kind}, dense network {cells[0].seed}"):
        for cell, row in zip(group, _compared(group, dense, data, grid), strict=True):
            found[cell] = keep_row(paths[cell], key, row)
    for cell in cells:
        row = found[cell] or {}
        noise = dense[cell.temperature][1]
        place = {"dense_seed": cell.seed, "temperature": cell.temperature, "density": cell.density}
        for network in row["networks"]:
            yield place | {"noise_scale": noise, "dense_error": row["dense_error"]} | network


def _compared(
    cells: Sequence[Cell], dense: dict[float, tuple[State, float]], data: Data, grid: Grid
) -> Iterator[dict[str, Any]]:
    """Train the networks of some cells after pruning, all at once, and compare those of each cell in pairs."""
    starts = [pruned(dense[cell.temperature][0], cell.density) for cell in cells]
    seeds = range(grid.retrain_seeds)
    runs = [(start, cell.name_of(seed)) for start, cell in zip(starts, cells, strict=True) for seed in seeds]
    ends = [end for part in _parts(runs, grid.together) for end in _retrained(part, data, grid)]
    temperatures = sorted({cell.temperature for cell in cells})
    _, answers = _answers([dense[temperature][0] for temperature in temperatures], data, grid)
    finite = answers.isfinite().all(2).all(0).tolist()
    errors = [error if good else None for error, good in zip(_errors(answers, data.validation), finite, strict=True)]
    dense_errors = dict(zip(temperatures, errors, strict=True))
    for start, cell in zip(range(0, len(runs), len(seeds)), cells, strict=True):
        networks = _networks(ends[start : start + len(seeds)], data, grid)
        failed = sum(network["test_error"] is None for network in networks)
        if failed:
            where = f"{grid.kind} {cell.temperature:g}, density {cell.density:g}"
            note(f"{failed} of {len(networks)} networks failed to train at {where}")
        yield {"dense_error": dense_errors[cell.temperature], "networks": networks}


def _retrained(runs: Sequence[tuple[tuple[State, State], str]], data: Data, grid: Grid) -> list[State]:
    """Train pruned networks, all at once, each with its masks and its own seed."""
    network = _network(data, grid, len(runs))
    network.load_state_dict(stacked([state for (state, _), _ in runs]))
    stays = stacked([mask for (_, mask), _ in runs])
    names = [f"{grid.kind}/{name}" for _, name in runs]
    fit(network, data.train, grid.retraining, names, stays, bfloat16=grid.bfloat16)
    return unstacked(network.state_dict(), len(runs))


def _networks(ends: Sequence[State], data: Data, grid: Grid) -> list[dict[str, Any]]:
    """Errors of the networks of a cell, with the mean connectivity and similarity of the pairs that each is in."""
    train, validation = _answers(ends, data, grid)
    outputs = train.softmax(2).double().numpy()
    varied = torch.isfinite(train).all(2).all(0).numpy() & (outputs != outputs[:1]).any(2).any(0)
    trained = [number for number, good in enumerate(varied.tolist()) if good]
    rows: list[dict[str, Any]] = [{"retrain_seed": number} | dict.fromkeys(MEASURED) for number in range(len(ends))]
    for number in trained:
        rows[number]["test_error"] = _errors(validation, data.validation)[number]
        rows[number]["train_error"] = _errors(train, data.compared)[number]
    pairs = list(combinations(trained, 2))
    if pairs:
        found = pd.DataFrame(
            {
                "lmc": _connectivities([(ends[a], ends[b]) for a, b in pairs], data, grid),
                "cka": [linear_cka(outputs[:, a], outputs[:, b]) for a, b in pairs],
                "cka_unbiased": [unbiased_linear_cka(outputs[:, a], outputs[:, b]) for a, b in pairs],
            }
        )
        for number in trained:
            mean = found[[number in pair for pair in pairs]].mean()
            rows[number].update((str(name), value) for name, value in mean.items())
    return rows


def _connectivities(pairs: Sequence[tuple[State, State]], data: Data, grid: Grid) -> NDArray[np.floating]:
    """Linear mode connectivity of some pairs, by the error on training images."""
    network = _network(data, grid, len(pairs))

    def errors() -> list[float]:
        recalibrate(network, data.compared.pixels, len(pairs))
        return _errors(logits(network, data.compared.pixels, len(pairs)), data.compared)

    first, second = (stacked([pair[side] for pair in pairs]) for side in (0, 1))
    return connectivity(np.array(list(along(network, first, second, errors))))


def _answers(states: Sequence[State], data: Data, grid: Grid) -> tuple[Tensor, Tensor]:
    """Logits (n, networks, classes) for training and validation images, with the statistics of batch norms anew."""
    network = _network(data, grid, len(states))
    network.load_state_dict(stacked(states))
    recalibrate(network, data.compared.pixels, len(states))
    return tuple(logits(network, images.pixels, len(states)) for images in (data.compared, data.validation))  # type: ignore[return-value]


def _errors(answers: Tensor, images: Images) -> list[float]:
    """Share of the images that each network puts into a wrong class, as a fraction."""
    wrong: list[float] = (answers.argmax(2) != images.labels[:, None]).double().mean(0).tolist()
    return wrong


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _network(data: Data, grid: Grid, copies: int) -> PreResNet:
    network = PreResNet(data.classes, grid.depth, grid.width, data.train.pixels.shape[1], copies)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
