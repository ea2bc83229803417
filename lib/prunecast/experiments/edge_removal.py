"""Surrogates of the computation graph judged on networks with removed edges, by two protocols."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from prunecast.cache import kept_row, key_of
from prunecast.datasets.tasks import Split, Task
from prunecast.experiments.edge_scores import NET, areas, by_subset, faithfulness
from prunecast.graph import edge_masks, random_dags
from prunecast.graph.blocks import TransformerBlocks
from prunecast.graph.capture import capture
from prunecast.graph.edge_surrogates import ENTRIES, LEAVE_ONE_OUT, MASKS, NONE, EdgeSurrogate, Entry, unfitted
from prunecast.graph.gate_scores import EdgeNorms, Expansion
from prunecast.graph.live_edges import CarryingGradients, FewExamples, LiveEdgeProcess, chosen_masks
from prunecast.graph.structure import MaskedNetwork, Masks, Numbers
from prunecast.models import inputs
from prunecast.models.checkpoints import trained_classifier
from prunecast.models.language import trained_language_model
from prunecast.progress import note, track
from prunecast.seeding import generator

RANDOM_DAG, RESIDUAL_CNN, LANGUAGE_MODEL = "random_dag", "residual_cnn", "language_model"
HALF = 0.5  # keep rate of the published test masks
SAME_MASKS = "other_examples"  # the losses of the same masks on other examples: no surrogate, but the bound of all
CHOSEN, FEW = "live_edges_chosen", "few_examples"
OF_NORMS = ("activation_norm", "path_products")  # surrogates that need a network which measures what its edges carry
TRANSFERRED = 2  # observed masks, in multiples of the edges, whose surrogates forecast masks of every keep rate


@dataclass(frozen=True)
class Protocols:
    """On what surrogates are judged.

    Attributes:
        published_masks: Masks that each keep an edge with probability one half, connected or not.
        fair_masks: Masks with a connected output, at each keep rate.
        keep_rates: Those of the fair protocol, both of observed and of judged masks.
        multiples: Numbers of observed masks, in multiples of the number of edges.
        most_observed: Largest number of observed masks; multiples above it are left out.
    """

    published_masks: int
    fair_masks: int
    keep_rates: tuple[float, ...]
    multiples: tuple[int, ...]
    most_observed: int


@dataclass(frozen=True)
class Subject:
    """A network on three sets of examples.

    Attributes:
        observed: On training examples, which surrogates may use.
        judged: On those that the true losses are measured on.
        other: On as many others.
    """

    observed: MaskedNetwork
    judged: MaskedNetwork
    other: MaskedNetwork


@dataclass(frozen=True)
class Networks:
    """Random networks over graphs, and the examples that they are trained and evaluated on.

    Attributes:
        iterations: Sizes of the graphs.
        nets: Networks of each size.
        seeds: Seeds of the training and of the masks, for each network.
        fair_seeds: The first ones of them, by which the fair protocol is run as well.
        train_examples: Examples of the training.
        epochs: Passes over them.
        observed_examples: Training examples that losses are observed on.
        judged_examples: Validation examples that they are judged on; as many others are kept aside for the bound.
    """

    iterations: tuple[int, ...]
    nets: int
    seeds: int
    fair_seeds: int
    train_examples: int
    epochs: int
    observed_examples: int
    judged_examples: int


def measure(task: Task, networks: Networks, protocols: Protocols, folder: Path) -> pd.DataFrame:
    """Judge every surrogate on random networks; an interrupted run is resumed where it stopped.

    Args:
        task: The task, of images.
        networks: The networks.
        protocols: What surrogates are judged on.
        folder: Folder of the rows.

    Returns:
        Rows of the table `edges`.
    """
    settings = asdict(networks) | dict.fromkeys(("iterations", "nets", "seeds", "fair_seeds"))
    trials = [
        (size, net, seed)
        for seed in range(networks.seeds)
        for net in range(networks.nets)
        for size in networks.iterations
    ]
    rows: list[dict[str, Any]] = []
    for size, net, seed in track(trials, "random graphs"):
        both = seed < networks.fair_seeds
        key = key_of(["edges"], task.fingerprint, settings, asdict(protocols), (size, net, seed), both)
        make = partial(_of_network, task, networks, size, net, seed)
        work = partial(_judged, make, (RANDOM_DAG, size, net, seed), protocols, both)
        rows += kept_row(folder / f"{size}_{net}_{seed}.json", key, work)["rows"]
    return pd.DataFrame(rows)


def measure_classifier(
    name: str, run: str, seed: int, examples: int, protocols: Protocols, folder: Path
) -> pd.DataFrame:
    """Judge every surrogate on the branches of an image classifier, which is trained first if need be.

    Args:
        name: Name of a residual network in `data/models.yml`.
        run: Name of the run in whose folder it is saved.
        seed: Seed of its training and of the masks.
        examples: Number of examples in each of the three sets.
        protocols: What surrogates are judged on.
        folder: Folder of the rows.

    Returns:
        Rows of the table `edges`.
    """
    model = trained_classifier(name, run, seed)

    def subject() -> Subject:
        sets = [model.task.train.first(examples), *_halves(model.task.validation, examples)]
        return Subject(*(_captured(model.model, split) for split in sets))

    key = key_of(
        ["training", "edges"], model.task.fingerprint, model.spec.model_dump_json(), seed, examples, asdict(protocols)
    )
    work = partial(_judged, subject, (RESIDUAL_CNN, 0, 0, seed), protocols, True)
    return pd.DataFrame(kept_row(folder / f"{name}_{seed}.json", key, work)["rows"])


def measure_language_model(
    name: str, run: str, seed: int, blocks: int, protocols: Protocols, folder: Path
) -> pd.DataFrame:
    """Judge every surrogate on the attention heads of a language model, which is trained first if need be.

    Args:
        name: Name in `data/language_models.yml`.
        run: Name of the run in whose folder it is saved.
        seed: Seed of its training and of the masks.
        blocks: Number of blocks of tokens in each of the three sets.
        protocols: What surrogates are judged on.
        folder: Folder of the rows.

    Returns:
        Rows of the table `edges`.
    """
    language = trained_language_model(name, run, seed)
    sets = language.calibration[:blocks], language.blocks[:blocks], language.blocks[blocks : 2 * blocks]
    key = key_of(["language_training", "edges"], language.spec.model_dump_json(), seed, blocks, asdict(protocols))

    def subject() -> Subject:
        return Subject(*(TransformerBlocks(language.model, each, "heads") for each in sets))

    work = partial(_judged, subject, (LANGUAGE_MODEL, 0, 0, seed), protocols, True)
    return pd.DataFrame(kept_row(folder / f"{name}_{seed}.json", key, work)["rows"])


def _judged(
    make: Callable[[], Subject], network: tuple[str, int, int, int], protocols: Protocols, both: bool
) -> dict[str, list[dict[str, Any]]]:
    subject, place = make(), dict(zip(NET, network, strict=True))
    rows = [*published(subject, protocols, network[-1], place)]
    if both:
        rows += fair(subject, protocols, network[-1], place)
    note(f"{' '.join(f'{name} {value}' for name, value in place.items())}: {len(rows)} rows")
    return {"rows": [place | {"edges": len(subject.judged.graph.edges)} | row for row in rows]}


def _of_network(task: Task, networks: Networks, size: int, net: int, seed: int) -> Subject:
    """Train one network."""
    train, labels = _pixels(task.train)
    held, held_labels = _pixels(task.validation)
    name = f"{size}/{net}"
    design = random_dags.random_design(size, train.shape[1], task.classes, generator(net, "design", str(size)))
    network = random_dags.built(design, seed, name)
    some = slice(0, networks.train_examples)
    random_dags.train(network, train[some], labels[some], networks.epochs, seed, name)
    on = partial(random_dags.DagOnExamples, network)
    judged = networks.judged_examples
    return Subject(
        on(train[: networks.observed_examples], labels[: networks.observed_examples]),
        on(held[:judged], held_labels[:judged]),
        on(held[judged : 2 * judged], held_labels[judged : 2 * judged]),
    )


def _halves(split: Split, examples: int) -> tuple[Split, Split]:
    return split.first(examples), Split(split.images[examples : 2 * examples], split.labels[examples : 2 * examples])


def _captured(model: nn.Module, split: Split) -> MaskedNetwork:
    prepared = inputs.prepare(split, None, 0)
    return capture(model, prepared.inputs, prepared.labels)


def _pixels(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.from_numpy(split.images.reshape(len(split), -1)).float() / 255
    return pixels, torch.from_numpy(split.labels)


def published(subject: Subject, protocols: Protocols, seed: int, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The protocol of the source study: few observed masks, and losses of all masks from the same examples.

    Args:
        subject: The network.
        protocols: The number of masks.
        seed: Seed of the masks.
        place: What the network is called, which goes into the seed.

    Yields:
        Rows of the table `edges` without the network.
    """
    network, graph = subject.judged, subject.judged.graph
    edges, draws = len(graph.edges), generator(seed, "published", *map(str, place.values()))
    tested = edge_masks.at_random(edges, HALF, protocols.published_masks, draws)
    true = network.losses(tested)
    budget = edges + 2
    alone = edge_masks.leave_one_out(edges)
    drawn = edge_masks.at_random(edges, HALF, budget, draws)
    chosen = chosen_masks(graph, HALF, budget, draws)
    observed = {1.0: (alone, network.losses(alone)), HALF: (drawn, network.losses(drawn))}

    def row(name: str, forecast: Numbers, rate: float, count: int, evaluations: float, words: str) -> Any:
        fixed = {"protocol": "published", "keep_rate": HALF, "surrogate": name, "train_keep_rate": rate}
        return _rows(fixed, true, forecast, graph.connected(tested), count, evaluations, network.examples, words)

    for name, entry in _entries(network).items():
        rates = {NONE: (), LEAVE_ONE_OUT: (1.0,), MASKS: (1.0, HALF)}[entry.observes]
        for rate in rates or (1.0,):
            masks, losses = observed[rate]
            surrogate = unfitted(name, network, seed).fit(masks, losses)
            count = len(masks) if rates else 0
            words = "E + 2" if rates else "none"
            yield from row(name, surrogate.predict(tested), rate, count, entry.cost(edges, count), words)
    process = LiveEdgeProcess(graph).fit(chosen, network.losses(chosen))
    yield from row(CHOSEN, process.predict(tested), HALF, len(chosen), len(chosen), "E + 2")
    yield from row(FEW, FewExamples(network, budget).predict(tested), HALF, 0, budget, "E + 2")
    yield from row(SAME_MASKS, subject.other.losses(tested), HALF, 0, len(tested), "all masks")


def fair(subject: Subject, protocols: Protocols, seed: int, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The fair protocol: several keep rates, connected masks alone, observed and true losses from other examples.

    Args:
        subject: The network.
        protocols: The keep rates and numbers of masks.
        seed: Seed of the masks.
        place: What the network is called, which goes into the seed.

    Yields:
        Rows of the table `edges` without the network.
    """
    observed, graph = subject.observed, subject.judged.graph
    edges, draws = len(graph.edges), generator(seed, "fair", *map(str, place.values()))
    tested = {rate: edge_masks.connected(graph, rate, protocols.fair_masks, draws) for rate in protocols.keep_rates}
    true = {rate: subject.judged.losses(masks) for rate, masks in tested.items()}
    alone = edge_masks.leave_one_out(edges)
    losses_alone = observed.losses(alone)

    def rows(name: str, surrogate: Any, rates: Sequence[float], own: float, count: int, cost: float, words: str) -> Any:
        ranked = _areas(subject.judged, surrogate)
        for rate in rates:
            fixed = {"protocol": "fair", "keep_rate": rate, "surrogate": name, "train_keep_rate": own}
            forecast, joined = surrogate.predict(tested[rate]), np.ones(len(tested[rate]), bool)
            for found in _rows(fixed, true[rate], forecast, joined, count, cost, observed.examples, words):
                if found["subset"] == "connected":
                    yield found | ranked

    for name, entry in _entries(observed).items():
        if entry.observes != MASKS:
            surrogate = unfitted(name, observed, seed).fit(alone, losses_alone)
            count, words = (edges + 2, "E + 2") if entry.observes == LEAVE_ONE_OUT else (0, "none")
            yield from rows(name, surrogate, list(tested), 1.0, count, entry.cost(edges, count), words)
    for own in protocols.keep_rates:
        counts = {times * edges: times for times in protocols.multiples if times * edges <= protocols.most_observed}
        masks = edge_masks.connected(graph, own, max(counts), draws)
        losses = observed.losses(masks)
        for count, times in counts.items():
            rates = list(tested) if times == TRANSFERRED else [own]
            for name in (name for name, entry in ENTRIES.items() if entry.observes == MASKS):
                fitted = unfitted(name, observed, seed).fit(masks[:count], losses[:count])
                yield from rows(name, fitted, rates, own, count, ENTRIES[name].cost(edges, count), f"{times} E")
        few = FewExamples(observed, edges + 2)
        yield from rows(FEW, few, [own], own, 0, edges + 2, "E + 2")
    for rate in tested:
        forecast, joined = subject.other.losses(tested[rate]), np.ones(len(tested[rate]), bool)
        fixed = {"protocol": "fair", "keep_rate": rate, "surrogate": SAME_MASKS, "train_keep_rate": rate}
        counted = (0, len(tested[rate]), subject.other.examples, "all masks")
        yield from (row for row in _rows(fixed, true[rate], forecast, joined, *counted) if row["subset"] == "connected")


def _entries(network: MaskedNetwork) -> dict[str, Entry]:
    """The surrogates that a network has what they need for."""
    return {name: entry for name, entry in ENTRIES.items() if name not in OF_NORMS or isinstance(network, EdgeNorms)}


def _areas(network: MaskedNetwork, surrogate: EdgeSurrogate) -> dict[str, float]:
    """Areas under the faithfulness by a surrogate that scores edges; none for another."""
    expansion = surrogate.expansion if isinstance(surrogate, CarryingGradients) else surrogate
    expansion = getattr(expansion, "expansion", expansion)
    if not isinstance(expansion, Expansion) or expansion.interactions is not None:
        return {}
    return areas(faithfulness(network, dict(enumerate(expansion.scores.tolist()))))


def _rows(
    fixed: dict[str, Any],
    true: Numbers,
    forecast: Numbers,
    connected: Masks,
    count: int,
    evaluations: float,
    examples: int,
    budget: str,
) -> Iterator[dict[str, Any]]:
    for found in by_subset(true, forecast, connected).to_dict("records"):
        spent = {"observed": count, "budget": budget, "evaluations": float(evaluations)}
        yield (
            {str(name): value for name, value in found.items()}
            | fixed
            | spent
            | {"forward_samples": round(evaluations * examples)}
        )
