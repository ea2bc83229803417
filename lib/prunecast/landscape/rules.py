"""Rules that say which way to move the temperature and which dense network to prune, judged by the error they cost."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from prunecast.landscape.regimes import ADVICE, COLDER, COLUMN, HOTTER, STAY, Boundaries, learn

MOST_SIMILAR = 0.9999  # CKA, from which on the logarithm of what is missing says nothing

Advise = Callable[[pd.DataFrame], NDArray[np.str_]]  # from cells to a direction for each
Choose = Callable[[pd.DataFrame], int]  # from the cells of one density, from hot to cold, to the position of one
DENSE, GUIDED, WEIGHTED, NOISE = "best dense network", "three regimes", "both metrics, weighted", "noise scale"


def hottest(_: pd.DataFrame) -> int:
    """Always the hottest network."""
    return 0


def coldest(column: pd.DataFrame) -> int:
    """Always the coldest network."""
    return len(column) - 1


def best_dense(column: pd.DataFrame) -> int:
    """The network of the lowest error before pruning."""
    return int(column["dense_error"].fillna(np.inf).to_numpy().argmin())


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


def weighted(table: pd.DataFrame) -> Choose:
    """The network of the lowest error expected from similarity and connectivity, by a regression.

    Args:
        table: Cells with the columns of `cells` to learn from: the logarithm of the error is regressed on that of
            1 - CKA and on the square root of the barrier, all three less their means over the temperatures.

    Returns:
        The rule.
    """
    known = table.dropna(subset=["test_error", "lmc", "cka"])
    columns = [known[name] for name in COLUMN]
    inputs, target = _inputs(known), np.log(known["test_error"])
    centred = inputs - inputs.groupby(columns).transform("mean")
    slopes = np.linalg.lstsq(centred.to_numpy(), (target - target.groupby(columns).transform("mean")).to_numpy())[0]
    return lambda column: int((_inputs(column) @ slopes).fillna(np.inf).to_numpy().argmin())


def by_regimes(boundaries: Boundaries) -> Advise:
    """The advice of the three regimes.

    Args:
        boundaries: Where the regimes meet.

    Returns:
        The advice, one of `DIRECTIONS`; an empty text where a metric is missing.
    """

    def advise(table: pd.DataFrame) -> NDArray[np.str_]:
        regimes = boundaries.regimes(table["lmc"], table["cka"])
        return np.array([ADVICE.get(str(regime), "") for regime in regimes], dtype=np.str_)

    return advise


def by_regression(table: pd.DataFrame) -> Advise:
    """Advice from a sloping boundary: a logistic regression on the two inputs of `weighted`, between hotter and colder.

    Args:
        table: Cells with the columns of `cells` to learn from; those in which temperature matters count, both
            directions equally.

    Returns:
        The advice, `hotter` or `colder`; an empty text where a metric is missing.
        Where all these cells should be moved to one side, it is that side, and `stay` where there are none.
    """
    known = table[table["matters"]].dropna(subset=["lmc", "cka"])
    sides = known["direction"].unique()
    if len(sides) < 2:
        return lambda others: np.full(len(others), sides[0] if len(sides) else STAY)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(_inputs(known).to_numpy(), known["direction"].to_numpy(str))

    def advise(others: pd.DataFrame) -> NDArray[np.str_]:
        inputs = _inputs(others)
        known = inputs.notna().all(axis=1).to_numpy()
        advice = np.full(len(others), "", dtype=object)
        if known.any():
            advice[known] = model.predict(inputs[known].to_numpy())
        return advice.astype(np.str_)

    return advise


def _inputs(table: pd.DataFrame) -> pd.DataFrame:
    dissimilarity = np.log(1 - table["cka"].clip(upper=MOST_SIMILAR))
    return pd.DataFrame({"cka": dissimilarity, "lmc": np.sqrt(-table["lmc"].clip(upper=0))})


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
    DENSE: best_dense,
    "highest CKA": most_similar,
}


def fitted(table: pd.DataFrame) -> dict[str, Choose]:
    """The rules that learn something from a grid.

    Args:
        table: Cells with the columns of `cells`, by which the rules will not be judged.

    Returns:
        The rules by name; that by noise scale only where the grid has one.
    """
    found = {GUIDED: guided(learn(table)), WEIGHTED: weighted(table)}
    return found | {NOISE: nearest_noise(best_noise(table))} if table["noise_scale"].notna().all() else found
