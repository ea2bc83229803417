"""Surrogates of the computation graph judged on networks with removed edges, by two protocols."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast.cache import kept_row, key_of
from prunecast.datasets.tasks import Task
from prunecast.edge_experiments.edge_scores import NET, areas, by_subset, faithfulness
from prunecast.edge_experiments.edge_subjects import Networks, Subject, language_model, random_network, residual_network
from prunecast.edge_surrogates.catalogue import ENTRIES, LEAVE_ONE_OUT, MASKS, NONE, EdgeSurrogate, Entry, unfitted
from prunecast.edge_surrogates.gate_scores import EdgeNorms, Expansion
from prunecast.edge_surrogates.live_edges import CarryingGradients, FewExamples, LiveEdgeProcess, chosen_masks
from prunecast.errors import UserError
from prunecast.graph import edge_masks
from prunecast.graph.structure import MaskedNetwork, Masks, Numbers
from prunecast.models import language
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


def settings_of(
    iterations: Sequence[int],
    nets: Sequence[int],
    examples: Sequence[int],
    masks: Sequence[int],
    keep_rates: Sequence[float],
    multiples: Sequence[int],
) -> tuple[Networks, Protocols]:
    """The settings of a study from lists of numbers, as a page has them.

    Args:
        iterations: Sizes of the random graphs.
        nets: Networks of each size, seeds of each, and how many of the seeds have the fair protocol.
        examples: Those of the training, its epochs, those on which losses are observed and on which they are judged.
        masks: Masks of the published protocol, of the fair one at each keep rate, and at most to be observed.
        keep_rates: Those of the fair protocol.
        multiples: Numbers of observed masks, in multiples of the edges.

    Returns:
        The networks and the protocols.

    Raises:
        UserError: A list has another length, or a number is not positive or no keep rate.
    """
    for name, numbers, length in (("nets", nets, 3), ("examples", examples, 4), ("masks", masks, 3)):
        if len(numbers) != length or min(numbers) < 1:
            raise UserError(f"{name} is {list(numbers)}, but takes {length} numbers of 1 or more")
    if wrong := [rate for rate in keep_rates if not 0 < rate < 1]:
        raise UserError(f"a keep rate is {wrong[0]}, but lies between 0 and 1")
    return (
        Networks(tuple(iterations), *nets, *examples),
        Protocols(masks[0], masks[1], tuple(keep_rates), tuple(multiples), masks[2]),
    )


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
        make = partial(random_network, task, networks, size, net, seed)
        work = partial(_judged, make, (RANDOM_DAG, size, net, seed), protocols, both)
        rows += kept_row(folder / f"{size}_{net}_{seed}.json", key, work)["rows"]
    return pd.DataFrame(rows)


def measure_others(names: Sequence[str], run: str, examples: int, protocols: Protocols, folder: Path) -> pd.DataFrame:
    """Judge every surrogate on networks of the registries, which are trained first if need be.

    Args:
        names: Image classifiers of `data/models.yml`, whose branches are removed, and language models of
            `data/language_models.yml`, whose attention heads are.
        run: Name of the run in whose folder they are saved.
        examples: Number of images, or of tenths of blocks of tokens, in each of the three sets.
        protocols: What surrogates are judged on.
        folder: Folder of the rows.

    Returns:
        Rows of the table `edges`.

    Raises:
        UserError: There is no such network, or it cannot be trained.
    """
    rows: list[dict[str, Any]] = []
    for name in names:
        if name in language.registry():
            kind, stage, make = (
                LANGUAGE_MODEL,
                "language_training",
                partial(language_model, name, run, 0, examples // 10),
            )
        else:
            kind, stage, make = RESIDUAL_CNN, "training", partial(residual_network, name, run, 0, examples)
        key = key_of([stage, "edges"], name, examples, asdict(protocols))
        work = partial(_judged, make, (kind, 0, 0, 0), protocols, True)
        rows += kept_row(folder / f"{name}.json", key, work)["rows"]
    return pd.DataFrame(rows)


def _judged(
    make: Callable[[], Subject], network: tuple[str, int, int, int], protocols: Protocols, both: bool
) -> dict[str, list[dict[str, Any]]]:
    subject, place = make(), dict(zip(NET, network, strict=True))
    rows = [*published(subject, protocols, network[-1], place)]
    if both:
        rows += fair(subject, protocols, network[-1], place)
    note(f"{' '.join(f'{name} {value}' for name, value in place.items())}: {len(rows)} rows")
    return {"rows": [place | {"edges": len(subject.judged.graph.edges)} | row for row in rows]}


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
