"""How well a surrogate of the computation graph forecasts the losses of masked networks, and the published table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import comb
from scipy.stats import kendalltau, pearsonr, spearmanr

from prunecast.errors import UserError
from prunecast.graph.structure import MaskedNetwork
from prunecast.sweeps.curve_metrics import interval_over_groups

TOP = 5  # masks forecast lowest, of which the best is taken
SCORES = ("spearman", "kendall_b", "pearson", "top5_regret")
NET = ["network", "iterations", "net", "seed"]
SIZES = {2: "10-15", 5: "20-40", 14: "50-100", 30: ">100"}  # edges of the published networks, by iterations
PUBLISHED = ("Graph", "FCN", "Linear", "L1", "Taylor")  # surrogates with published predictions
REACHABILITY = "Reachability"


def scores(true: ArrayLike, forecast: ArrayLike) -> dict[str, float]:
    """Scores of forecast losses; only Pearson's depends on more than their order.

    Args:
        true: Losses of masked networks (m,) in nats.
        forecast: Forecasts of them (m,), in any unit: the lower, the better the network.

    Returns:
        `spearman`, with mean ranks for ties; `kendall_b`, Kendall's tau-b; `pearson`; and `top5_regret`: the lowest
        loss among the five masks that are forecast lowest, above the lowest loss of all, as a share of the range of the
        losses, in expectation where ties leave open which five these are. A constant forecast has correlations of 0,
        since it orders nothing (SciPy gives NaN). All are NaN below two masks, or where all losses are equal.

    Raises:
        UserError: There is not one finite forecast a mask.
    """
    losses, forecasts = np.asarray(true, float), np.asarray(forecast, float)
    if losses.shape != forecasts.shape or losses.ndim != 1:
        raise UserError(f"there are {losses.shape} losses and {forecasts.shape} forecasts, in place of one a mask")
    if not (np.isfinite(losses).all() and np.isfinite(forecasts).all()):
        raise UserError("a loss or a forecast is not a finite number, so that it cannot be ranked")
    if len(losses) < 2 or np.ptp(losses) == 0:
        return dict.fromkeys(SCORES, float("nan"))
    found = dict.fromkeys(SCORES[:3], 0.0)
    if np.ptp(forecasts) > 0:
        for name, correlation in zip(SCORES, (spearmanr, kendalltau, pearsonr), strict=False):
            found[name] = float(correlation(forecasts, losses)[0])
    regret = _expected_best(losses, forecasts) - losses.min()
    return found | {
        "top5_regret": float(np.clip(regret / np.ptp(losses), 0, 1))
    }  # rounding apart, it lies between them


def _expected_best(losses: np.ndarray, forecasts: np.ndarray) -> float:
    """Expected lowest loss among the masks that are forecast lowest, where ties are broken at random."""
    last = np.sort(forecasts)[min(TOP, len(forecasts)) - 1]
    certain, tied = losses[forecasts < last], np.sort(losses[forecasts == last])
    drawn = min(TOP, len(forecasts)) - len(certain)
    first = comb(len(tied) - 1 - np.arange(len(tied)), drawn - 1) / comb(len(tied), drawn)  # chance to be the lowest
    return float(first @ np.minimum(tied, certain.min(initial=np.inf)))


def by_subset(true: ArrayLike, forecast: ArrayLike, connected: ArrayLike) -> pd.DataFrame:
    """Scores over all masks, and over those that leave the output connected.

    Args:
        true: Losses (m,) in nats.
        forecast: Forecasts of them (m,).
        connected: Whether a kept path joins input and output (m,).

    Returns:
        For each subset: `subset`, `test_masks`, their number, `connected`, the share of them that are connected, and
        the scores.

    Raises:
        UserError: There is not one finite forecast a mask.
    """
    joined, losses, forecasts = np.asarray(connected, bool), np.asarray(true, float), np.asarray(forecast, float)
    rows = []
    for subset, chosen in (("all", np.ones(len(joined), bool)), ("connected", joined)):
        share = float(joined[chosen].mean()) if chosen.any() else float("nan")
        counted = {"subset": subset, "test_masks": int(chosen.sum()), "connected": share}
        rows.append(counted | scores(losses[chosen], forecasts[chosen]))
    return pd.DataFrame(rows)


def faithfulness(network: MaskedNetwork, importance: Mapping[int, float], points: int = 21) -> pd.DataFrame:
    """Loss and faithfulness of a network of which only the most important edges are kept.

    Args:
        network: The network.
        importance: For each edge by its number: the more, the later it is removed; equal ones by number.
        points: Numbers of kept edges, evenly spaced from none to all; each at most once.

    Returns:
        Columns `kept`, the share of the edges, `loss` in nats, and `faithfulness`: the share of the way from the loss
        without edges to the loss with all of them.

    Raises:
        UserError: An edge has no importance.

    Source: Mueller et al. (2025), "MIB: A Mechanistic Interpretability Benchmark"; here the metric is the loss.
    """
    edges = len(network.graph.edges)
    if set(importance) != set(range(edges)):
        raise UserError(f"the graph has {edges} edges, but {len(importance)} are ranked")
    order = sorted(range(edges), key=lambda edge: -importance[edge])
    counts = np.unique(np.linspace(0, edges, points).round().astype(int))
    masks = np.zeros((len(counts), edges), bool)
    for mask, count in zip(masks, counts, strict=True):
        mask[order[:count]] = True
    losses = network.losses(masks)
    whole = losses[0] - losses[-1]
    reached = (losses[0] - losses) / whole if whole else np.full(len(losses), np.nan)
    return pd.DataFrame({"kept": counts / edges, "loss": losses, "faithfulness": reached})


def areas(curve: pd.DataFrame) -> dict[str, float]:
    """Areas that sum up a curve of faithfulness.

    Args:
        curve: As of `faithfulness`.

    Returns:
        `cpr`, the area under the faithfulness, over the share of kept edges; `cmd`, the area between it and 1. A
        ranking is good where the first is large and the second small.

    Source: Mueller et al. (2025), integrated circuit performance ratio and circuit-model distance.
    """
    kept, reached = curve["kept"].to_numpy(), curve["faithfulness"].to_numpy()
    return {"cpr": float(np.trapezoid(reached, kept)), "cmd": float(np.trapezoid(np.abs(1 - reached), kept))}


def means(edges: pd.DataFrame, by: Sequence[str], score: str = "spearman", seed: int = 0) -> pd.DataFrame:
    """Mean of a score over networks, with its interval.

    Args:
        edges: Rows of the table `edges`.
        by: Columns whose values make up a row of the result.
        score: Column of the score.
        seed: Seed of the resampling.

    Returns:
        By these values: `mean`, its 90 % interval from `low` to `high`, `nets`, the number of networks, and
        `evaluations`, the mean number of evaluations that the surrogate spent. The interval resamples networks, each
        with all its seeds and whatever else `by` does not name; below five there is none. Rows without a score are left
        out.
    """
    records = {}
    for key, part in edges.dropna(subset=[score]).groupby(list(by), sort=False):
        values, nets = part[score].astype(float), _nets(part)
        low, high = interval_over_groups(values, nets, seed)
        cost = part["evaluations"].astype(float).mean()
        records[key] = (values.mean(), low, high, len(set(nets)), cost)
    index = pd.MultiIndex.from_tuples(records, names=list(by))
    return pd.DataFrame(list(records.values()), index, columns=["mean", "low", "high", "nets", "evaluations"])


def differences(edges: pd.DataFrame, reference: str, by: Sequence[str], score: str = "spearman") -> pd.DataFrame:
    """Mean difference of a score from that of one surrogate on the same networks and masks, with its interval.

    Args:
        edges: Rows of the table `edges`.
        reference: Name of the surrogate to compare with; it must have one row a network, seed and value of `by`.
        by: Columns whose values make up a row of the result, beside the surrogate.
        score: Column of the score.

    Returns:
        As of `means`, of the differences, by `by` and `surrogate`.

    Raises:
        UserError: There is no row of this surrogate.
    """
    own = edges[edges["surrogate"] == reference]
    if own.empty:
        raise UserError(f"there is no surrogate {reference!r} in the table edges to compare with")
    place = list(dict.fromkeys([*NET, *by]))
    paired = edges.merge(own[[*place, score]], on=place, suffixes=("", " of reference"), validate="many_to_one")
    paired[score] = paired[score].astype(float) - paired[f"{score} of reference"].astype(float)
    return means(paired, [*by, "surrogate"], score)


def _nets(rows: pd.DataFrame) -> list[str]:
    return [f"{network}/{size}/{net}" for network, size, net in rows[NET[:3]].itertuples(index=False)]


def of_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Scores of the published predictions, and of whether the output is still connected.

    What is forecast there is 1 for the lowest loss and 0 for the highest. The forecast `Graph` is a sum over kept paths
    of products of positive coefficients: it is 0 where none is left, and only there.

    Args:
        predictions: Columns `iterations`, `net`, `mask`, `true`, and one for each surrogate.

    Returns:
        By `iterations`, `net`, `surrogate` and `subset`: `test_masks`, `connected` and the scores, with the sign that
        makes a right forecast positive. `REACHABILITY` is the surrogate that says whether a mask is connected.
    """
    known = predictions.assign(**{REACHABILITY: (predictions["Graph"] != 0).astype(float)})
    parts = {}
    for (iterations, net), part in known.groupby(["iterations", "net"]):
        for surrogate in (*PUBLISHED, REACHABILITY):
            found = by_subset(1 - part["true"], -part[surrogate], part["Graph"] != 0)
            parts[iterations, net, surrogate] = found.set_index("subset")
    return pd.concat(parts, names=["iterations", "net", "surrogate"])


def beside_printed(printed: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The published table as it is printed, beside what its predictions give.

    Args:
        printed: Columns `correlation` (spearman or kendall), `surrogate`, `edges`, `mean` and `std`.
        found: As of `of_predictions`.

    Returns:
        By `correlation`, `surrogate` and `edges`: `printed`, `printed std`, `recomputed` and `recomputed std`, mean and
        standard deviation over the networks, and `sign`: whether the printed mean is the `opposite` of the recomputed
        one, the `same`, or empty where none is printed.
    """
    given = printed.set_index(["correlation", "surrogate", "edges"])[["mean", "std"]].T.to_dict("list")
    groups = dict(iter(found.xs("all", level="subset").groupby(["surrogate", "iterations"])))
    records = {}
    for correlation, score in (("spearman", "spearman"), ("kendall", "kendall_b")):
        for surrogate in (*PUBLISHED, REACHABILITY):
            for iterations, edges in SIZES.items():
                values = groups[surrogate, iterations][score]
                mean, spread = given.get((correlation, surrogate, edges), (np.nan, np.nan))
                opposite = abs(mean + values.mean()) < abs(mean - values.mean())
                sign = "" if np.isnan(mean) else "opposite" if opposite else "same"
                records[correlation, surrogate, edges] = (mean, spread, values.mean(), values.std(), sign)
    index = pd.MultiIndex.from_tuples(records, names=["correlation", "surrogate", "edges"])
    columns = ["printed", "printed std", "recomputed", "recomputed std", "sign"]
    return pd.DataFrame(list(records.values()), index, columns=columns)
