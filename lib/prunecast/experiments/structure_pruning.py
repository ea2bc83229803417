"""Networks made smaller by removing edges of their computation graph, beside other ways to as few operations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from prunecast import paths
from prunecast.cache import kept_row, key_of
from prunecast.cost.flops import flops
from prunecast.cost.latency import latency
from prunecast.errors import UserError
from prunecast.experiments.structure_cases import Case, classifier
from prunecast.experiments.structure_language import is_language_model, language_model
from prunecast.graph.edge_masks import at_random
from prunecast.graph.edge_pruning import Forecast, Removals, cost_of, evolved, greedy, in_order, random_removals
from prunecast.graph.edge_surrogates import ENTRIES, NONE, EdgeSurrogate, unfitted
from prunecast.graph.gate_scores import Expansion
from prunecast.graph.structure import MaskedNetwork, Masks, Numbers
from prunecast.progress import note, track
from prunecast.pruning.finetuning import Budget
from prunecast.pruning.structured import Importance
from prunecast.seeding import generator

LEAVE_ONE_OUT = "leave_one_out"  # proposes what others improve; the dependency graph is set to its operations
SURROGATES = ("gate_gradient", "gate_integrated_gradients", "gate_hessian", "live_edges")
IMPORTANCES: dict[str, Importance] = {"dependency_graph": "magnitude", "dependency_graph_taylor": "taylor"}
METHODS = (LEAVE_ONE_OUT, *SURROGATES, "verified", "evolved", "random", "magnitude", *IMPORTANCES)
LEAST = 0.1  # of the operations of the costliest edge: edges that save less are not removed
VERIFIED = 3  # removals of the lowest forecast that are measured in each step
GENERATIONS, MEASURED = 8, 2  # of exchanges, and masks measured in each
HALVINGS = 8  # of the interval of the share of heads, neurons and channels
MOST = 0.98  # of them that are removed
MEASURED_BY = ("training", "evaluation", "finetuning")


@dataclass(frozen=True)
class Chosen:
    """What a method removes.

    Attributes:
        model: The smaller network.
        removed: Number of edges; for the dependency graph that of the edges with as many operations.
        evaluations: Evaluations of the network that the choice cost.
        which: What was removed, in words.
    """

    model: nn.Module
    removed: int
    evaluations: float
    which: str


class Choices:
    """What each method removes from a network.

    Attributes:
        case: The network.
    """

    def __init__(self, case: Case):
        """Nothing is computed before it is needed.

        Args:
            case: The network.
        """
        self.case = case
        self._unfitted: dict[str, EdgeSurrogate] = {}
        self._last: tuple[tuple[str, float, int], Chosen] | None = None  # the stages of a method follow each other

    @cached_property
    def flops(self) -> int:
        """Operations of the dense network for one example."""
        return flops(self.case.dense, self.case.one)[0]

    @cached_property
    def _without_one(self) -> tuple[Numbers, Numbers]:
        """For each edge the operations that its removal saves, and the root mean square of the weights removed."""
        graph = self.case.masked.graph
        masks = ~np.eye(len(graph.edges), dtype=bool)
        saved, size = np.zeros(len(masks)), np.full(len(masks), np.inf)
        squares, count = _weights(self.case.dense)
        for edge in track(np.flatnonzero(graph.connected(masks)), f"{self.case.network}: cost of each edge"):
            smaller = self.case.without(masks[edge])
            left, fewer = _weights(smaller)
            saved[edge] = self.flops - flops(smaller, self.case.one)[0]
            if count > fewer:
                size[edge] = np.sqrt(max(0.0, squares - left) / (count - fewer))
        return np.where(saved < LEAST * saved.max(), 0, saved), size

    @property
    def costs(self) -> Numbers:
        """Operations (edges,) that the removal of each edge saves; 0 for edges that are not removed."""
        return self._without_one[0]

    @property
    def removable(self) -> Masks:
        """Which edges (edges,) can be removed."""
        return np.asarray(self.costs > 0, bool)

    @cached_property
    def _single(self) -> tuple[Masks, Numbers]:
        """The masks of all edges and of each removal alone, with their losses."""
        masks = np.vstack([np.ones(len(self.costs), bool), ~np.eye(len(self.costs), dtype=bool)[self.removable]])
        return masks, self.case.masked.losses(masks)

    @cached_property
    def _leave_one_out(self) -> Expansion:
        scores, (_, losses) = np.zeros(len(self.costs)), self._single
        scores[self.removable] = losses[1:] - losses[0]
        return Expansion(self.case.masked.graph, float(losses[0]), scores)

    def forecast(self, method: str, share: float, seed: int) -> tuple[Forecast, float]:
        """What forecasts the loss for a method, and its cost in evaluations of the network.

        A surrogate that learns from masks is fitted on each removal alone and on as many random masks, whose edges stay
        with the probability `share`.
        """
        if method not in SURROGATES:
            return self._leave_one_out.predict, len(self._single[0])
        entry, network = ENTRIES[method], _Removable(self.case.masked, self.removable)
        if entry.observes == NONE:
            if method not in self._unfitted:
                self._unfitted[method] = unfitted(method, network, seed)
            return self._unfitted[method].predict, entry.cost(len(self.costs))
        draws = generator(seed, "masks", self.case.network)
        drawn = at_random(len(self.costs), share, int(self.removable.sum()), draws) | ~self.removable
        masks = np.vstack([self._single[0], drawn])
        losses = np.concatenate([self._single[1], self.case.masked.losses(drawn)])
        return unfitted(method, network, seed).fit(masks, losses).predict, entry.cost(len(self.costs), len(masks))

    def mask(self, method: str, share: float, seed: int) -> tuple[Masks, float]:
        """The edges (edges,) that stay by a method that removes edges, and what the choice cost in evaluations."""
        masked, costs, budget = self.case.masked, self.costs, share * float(self.costs.sum())
        if method == "random":
            return self._nearest(random_removals(masked.graph, costs, budget, seed + 1, 0)[seed], budget), 0.0
        if method == "magnitude":
            return self._nearest(in_order(masked.graph, self._without_one[1], costs, budget), budget), 0.0
        forecast, spent = self.forecast(method, share, seed)
        found = greedy(masked, forecast, costs, budget, VERIFIED if method == "verified" else 0)
        mask = self._nearest(found, budget)
        if method != "evolved":
            return mask, spent + found.evaluations
        best, evaluations = evolved(masked, forecast, mask, costs, GENERATIONS, verified=MEASURED, seed=seed)
        return best, spent + evaluations

    def _nearest(self, removals: Removals, budget: float) -> Masks:
        """The mask whose cost is nearest to the budget: that within it, or the one before the last removal."""
        costs = cost_of(self.case.masked.graph, removals.masks[-2:], self.costs)
        return np.asarray(removals.masks[-2:][np.abs(costs - budget).argmin()], bool)

    def chosen(self, method: str, share: float, seed: int) -> Chosen:
        """What a method removes.

        Args:
            method: Its name.
            share: Share of the operations of all removable edges that stays.
            seed: Number of the random draw.

        Returns:
            The smaller network, and what it cost to choose it.
        """
        if self._last is None or self._last[0] != (method, share, seed):
            self._last = (method, share, seed), self._chosen(method, share, seed)
        return self._last[1]

    def _chosen(self, method: str, share: float, seed: int) -> Chosen:
        mask, spent = self.mask(LEAVE_ONE_OUT if method in IMPORTANCES else method, share, seed)
        removed = np.flatnonzero(~mask & self.removable)
        if method not in IMPORTANCES:
            names = "; ".join(self.case.labels[edge] for edge in removed)
            return Chosen(self.case.without(mask), len(removed), spent, names)
        target = self.flops - float(self.costs[removed].sum())
        model, part = self._thinned(target, IMPORTANCES[method])
        return Chosen(model, len(removed), 0.0, f"{part:.1%} of each layer")

    def _thinned(self, target: float, importance: Importance) -> tuple[nn.Module, float]:
        """The network whose layers have all lost the same share, with operations as near as possible to the target."""
        low, high, best = 0.0, MOST, (np.inf, 0.0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            surplus = flops(self.case.thinner(middle, importance), self.case.one)[0] - target
            best = min(best, (abs(surplus), middle))
            low, high = (middle, high) if surplus > 0 else (low, middle)
        return self.case.thinner(best[1], importance), best[1]


class _Removable:
    """A network in which only some edges have gates: a `MaskedNetwork`."""

    def __init__(self, network: MaskedNetwork, removable: Masks):
        self.network, self.graph, self.examples = network, network.graph, network.examples
        self.removable, self.losses = removable, network.losses

    def gated_losses(self, gates: Tensor) -> Tensor:
        return self.network.gated_losses(torch.where(torch.from_numpy(self.removable), gates, 1.0))

    def on(self, count: int) -> Self:
        return type(self)(self.network.on(count), self.removable)


def measure(
    network: str,
    task: str,
    tuning: Budget,
    *,
    second: str = "",
    shares: Sequence[float] = (0.6,),
    methods: Sequence[str] = METHODS,
    stages: Sequence[str] = ("zero_shot", "fine_tuned"),
    seeds: Sequence[int] = (0,),
    draws: int = 2,
    calibration: int = 256,
    evaluated: int = 32,
    context: int = 128,
    rounds: int = 10,
    run: str = "page",
) -> pd.DataFrame:
    """Rows of the table `pruned_structure` for a network; an interrupted run is resumed where it stopped.

    Args:
        network: Name of a classifier of `data/models.yml`, which is trained first if need be; or a text classifier or a
            causal language model, by its folder or its name in `PRUNECAST_MODELS`.
        task: The task that it classifies, or the text of a language model.
        tuning: What it is trained on after pruning; an example of a language model is a block of tokens.
        second: The task that a classifier is transferred to; empty for none.
        shares: Shares of the operations of all removable edges that stay.
        methods: Names in `METHODS`.
        stages: `zero_shot`, `fine_tuned` or `transferred`.
        seeds: Seeds of the training after pruning; the first one is also that of the network.
        draws: Number of random removals, whose numbers take the place of the seeds.
        calibration: Number of training examples, or blocks of tokens, on which losses are measured and forecast.
        evaluated: Number of blocks of tokens that the perplexity of a language model is measured on.
        context: Number of tokens of a block.
        rounds: How often each network is timed, in turn with the dense one.
        run: Name of the run in whose folder the rows are kept.

    Returns:
        A row for each method, share, stage and seed; `dense` is the network before pruning at the same stage.

    Raises:
        UserError: The network or a task cannot be loaded, a method or a stage is unknown, or a share is not between 0
            and 1, before anything is measured.
    """
    if is_language_model(network):
        case = language_model(network, task, tuning, calibration, evaluated, context)
    else:
        case = classifier(network, task, second, tuning, calibration, run, seeds[0])
    return rows_of(case, shares, methods, stages, seeds, draws, rounds, run)


def rows_of(
    case: Case,
    shares: Sequence[float],
    methods: Sequence[str],
    stages: Sequence[str],
    seeds: Sequence[int],
    draws: int,
    rounds: int,
    run: str,
) -> pd.DataFrame:
    """What `measure` returns, for a case; the arguments are those of `measure`."""
    for what, names, known in (("method", methods, METHODS), ("stage", stages, tuple(case.stages))):
        if unknown := set(names) - set(known):
            raise UserError(f"there is no {what} {min(unknown)!r} for {case.network}; there are {', '.join(known)}")
    if wrong := [share for share in shares if not 0 < share < 1]:
        raise UserError(f"share {wrong[0]} is not a share of the operations that stays; it is above 0 and below 1")
    choices = Choices(case)
    rows = [
        _row(choices, method, share, stage, seed, rounds, run)
        for share, method in track([*product(shares, methods)], f"{case.network}: pruned")
        for seed in (range(draws) if method == "random" else seeds)
        for stage in stages
        if stage != "zero_shot" or method == "random" or seed == seeds[0]
    ]
    return pd.DataFrame(rows).drop_duplicates(["network", "task", "method", "stage", "removed", "seed"])


def _row(choices: Choices, method: str, share: float, stage: str, seed: int, rounds: int, run: str) -> dict[str, Any]:
    case = choices.case
    settings = {"method": method, "share": share, "stage": stage, "seed": seed}
    constants = (VERIFIED, GENERATIONS, MEASURED, HALVINGS, MOST, LEAST)
    folder = paths.run(run) / "pruning" / case.network

    def kept(settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        key = key_of(MEASURED_BY, case.fingerprint, constants, settings)
        return kept_row(folder / f"{key['inputs']}.json", key, make)

    def scored(model: nn.Module) -> float:
        return case.stages[stage].score(case.stages[stage].reached(model, seed))

    def dense() -> dict[str, Any]:
        return {"dense": scored(case.dense)}

    def measured() -> dict[str, Any]:
        chosen = choices.chosen(method, share, seed)
        model = chosen.model.eval()
        with torch.inference_mode():
            times = latency({"dense": lambda: case.dense(**case.batch), "pruned": lambda: model(**case.batch)}, rounds)
        row = {
            "network": case.network,
            "task": case.stages[stage].task,
            "method": method,
            "stage": stage,
            "removed": chosen.removed,
            "seed": seed,
            "metric": case.metric,
            **kept({"stage": stage, "seed": seed if stage != "zero_shot" else 0}, dense),
            "pruned": scored(model),
            "flops_dense": choices.flops,
            "flops": flops(model, case.one)[0],
            "parameters_dense": _weights(case.dense)[1],
            "parameters": _weights(model)[1],
            "latency_ms_dense": float(np.median(times["dense"])),
            "latency_ms": float(np.median(times["pruned"])),
            "evaluations": chosen.evaluations,
            "share": share,
            "which": chosen.which,
        }
        note(f"{case.network}: {settings}, {case.metric} {row['dense']:.4g} before, {row['pruned']:.4g} after")
        return row

    return kept(settings | {"rounds": rounds}, measured)


def _weights(model: nn.Module) -> tuple[float, int]:
    """Sum of the squares, and number, of all parameters."""
    parameters = [parameter.detach() for parameter in model.parameters()]
    return (
        sum(float(each.float().square().sum(dtype=torch.double)) for each in parameters),
        sum(each.numel() for each in parameters),
    )
