"""Search for the front of a model's configurations: at random, by NSGA-II, or guided by a surrogate."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from prunecast.progress import track
from prunecast.seeding import seed_everything
from prunecast.selection import pareto
from prunecast.selection.space import COMPARED_EXAMPLES

optuna.logging.set_verbosity(optuna.logging.WARNING)

DRAWS = 24  # of all costs from what the surrogate believes, to see what measuring a configuration may gain
POPULATION = 10  # of NSGA-II
NEXT_TO_DENSE = 1.1  # the reference lies a tenth above the costs of the dense model
BRANCH = ("form", "schedule")
CHOICES = ("criterion", "scope", "ratio", "importance", "layers", "heads", "neurons")

Limits = dict[str, float]
Search = Callable[[pd.DataFrame, pd.DataFrame, Limits, int, int], list[int]]


def objectives(candidates: pd.DataFrame) -> pd.DataFrame:
    """Costs of each candidate of one model, to be minimised: its error, and its shares of the dense model's costs.

    Operations are effective ones; the latency is at batch 1, the energy at batch 32.
    """
    dense = candidates[candidates["form"] == "dense"].iloc[0]
    return pd.DataFrame(
        {
            "error": 1 - candidates["accuracy"],
            "flops": candidates["flops_effective"] / dense["flops_effective"],
            "latency": candidates["latency_ratio_1"],
            "energy": candidates["energy_ratio"],
        }
    ).dropna(axis=1, how="all")  # energy that was not measured is no cost


def reference(costs: pd.DataFrame, majority_accuracy: float) -> Limits:
    """The point from which hypervolume is counted: the error of the majority class, and a tenth above dense costs."""
    return dict.fromkeys(costs.columns, NEXT_TO_DENSE) | {"error": 1 - majority_accuracy}


def random_search(
    candidates: pd.DataFrame, costs: pd.DataFrame, limits: Limits, evaluations: int, seed: int
) -> list[int]:
    """Rows in the order they are measured, drawn at random without repetition."""
    return seed_everything(seed, "random search").permutation(len(candidates))[:evaluations].tolist()


def nsga2(candidates: pd.DataFrame, costs: pd.DataFrame, limits: Limits, evaluations: int, seed: int) -> list[int]:
    """Rows in the order NSGA-II (Deb et al., 2002; Optuna's) first asks for them; what it asks again costs nothing."""
    rows = {tuple(row): index for index, row in enumerate(candidates[[*BRANCH, *CHOICES]].itertuples(index=False))}
    branches = dict(iter(candidates.groupby(list(BRANCH), sort=False)))
    sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    study = optuna.create_study(directions=["minimize"] * costs.shape[1], sampler=sampler)
    asked: dict[int, None] = {}
    while len(asked) < min(evaluations, len(candidates)):
        trial = study.ask()
        branch = _among(list(branches), trial.suggest_float("branch", 0, 1))
        values = [branches[branch][column].unique().tolist() for column in CHOICES]
        genes = [trial.suggest_float(column, 0, 1) for column in CHOICES]  # the same in all branches, to be inherited
        row = rows[(*branch, *map(_among, values, genes))]
        asked[row] = None
        study.tell(trial, costs.iloc[row].tolist())
    return list(asked)


def _among(values: Sequence[Any], gene: float) -> Any:
    return values[min(int(gene * len(values)), len(values) - 1)]


def guided(candidates: pd.DataFrame, costs: pd.DataFrame, limits: Limits, evaluations: int, seed: int) -> list[int]:
    """Rows in the order a surrogate proposes them: each time the one that should add most hypervolume (Emmerich et al.,
    2006, the expectation from draws).

    It begins with the cheapest of each form, pruned only and trained on: ends tell most. The surrogate expects errors
    as the agreement with the dense model on a few unlabelled examples foretells them, and times as the operations do
    that are carried out; a Gaussian process for each cost learns how far that is off. What the agreement costs is
    taken off the `evaluations`.
    """
    budget = min(evaluations - agreement_price(candidates), len(candidates))
    expected, of_error, of_time = _expected(candidates, costs), _known_of_error(candidates), _known_of_time(candidates)
    choice = seed_everything(seed, "guided search")
    order = _cheapest_of_each(candidates)[: max(0, budget)]
    while len(order) < budget:
        left = np.setdiff1d(np.arange(len(candidates)), order)
        believed = np.tile(expected.iloc[left].to_numpy(), (DRAWS, 1, 1))
        for place, name in enumerate(costs):
            if name != "flops":  # operations are counted, not measured
                known, excess = of_error if name == "error" else of_time, costs[name] - expected[name]
                mean, deviation = _excess(known, excess.to_numpy(), order, left, seed)
                believed[:, :, place] += mean + deviation * choice.standard_normal((DRAWS, 1))
        gains = pareto.expected_gains(costs.iloc[order], believed, limits)
        order.append(int(left[int(np.argmax(gains))]))
    return order


def agreement_price(candidates: pd.DataFrame) -> int:
    """What it costs to compare all candidates with the dense model on a few examples, in whole evaluations."""
    return math.ceil(len(candidates) * COMPARED_EXAMPLES / int(candidates["eval_examples"].iloc[0]))


SEARCHES: dict[str, Search] = {"guided": guided, "nsga2": nsga2, "random": random_search}


def found(candidates: pd.DataFrame, majority: float, evaluations: int, seed: int) -> list[int]:
    """Rows of one model's candidates that a guided search measures."""
    costs = objectives(candidates)
    pruned = np.flatnonzero(candidates["form"] != "dense")
    limits = reference(costs, majority)
    return pruned[guided(candidates.iloc[pruned], costs.iloc[pruned], limits, evaluations, seed)].tolist()


def contest(candidates: pd.DataFrame, majority: float, evaluations: int, seeds: Sequence[int]) -> pd.DataFrame:
    """Hypervolume after each number of evaluations, for each search and seed: rows of the table `searches`.

    The dense model is known to all of them from the start.
    """
    costs = objectives(candidates)
    limits = reference(costs, majority)
    whole = pareto.hypervolume(costs, limits)
    pruned = (candidates["form"] != "dense").to_numpy()
    dense, costs, candidates = costs[~pruned], costs[pruned], candidates[pruned]
    rows = []
    for seed in track(seeds, "searches"):
        for name, search in SEARCHES.items():
            order = search(candidates, costs, limits, evaluations, seed)
            price = agreement_price(candidates) if name == "guided" else 0
            for count in range(evaluations + 1):
                seen = pd.concat([dense, costs.iloc[order[: max(0, count - price)]]])
                share = pareto.hypervolume(seen, limits) / whole
                rows.append({"search": name, "seed": seed, "evaluations": count, "hypervolume": share})
    return pd.DataFrame(rows)


def seeds_won(searches: pd.DataFrame) -> pd.Series:
    """Seeds in which the guided search knows more hypervolume than each other one, by evaluations and model."""
    known = searches.pivot(index=["evaluations", "model", "seed"], columns="search", values="hypervolume")
    return (known["guided"] > known.drop(columns="guided").max(axis=1)).groupby(["evaluations", "model"]).sum()


def _cheapest_of_each(candidates: pd.DataFrame) -> list[int]:
    branches = candidates.reset_index(drop=True).groupby(list(BRANCH), sort=False)
    return branches["flops_effective"].idxmin().tolist()


def _known_of_error(candidates: pd.DataFrame) -> np.ndarray:
    """What may tell the error of each candidate (n, features); sparse kernels answer as masks do."""
    columns = ["agreement", "sparsity", "heads", "neurons", "layers"]
    trained, removed = candidates["schedule"] != "none", candidates["form"] == "removed"
    return _scaled(candidates[columns].assign(trained=trained, removed=removed))


def _known_of_time(candidates: pd.DataFrame) -> np.ndarray:
    """What may tell the time of each candidate (n, features); zeros in a dense matrix and training change none."""
    sparse = candidates["form"] == "sparse_kernel"
    return _scaled(
        candidates[["heads", "neurons", "layers"]].assign(sparse=sparse, operations=_carried_out(candidates))
    )


def _scaled(features: pd.DataFrame) -> np.ndarray:
    values = features.to_numpy(float)
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)


def _carried_out(candidates: pd.DataFrame) -> pd.Series:
    """Operations that each candidate carries out, as a share of the most: zeros count unless the kernel is sparse."""
    sparse = candidates["form"] == "sparse_kernel"
    return candidates["flops_effective"].where(sparse, candidates["flops_dense"]) / candidates["flops_dense"].max()


def _expected(candidates: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Costs as expected before anything is measured."""
    expected = pd.DataFrame(dict.fromkeys(costs.columns, _carried_out(candidates)), index=costs.index)
    return expected.assign(error=1 - candidates["agreement"], flops=costs["flops"])


def _excess(
    known: np.ndarray, excess: np.ndarray, seen: list[int], left: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """How far a cost of those `left` is above the expected one: mean and deviation, learned from those `seen`."""
    kernel = ConstantKernel() * Matern(1.0, (0.3, 100.0), nu=2.5) + WhiteKernel(1e-2, (1e-4, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # a length at its bound: what is known tells nothing, or all
        process.fit(known[seen], excess[seen])
    return process.predict(known[left], return_std=True)
