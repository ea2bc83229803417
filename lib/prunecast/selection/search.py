"""Searches for the Pareto front of a model's configurations: at random, by NSGA-II, or guided by a surrogate."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from prunecast.progress import track
from prunecast.seeding import generator
from prunecast.selection import pareto
from prunecast.selection.space import COMPARED_EXAMPLES

optuna.logging.set_verbosity(optuna.logging.WARNING)

DRAWS = 24  # from the surrogate's posterior of all costs, to estimate what measuring a configuration gains
POPULATION = 10  # of NSGA-II
NEXT_TO_DENSE = 1.1  # the reference point lies a tenth above the costs of the dense model
BRANCH = ("form", "schedule")
CHOICES = ("criterion", "scope", "ratio", "importance", "layers", "heads", "neurons")

Limits = dict[str, float]
Search = Callable[[pd.DataFrame, pd.DataFrame, Limits, int, int], list[int]]
Values = NDArray[np.float64]


def objectives(candidates: pd.DataFrame) -> pd.DataFrame:
    """Costs of the candidates of one model, to be minimised.

    Args:
        candidates: Rows of the table `candidates` (n), the dense model among them.

    Returns:
        The columns error (a fraction), flops (effective operations), latency (at batch 1) and energy (at batch 32),
        the last three as shares of the dense model's; without energy where it was not measured.
    """
    dense = candidates[candidates["form"] == "dense"].iloc[0]
    return pd.DataFrame(
        {
            "error": 1 - candidates["accuracy"],
            "flops": candidates["flops_effective"] / dense["flops_effective"],
            "latency": candidates["latency_ratio_1"],
            "energy": candidates["energy_ratio"],
        }
    ).dropna(axis=1, how="all")


def reference(costs: pd.DataFrame, majority_accuracy: float) -> Limits:
    """The reference point of the hypervolume: the error of the majority class, and a tenth above the dense costs.

    Args:
        costs: Costs, as returned by `objectives`.
        majority_accuracy: Accuracy of always predicting the most frequent class, a fraction.

    Returns:
        A cost by column.
    """
    return dict.fromkeys(costs.columns, NEXT_TO_DENSE) | {"error": 1 - majority_accuracy}


def random_search(
    candidates: pd.DataFrame, _costs: pd.DataFrame, _limits: Limits, evaluations: int, seed: int
) -> list[int]:
    """Draw configurations at random without repetition; neither their costs nor the reference point is read.

    Args:
        candidates: Rows of the table `candidates` of one model (n), without the dense one.
        evaluations: Number of configurations that may be measured.
        seed: Seed of the draws.

    Returns:
        Indices of rows in the order they are measured, at most n.
    """
    order = generator(seed, "random search").permutation(len(candidates))
    return [int(row) for row in order[:evaluations]]


def nsga2(candidates: pd.DataFrame, costs: pd.DataFrame, _limits: Limits, evaluations: int, seed: int) -> list[int]:
    """Search by NSGA-II, as implemented by Optuna, without a reference point; repeated proposals cost no evaluation.

    Args:
        candidates: Rows of the table `candidates` of one model (n), without the dense one.
        costs: Their costs (n, d); a search may read those of the rows that it returns.
        evaluations: Number of configurations that may be measured.
        seed: Seed of the sampler.

    Returns:
        Indices of rows in the order they are first proposed, at most n.

    Source: Deb et al. (2002).
    """
    rows = {tuple(row): index for index, row in enumerate(candidates[[*BRANCH, *CHOICES]].itertuples(index=False))}
    branches = dict(iter(candidates.groupby(list(BRANCH), sort=False)))
    sampler = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    study = optuna.create_study(directions=["minimize"] * costs.shape[1], sampler=sampler)
    proposed: dict[int, None] = {}
    while len(proposed) < min(evaluations, len(candidates)):
        trial = study.ask()
        branch = _among(list(branches), trial.suggest_float("branch", 0, 1))
        values = [branches[branch][column].unique().tolist() for column in CHOICES]
        genes = [trial.suggest_float(column, 0, 1) for column in CHOICES]  # the same in all branches, to be inherited
        row = rows[(*branch, *map(_among, values, genes))]
        proposed[row] = None
        study.tell(trial, costs.iloc[row].tolist())
    return list(proposed)


def _among(values: Sequence[Any], gene: float) -> Any:
    return values[min(int(gene * len(values)), len(values) - 1)]


def guided_search(
    candidates: pd.DataFrame, costs: pd.DataFrame, limits: Limits, evaluations: int, seed: int
) -> list[int]:
    """Search guided by a surrogate: measure the configuration of largest expected hypervolume improvement.

    It begins with the cheapest configuration of each form, with and without fine-tuning. Before any measurement, the
    surrogate predicts errors from the agreement with the dense model on a few unlabelled examples, and times from the
    operations carried out; a Gaussian process for each cost predicts the residual. The cost of the agreement is
    deducted from the evaluations.

    Args:
        candidates: Rows of the table `candidates` of one model (n), without the dense one.
        costs: Their costs (n, d); a search may read those of the rows that it returns.
        limits: The reference point of the hypervolume.
        evaluations: Number of configurations that may be measured, the cost of the agreement included.
        seed: Seed of the draws and of the Gaussian processes.

    Returns:
        Indices of rows in the order they are measured, at most n.

    Source: Emmerich et al. (2006), the expectation by Monte Carlo.
    """
    budget = min(evaluations - agreement_cost(candidates), len(candidates))
    prior, error_features, time_features = (
        _prior(candidates, costs),
        _error_features(candidates),
        _time_features(candidates),
    )
    draw = generator(seed, "guided search")
    order = _cheapest_of_each(candidates)[: max(0, budget)]
    while len(order) < budget:
        left = np.setdiff1d(np.arange(len(candidates)), order)
        draws = np.tile(prior.iloc[left].to_numpy(), (DRAWS, 1, 1))
        for place, name in enumerate(costs):
            if name != "flops":  # operations are counted, not measured
                features = error_features if name == "error" else time_features
                residual = (costs[name] - prior[name]).to_numpy()
                mean, deviation = _residuals(features, residual, order, left, seed)
                draws[:, :, place] += mean + deviation * draw.standard_normal((DRAWS, 1))
        gains = pareto.expected_gains(costs.iloc[order], draws, limits)
        order.append(int(left[int(np.argmax(gains))]))
    return order


def agreement_cost(candidates: pd.DataFrame) -> int:
    """Cost of comparing all candidates with the dense model on a few examples, in whole evaluations of all examples."""
    return math.ceil(len(candidates) * COMPARED_EXAMPLES / int(candidates["eval_examples"].iloc[0]))


SEARCHES: dict[str, Search] = {"guided": guided_search, "nsga2": nsga2, "random": random_search}


def guided_selection(candidates: pd.DataFrame, majority_accuracy: float, evaluations: int, seed: int) -> list[int]:
    """The configurations that one guided search measures.

    Args:
        candidates: Rows of the table `candidates` of one model (n), the dense one included.
        majority_accuracy: Accuracy of always predicting the most frequent class, a fraction.
        evaluations: Number of configurations that may be measured, the cost of the agreement included.
        seed: Seed of the search.

    Returns:
        Indices of rows in the order they are measured.
    """
    costs = objectives(candidates)
    pruned = np.flatnonzero(candidates["form"] != "dense")
    limits = reference(costs, majority_accuracy)
    order = guided_search(candidates.iloc[pruned], costs.iloc[pruned], limits, evaluations, seed)
    return [int(row) for row in pruned[order]]


def benchmark(
    candidates: pd.DataFrame, majority_accuracy: float, evaluations: int, seeds: Sequence[int]
) -> pd.DataFrame:
    """Hypervolume of what each search has measured after each number of evaluations.

    Every search starts with the costs of the dense model.

    Args:
        candidates: Rows of the table `candidates` of one model (n), the dense one included.
        majority_accuracy: Accuracy of always predicting the most frequent class, a fraction.
        evaluations: Largest number of evaluations.
        seeds: Seeds with which each search is run.

    Returns:
        Rows of the table `searches` without the model: search, seed, evaluations, and hypervolume as a fraction of
        that of all candidates.
    """
    costs = objectives(candidates)
    limits = reference(costs, majority_accuracy)
    whole = pareto.hypervolume(costs, limits)
    pruned = (candidates["form"] != "dense").to_numpy()
    dense, costs, candidates = costs[~pruned], costs[pruned], candidates[pruned]
    rows = []
    for seed in track(seeds, "searches"):
        for name, search in SEARCHES.items():
            order = search(candidates, costs, limits, evaluations, seed)
            deducted = agreement_cost(candidates) if name == "guided" else 0
            for count in range(evaluations + 1):
                measured = pd.concat([dense, costs.iloc[order[: max(0, count - deducted)]]])
                share = pareto.hypervolume(measured, limits) / whole
                rows.append({"search": name, "seed": seed, "evaluations": count, "hypervolume": share})
    return pd.DataFrame(rows)


def seeds_won(searches: pd.DataFrame) -> pd.Series:
    """Number of seeds with which the guided search has more hypervolume than each other search.

    Args:
        searches: Rows of the table `searches`.

    Returns:
        The number by evaluations and model.
    """
    volumes = searches.pivot(index=["evaluations", "model", "seed"], columns="search", values="hypervolume")
    return (volumes["guided"] > volumes.drop(columns="guided").max(axis=1)).groupby(["evaluations", "model"]).sum()


def _cheapest_of_each(candidates: pd.DataFrame) -> list[int]:
    branches = candidates.reset_index(drop=True).groupby(list(BRANCH), sort=False)
    return [int(row) for row in branches["flops_effective"].idxmin()]


def _error_features(candidates: pd.DataFrame) -> Values:
    """Features of the error of each candidate (n, features); a sparse kernel has the error of its mask."""
    columns = ["agreement", "sparsity", "heads", "neurons", "layers"]
    trained, removed = candidates["schedule"] != "none", candidates["form"] == "removed"
    return _standardised(candidates[columns].assign(trained=trained, removed=removed))


def _time_features(candidates: pd.DataFrame) -> Values:
    """Features of the times of each candidate (n, features); zeros in a dense matrix and fine-tuning change none."""
    sparse, operations = candidates["form"] == "sparse_kernel", _operations(candidates)
    return _standardised(candidates[["heads", "neurons", "layers"]].assign(sparse=sparse, operations=operations))


def _standardised(features: pd.DataFrame) -> Values:
    values: Values = features.to_numpy(float)
    scaled: Values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-9)
    return scaled


def _operations(candidates: pd.DataFrame) -> pd.Series:
    """Operations carried out, as a share of the largest number: zeros count unless the kernel is sparse."""
    sparse = candidates["form"] == "sparse_kernel"
    carried_out = candidates["flops_effective"].where(sparse, candidates["flops_dense"])
    share: pd.Series = carried_out / candidates["flops_dense"].max()
    return share


def _prior(candidates: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Costs (n, d) as predicted before any measurement."""
    times = pd.DataFrame(dict.fromkeys(costs.columns, _operations(candidates)), index=costs.index)
    return times.assign(error=1 - candidates["agreement"], flops=costs["flops"])


def _residuals(
    features: Values, residuals: Values, measured: list[int], left: NDArray[np.intp], seed: int
) -> tuple[Values, Values]:
    """Mean and standard deviation of a cost's residuals at the rows `left`, from those at the rows `measured`."""
    kernel = ConstantKernel() * Matern(1.0, (0.3, 100.0), nu=2.5) + WhiteKernel(1e-2, (1e-4, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is harmless
        process.fit(features[measured], residuals[measured])
    mean, deviation = process.predict(features[left], return_std=True)
    return mean, deviation
