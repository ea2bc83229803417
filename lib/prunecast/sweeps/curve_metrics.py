"""Metrics of a pruning curve: retained accuracy, segments, the largest safe sparsity; intervals over relatives."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from prunecast.seeding import generator

SEGMENTS = ("plateau", "transition", "collapsed")
PLATEAU_ABOVE = 0.95
COLLAPSED_BELOW = 0.05
LEARNED_ABOVE = 0.10
ROUNDING = 1e-9  # accuracies that differ by less are the same
RESAMPLES = 2000
INTERVAL = (5, 95)
QUANTILES = 400  # of a posterior, over which it is averaged
FEWEST_GROUPS = 5  # of relatives, from which on an interval is stated


def learned(models: pd.DataFrame) -> pd.Series:
    """Whether each model is at least ten points above the majority class; only such ones go into training sets.

    Args:
        models: Rows of the table `models`.

    Returns:
        Booleans, one a row.
    """
    return models["dense_accuracy"] >= models["majority_accuracy"] + LEARNED_ABOVE


def relatives(models: pd.DataFrame) -> NDArray[np.object_]:
    """Groups of models that share a family or a pretrained parent, directly or through others.

    Args:
        models: Rows of the table `models`.

    Returns:
        Name of the group of each row.
    """
    groups = models["family"].to_numpy(object, copy=True)
    for rows in models.groupby("parent").indices.values():
        names = sorted(set(groups[rows]))
        groups[np.isin(groups, names)] = names[0]
    return groups


def interval_over_groups(values: "pd.Series[float]", groups: ArrayLike, seed: int) -> tuple[float, float]:
    """90 % bootstrap interval of a mean, for which groups are drawn with replacement, each with all its values.

    Args:
        values: One value for each curve or model (n,).
        groups: Group of relatives of each of them (n,).
        seed: Seed of the draws.

    Returns:
        Both ends, in the unit of the values; NaN below `FEWEST_GROUPS` groups.

    Source: Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13, the percentile interval.
    """
    by_group = values.groupby(np.asarray(groups)).agg(["sum", "count"]).to_numpy(float)
    if len(by_group) < FEWEST_GROUPS:
        return np.nan, np.nan
    draws = generator(seed, "bootstrap").integers(len(by_group), size=(RESAMPLES, len(by_group)))
    totals: NDArray[np.float64] = by_group[draws].sum(1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], INTERVAL)
    return float(low), float(high)


def with_references(sweeps: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table with the dense and the majority accuracy of their model beside them.

    Args:
        sweeps: Rows of the table `sweeps`, or of any other that names its models.
        models: Rows of the table `models`.

    Returns:
        The rows with the columns `dense_accuracy` and `majority_accuracy`, fractions.
    """
    return sweeps.merge(models[["model", "dense_accuracy", "majority_accuracy"]], on="model", validate="many_to_one")


def retained(points: pd.DataFrame) -> pd.Series:
    """Share of the way from majority to dense accuracy that is left.

    Args:
        points: Points of curves, with the columns of `with_references`.

    Returns:
        The share of each point: 1 at dense accuracy, 0 at majority accuracy.
    """
    span = points["dense_accuracy"] - points["majority_accuracy"]
    return (points["accuracy"] - points["majority_accuracy"]) / span


def segment(points: pd.DataFrame) -> np.ndarray:
    """Segment of each point: plateau above 95 % retained, collapsed below 5 %, transition between.

    Args:
        points: Points of curves, with the columns of `with_references`.

    Returns:
        Names out of `SEGMENTS`, one a point.
    """
    share = retained(points)
    return np.select([share > PLATEAU_ABOVE, share < COLLAPSED_BELOW], ["plateau", "collapsed"], "transition")


def within_epsilon(accuracy: ArrayLike, dense: ArrayLike, epsilon: float) -> NDArray[np.bool_]:
    """Whether accuracies lie at most `epsilon` below the dense ones, up to the rounding of floating-point numbers.

    Args:
        accuracy: Accuracies of pruned models, of any shape, as fractions.
        dense: Accuracies without pruning, in a shape that broadcasts against these.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        Booleans in the shape of both together.
    """
    return np.asarray(accuracy) >= np.asarray(dense) - epsilon - ROUNDING


def chance_within(lost: int, gained: int, examples: int, epsilon: float) -> float:
    """Probability that the loss of accuracy in the population is at most `epsilon`, from a sample of paired outcomes.

    Of n examples drawn from the population, some are lost by pruning and some gained; the population's shares of lost,
    gained and all others have the Jeffreys prior. Given the share that is lost or gained, the part of it that is lost
    has a beta posterior; its distribution function is averaged over quantiles of the posterior of that share.

    Args:
        lost: Number of examples that are correct before pruning and incorrect afterwards.
        gained: Number of examples for which it is the reverse.
        examples: Number of examples n.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        The posterior probability, between 0 and 1.

    Source: the Dirichlet posterior of a multinomial under the prior of Jeffreys (1946), "An invariant form for the
        prior probability in estimation problems".
    """
    quantiles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    changed = beta.ppf(quantiles, lost + gained + 1, examples - lost - gained + 0.5)
    return float(beta.cdf(np.minimum((1 + epsilon / changed) / 2, 1), lost + 0.5, gained + 0.5).mean())


def safe_sparsity(curve: pd.DataFrame, epsilon: float) -> float:
    """Largest sparsity up to which no point of one curve lies more than `epsilon` below its densest point.

    Args:
        curve: Points of one curve, with the columns sparsity and accuracy.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        A sparsity of the curve, as a fraction.
    """
    points = curve.sort_values("sparsity")
    unsafe = ~within_epsilon(points["accuracy"].to_numpy(), points["accuracy"].iloc[0], epsilon)
    last_safe = int(unsafe.argmax()) - 1 if unsafe.any() else len(points) - 1
    return float(points["sparsity"].iloc[last_safe])


def seed_noise(sweeps: Sequence[pd.DataFrame], epsilon: float) -> pd.DataFrame:
    """How far curves of the same model, trained under different seeds, lie apart.

    Args:
        sweeps: Rows of the table `sweeps` of each seed; models and scopes of magnitude that two have are compared.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        By model and scope, means over pairs of seeds: `curve`, the mean absolute difference of the losses from the
        dense accuracy over all thresholds of the percentile axis; `safe`, that of the safe sparsities; and `seeds`.
    """
    seeds = []
    for rows in sweeps:
        chosen = rows[(rows["axis"] == "percentile") & (rows["criterion"] == "magnitude")]
        curves = chosen.pivot(index=["model", "scope"], columns="threshold", values="accuracy")
        safe = {key: safe_sparsity(curve, epsilon) for key, curve in chosen.groupby(["model", "scope"])}
        seeds.append(curves.sub(curves[0.0], axis=0).assign(safe=pd.Series(safe)))
    differences = [(one - other).abs().dropna() for one, other in combinations(seeds, 2)]
    pairs = pd.concat(
        [pd.DataFrame({"curve": each.drop(columns="safe").mean(axis=1), "safe": each["safe"]}) for each in differences]
    ).groupby(["model", "scope"])
    present = pd.concat([each["safe"] for each in seeds]).groupby(["model", "scope"]).size()
    return pairs.mean().join(present.rename("seeds"))


def safe_sparsities(sweeps: pd.DataFrame, epsilon: float, criterion: str = "magnitude") -> pd.DataFrame:
    """Largest safe sparsity of every model and scope under one criterion, on the percentile axis.

    Args:
        sweeps: Rows of the table `sweeps`.
        epsilon: Loss of accuracy that is accepted, as a fraction.
        criterion: Name of the pruning criterion.

    Returns:
        `safe_sparsity` with the models as rows and the scopes as columns.
    """
    chosen = sweeps[(sweeps["axis"] == "percentile") & (sweeps["criterion"] == criterion)]
    curves = chosen.groupby(["model", "scope"], sort=False)
    return pd.Series({key: safe_sparsity(curve, epsilon) for key, curve in curves}).unstack()
