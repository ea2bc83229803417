"""What the table of judged edge surrogates says: the published table with ours, cost against score, transfer."""

from typing import Any

import pandas as pd

from prunecast.edge_experiments.edge_removal import CHOSEN, FEW, RANDOM_DAG, SAME_MASKS
from prunecast.edge_experiments.edge_scores import SIZES, differences, means

PUBLISHED = (  # rows of the table beside the published one, and the masks that each observed
    ("reachability", "none"),
    ("activation_norm", "none"),
    ("taylor", "none"),
    ("gate_integrated_gradients", "none"),
    ("carrying_gradients", "none"),
    ("leave_one_out", "leave one out"),
    ("flow", "leave one out"),
    ("fcn", "leave one out"),
    ("ridge", "random"),
    ("boosted_trees", "random"),
    ("flow_channels", "leave one out"),
    ("flow_channels", "random"),
    ("live_edges", "leave one out"),
    ("live_edges", "random"),
    (CHOSEN, "chosen"),
    (FEW, "none"),
    (SAME_MASKS, "all"),
)
COSTS = (  # surrogates whose score is drawn against their cost
    "reachability",
    "gate_gradient",
    "gate_integrated_gradients",
    "carrying_gradients",
    "leave_one_out",
    "flow",
    "ridge",
    "boosted_trees",
    "flow_channels",
    "live_edges",
    FEW,
)
TRIED = 2  # networks of each size on whose graphs the settings of the live edges were tried out, with other weights
TRANSFERRED = ("ridge", "boosted_trees", "flow_channels", "live_edges")


def published_table(edges: pd.DataFrame) -> pd.DataFrame:
    """Our scores under the published protocol.

    Args:
        edges: Rows of the table `edges`.

    Returns:
        By surrogate and the masks that it observed: for each size of the network the mean Spearman correlation over
        networks and seeds, its 90 % interval over networks, and `connected`, the mean among connected masks.
    """
    rows = edges[(edges["network"] == RANDOM_DAG) & (edges["protocol"] == "published")]
    own = rows.assign(
        observed_masks=[_observed(*row) for row in rows[["surrogate", "train_keep_rate"]].itertuples(index=False)]
    )
    own = own.assign(size=own["iterations"].map(SIZES))
    place = ["surrogate", "observed_masks", "size"]
    whole = means(own[own["subset"] == "all"], place)
    connected = means(own[own["subset"] == "connected"], place)["mean"].rename("connected")
    table: Any = whole[["mean", "low", "high"]].join(connected).unstack("size")
    table = table.swaplevel(axis=1)
    columns = [
        (size, column)
        for size in SIZES.values()
        if size in set(own["size"])
        for column in ("mean", "low", "high", "connected")
    ]
    shown = [row for row in PUBLISHED if row in table.index]
    ordered: pd.DataFrame = table.loc[shown, columns].rename_axis(["surrogate", "observed masks"])
    return ordered


def shown(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The published table as text, narrow enough for a page.

    Args:
        table: As of `published_table`.

    Returns:
        A column for each size: the mean over all masks with its interval, and the mean over connected ones.
    """
    sizes = list(dict.fromkeys(table.columns.get_level_values(0)))
    whole = {
        size: [
            f"{mean:.2f} ({low:.2f} to {high:.2f})"
            for mean, low, high in table[size][["mean", "low", "high"]].to_numpy()
        ]
        for size in sizes
    }
    connected = {size: table[size]["connected"] for size in sizes}
    return pd.DataFrame(whole, table.index), pd.DataFrame(connected, table.index)


def _observed(surrogate: str, train_keep_rate: float) -> str:
    """Which masks a surrogate observed, in words."""
    special = {CHOSEN: "chosen", FEW: "none", SAME_MASKS: "all"}
    if surrogate in special:
        return special[surrogate]
    if train_keep_rate < 1:
        return "random"
    return "leave one out" if surrogate in _LEARNING else "none"


_LEARNING = {name for name, masks in PUBLISHED if masks in ("leave one out", "random")} | {
    "least_squares", "ridge_order_2", "sparse_fourier", "flow_one_channel",
}  # fmt: skip


def fair(edges: pd.DataFrame) -> pd.DataFrame:
    """The rows of the fair protocol whose observed and judged masks have one keep rate, or that observed none of it."""
    same = (edges["train_keep_rate"] == edges["keep_rate"]) | (edges["train_keep_rate"] == 1)
    rows = edges[(edges["protocol"] == "fair") & same]
    kinds = rows["network"].str.replace("_", " ")
    return rows.assign(size=(rows["iterations"].map(SIZES) + " edges").where(rows["network"] == RANDOM_DAG, kinds))


def by_cost(edges: pd.DataFrame) -> pd.DataFrame:
    """Score against cost under the fair protocol.

    Args:
        edges: Rows of the table `edges`.

    Returns:
        Columns `size` of the network, `surrogate`, `budget`, and those of `edge_scores.means`.
    """
    rows = fair(edges)
    shown = rows[rows["surrogate"].isin(COSTS)].sort_values("iterations", kind="stable")
    return means(shown, ["size", "surrogate", "budget"]).reset_index()


def transferred(edges: pd.DataFrame) -> pd.DataFrame:
    """Scores of surrogates by the keep rate of the masks that they observed and of those that they forecast.

    Args:
        edges: Rows of the table `edges`.

    Returns:
        Columns `surrogate`, `train_keep_rate`, `keep_rate`, and those of `edge_scores.means`.
    """
    rows = edges[(edges["network"] == RANDOM_DAG) & (edges["protocol"] == "fair") & (edges["budget"] == "2 E")]
    shown = rows[rows["surrogate"].isin(TRANSFERRED)]
    return means(shown, ["surrogate", "train_keep_rate", "keep_rate"]).reset_index()


def compared(edges: pd.DataFrame, surrogate: str, reference: str, budget: str = "") -> pd.DataFrame:
    """Paired difference of two surrogates under the fair protocol.

    Args:
        edges: Rows of the table `edges`.
        surrogate: Name of the one.
        reference: Name of the other, which is subtracted.
        budget: Of the observed masks of both; empty where they differ in it.

    Returns:
        By size of the network and keep rate, the mean difference of the Spearman correlations and its interval.
    """
    rows = fair(edges)
    rows = rows[rows["surrogate"].isin([surrogate, reference]) & (not budget or rows["budget"] == budget)]
    found: Any = differences(rows, reference, ["size", "keep_rate"])
    paired: pd.DataFrame = found.xs(surrogate, level="surrogate")
    return paired


def headline(edges: pd.DataFrame) -> dict[str, float]:
    """The numbers that the page of the structure states.

    Args:
        edges: Rows of the table `edges`.

    Returns:
        By name: lowest and highest mean over sizes of some surrogates, under the published protocol (`published_…`)
        and under the fair one, means over sizes and keep rates; these also without the networks of the first `TRIED`
        graphs of each size (`…_new`); and the number of the largest networks.
    """
    table: Any = published_table(edges)
    found: dict[str, float] = {}
    for name, row in {
        "reachability": ("reachability", "none"),
        "flow": ("flow", "leave one out"),
        "chosen": (CHOSEN, "chosen"),
        "few": (FEW, "none"),
    }.items():
        values = table.loc[row].xs("mean", level=1)
        found |= {f"published_{name}_least": float(values.min()), f"published_{name}_most": float(values.max())}
    largest = edges[(edges["network"] == RANDOM_DAG) & (edges["iterations"] == edges["iterations"].max())]
    found["nets_largest"] = int(largest["net"].nunique())
    joined = table.loc[(CHOSEN, "chosen")].xs("connected", level=1)
    found |= {"connected_least": float(joined.min()), "connected_most": float(joined.max())}
    rows = fair(edges)
    for name, surrogate, budget in (
        ("ridge", "ridge", "1 E"),
        ("live", "live_edges", "1 E"),
        ("channels", "flow_channels", "1 E"),
        ("channels_two", "flow_channels", "2 E"),
        ("trees_two", "boosted_trees", "2 E"),
        ("live_two", "live_edges", "2 E"),
        ("ridge_two", "ridge", "2 E"),
        ("gradients", "gate_integrated_gradients", "none"),
        ("carrying", "carrying_gradients", "none"),
    ):
        own = rows[(rows["network"] == RANDOM_DAG) & (rows["surrogate"] == surrogate) & (rows["budget"] == budget)]
        found[name] = float(own["spearman"].mean())
        found[f"{name}_new"] = float(own[own["net"] >= TRIED]["spearman"].mean())
    return found
