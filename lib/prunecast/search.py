"""Search for the front of a model's configurations: at random, by NSGA-II, or guided by a surrogate."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import optuna
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from prunecast import pareto
from prunecast.configurations import AGREEING
from prunecast.progress import track
from prunecast.seeds import seed_everything

optuna.logging.set_verbosity(optuna.logging.WARNING)

FIRST = (
    5  # configurations that the guided search measures before it trusts its surrogate: the dense one, and random ones
)
OPTIMISM = 2.0  # standard deviations by which the surrogate's costs are believed to be lower than its mean
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
        names = {f"{form}, {schedule}": (form, schedule) for form, schedule in branches}
        branch = names[trial.suggest_categorical("branch", list(names))]
        chosen = [
            trial.suggest_categorical(f"{branch}: {column}", branches[branch][column].unique().tolist())
            for column in CHOICES
        ]
        row = rows[(*branch, *chosen)]
        asked[row] = None
        study.tell(trial, costs.iloc[row].tolist())
    return list(asked)


def guided(candidates: pd.DataFrame, costs: pd.DataFrame, limits: Limits, evaluations: int, seed: int) -> list[int]:
    """Rows in the order a surrogate proposes them: each time the one that should add most hypervolume.

    The surrogate expects errors as the agreement with the dense model on a few unlabelled examples foretells them, and
    times as the dense operations do; a Gaussian process for each cost learns how far that is off. What the agreement
    costs is taken off the `evaluations`.
    """
    budget = min(evaluations - agreement_price(candidates), len(candidates))
    known, expected = _known(candidates), _expected(candidates, costs)
    order = random_search(candidates, costs, limits, max(0, min(FIRST, budget)), seed)
    while len(order) < budget:
        left = np.setdiff1d(np.arange(len(candidates)), order)
        believed = expected.iloc[left].copy()
        for name in costs.columns.drop("flops"):  # operations are counted, not measured
            believed[name] += _lower(known, (costs - expected)[name].to_numpy(), order, left, seed)
        seen = costs.iloc[order]
        gains = [pareto.hypervolume(pd.concat([seen, row.to_frame().T]), limits) for _, row in believed.iterrows()]
        order.append(int(left[int(np.argmax(gains))]))
    return order


def agreement_price(candidates: pd.DataFrame) -> int:
    """What it costs to compare all candidates with the dense model on a few examples, in whole evaluations."""
    return math.ceil(len(candidates) * AGREEING / int(candidates["eval_examples"].iloc[0]))


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


def _known(candidates: pd.DataFrame) -> np.ndarray:
    """What is known of each candidate before it is measured (n, features), each column scaled to unit variance."""
    columns = ["sparsity", "heads", "neurons", "layers", "parameters_nonzero", "flops_dense", "flops_effective"]
    table = candidates[[*columns, "agreement"]].assign(
        sparse_kernel=candidates["form"] == "sparse_kernel",
        removed=candidates["form"] == "removed",
        trained=candidates["schedule"] != "none",
    )
    values = table.to_numpy(float)
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)


def _expected(candidates: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Costs as expected before anything is measured; sparse kernels take the dense model's time."""
    operations = candidates["flops_dense"] / candidates["flops_dense"].max()
    expected = pd.DataFrame(dict.fromkeys(costs.columns, operations), index=costs.index)
    return expected.assign(error=1 - candidates["agreement"], flops=costs["flops"])


def _lower(known: np.ndarray, excess: np.ndarray, seen: list[int], left: np.ndarray, seed: int) -> np.ndarray:
    """How far a cost of the candidates `left` is above the expected one, an optimistic estimate from those `seen`."""
    kernel = ConstantKernel() * Matern(np.ones(known.shape[1]), (0.3, 100.0), nu=2.5) + WhiteKernel(1e-2, (1e-4, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: a feature that does not matter
        process.fit(known[seen], excess[seen])
    mean, deviation = process.predict(known[left], return_std=True)
    return mean - OPTIMISM * deviation
