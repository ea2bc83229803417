"""Rules that say which way to move the temperature and which dense network to prune, judged by the error they cost."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from prunecast.landscape.regimes import ADVICE, COLDER, COLUMN, HOTTER, STAY, Boundaries, cells, learn

Choose = Callable[[pd.DataFrame], int]  # from the cells of one density, from hot to cold, to the position of one
GUIDED = "three regimes"


def hottest(_: pd.DataFrame) -> int:
    """Always the hottest network."""
    return 0


def coldest(column: pd.DataFrame) -> int:
    """Always the coldest network."""
    return len(column) - 1


def best_dense(column: pd.DataFrame) -> int:
    """The network of the lowest error before pruning."""
    return int(column["dense_error"].to_numpy().argmin())


def most_similar(column: pd.DataFrame) -> int:
    """The network of the highest CKA after pruning and training."""
    return int(column["cka"].fillna(-np.inf).to_numpy().argmax())


def guided(boundaries: Boundaries) -> Choose:
    """Follow the advice of the regimes from the coldest network on, until it turns or is to stay.

    Args:
        boundaries: Where the regimes meet.

    Returns:
        The rule. Where the advice turns between two networks, it takes the one with the higher CKA.
    """

    def choose(column: pd.DataFrame) -> int:
        regimes = boundaries.regimes(column["lmc"], column["cka"])
        steps = {HOTTER: -1, COLDER: 1, STAY: 0, "": -1}
        similarity = column["cka"].fillna(-np.inf).to_numpy()
        place, visited = len(column) - 1, set[int]()
        while place not in visited:
            visited.add(place)
            advised = ADVICE.get(regimes[place], "")
            after = min(max(place + steps[advised], 0), len(column) - 1)
            if after in visited:
                return place if after == place else max(place, after, key=lambda each: similarity[each])
            place = after
        return place

    return choose


def nearest_noise(scale: float) -> Choose:
    """The network whose noise scale is nearest to one, as a ratio.

    Args:
        scale: The noise scale that was best elsewhere.

    Returns:
        The rule.
    """
    return lambda column: int(np.abs(np.log(column["noise_scale"].to_numpy() / scale)).argmin())


def best_noise(table: pd.DataFrame) -> float:
    """Geometric mean, over kinds and densities, of the noise scale of the best network.

    Args:
        table: Cells with the columns of `cells`.

    Returns:
        The noise scale, without unit.
    """
    best = table.loc[table.dropna(subset=["test_error"]).groupby(COLUMN)["test_error"].idxmin(), "noise_scale"]
    return float(np.exp(np.log(best.to_numpy()).mean()))


NAIVE: dict[str, Choose] = {
    "always hotter": hottest,
    "always colder": coldest,
    "best dense network": best_dense,
    "highest CKA": most_similar,
}


def of_seed(rows: pd.DataFrame, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Cells as one dense network shows them: its metrics, beside the errors and directions over all networks.

    Args:
        rows: Rows of the table `regimes` of one study.
        table: Its cells with the columns of `cells`.
        seed: Number of the dense network.

    Returns:
        The cells, with `lmc`, `cka`, `dense_error` and `noise_scale` of this network alone.
    """
    place = [*COLUMN, "temperature"]
    own = rows[rows["dense_seed"] == seed].groupby(place)[["lmc", "cka", "dense_error", "noise_scale"]].mean()
    return table.drop(columns=own.columns).join(own, on=place).assign(dense_seed=seed)


def directions(table: pd.DataFrame, boundaries: Boundaries) -> pd.DataFrame:
    """Whether the advice of the regimes is right, by cell in which temperature matters.

    Args:
        table: Cells with the columns of `cells`.
        boundaries: Where the regimes meet.

    Returns:
        The cells in which temperature matters and both metrics are known, with `regime`, `advice` and `right`.
    """
    known = table[table["matters"] & table[["lmc", "cka"]].notna().all(axis=1)]
    regimes = boundaries.regimes(known["lmc"], known["cka"])
    advice = np.array([ADVICE[regime] for regime in regimes], dtype=object)
    return known.assign(regime=regimes, advice=advice, right=advice == known["direction"].to_numpy())


def decisions(table: pd.DataFrame, rules: Mapping[str, Choose]) -> pd.DataFrame:
    """What each rule chooses at each density, and what that costs.

    Args:
        table: Cells with the columns of `cells`, of one dense network or of the mean over several.
        rules: The rules by name.

    Returns:
        A row for each rule, kind and density: the chosen `temperature`, and `regret`, its error above that of the best
        temperature, as a fraction. Cells without an error cannot be chosen.
    """
    records = []
    for (kind, density), column in table.dropna(subset=["test_error"]).groupby(COLUMN):
        for name, choose in rules.items():
            chosen = column.iloc[choose(column)]
            records.append((name, kind, density, chosen["temperature"], chosen["gap"]))
    return pd.DataFrame(records, columns=["rule", *COLUMN, "temperature", "regret"])


def judged(rows: pd.DataFrame, learned: Mapping[float, Boundaries]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge the advice and the choices of each dense network by the errors over all of them.

    Args:
        rows: Rows of the table `regimes` of one study.
        learned: Boundaries to use at each density, which are learned from other cells.

    Returns:
        Rows of `directions` and of `decisions`, each with the `dense_seed`.
    """
    table = cells(rows)
    found = [
        (directions(part, bounds), decisions(part, NAIVE | {GUIDED: guided(bounds)}).assign(dense_seed=seed))
        for seed in sorted(rows["dense_seed"].unique())
        for density, bounds in learned.items()
        if not (part := of_seed(rows, table, seed).query("density == @density")).empty
    ]
    advice, chosen = (pd.concat(parts, ignore_index=True) for parts in zip(*found, strict=True))
    return advice, chosen


def from_other_densities(rows: pd.DataFrame) -> dict[float, Boundaries]:
    """For each density, the boundaries that all other densities of a study give."""
    table = cells(rows)
    return {density: learn(table[table["density"] != density]) for density in sorted(table["density"].unique())}
