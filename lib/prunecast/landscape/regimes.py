"""The three regimes of pruning: their boundaries, learned from a grid, and how far they move under resampling.

Regime I is poorly connected, II-A connected with dissimilar outputs, II-B connected with similar ones (Zhou et al.,
2023). In I a hotter dense network would be pruned better, in II-A a colder one, in II-B neither by much.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prunecast.errors import UserError
from prunecast.landscape.temperature import from_hot_to_cold
from prunecast.seeding import generator

POOR, DISSIMILAR, SIMILAR = REGIMES = ("I", "II-A", "II-B")
HOTTER, COLDER, STAY = DIRECTIONS = ("hotter", "colder", "stay")
ADVICE = dict(zip(REGIMES, DIRECTIONS, strict=True))
CANDIDATES = 40  # of a boundary, at most
RESAMPLES = 100
COLUMN = ["temperature_kind", "density"]  # cells that differ in temperature alone


@dataclass(frozen=True)
class Boundaries:
    """Where the regimes meet.

    Attributes:
        lmc: Below this linear mode connectivity lies regime I.
        cka: Below this similarity lies II-A, from it on II-B, where the connectivity is no lower than `lmc`.
    """

    lmc: float
    cka: float

    def regimes(self, lmc: ArrayLike, cka: ArrayLike) -> NDArray[np.str_]:
        """The regime of some cells; an empty text where a metric is missing.

        Args:
            lmc: Linear mode connectivity (...), as fractions.
            cka: Similarity (...).

        Returns:
            Names in `REGIMES` (...).
        """
        connectivity, similarity = np.asarray(lmc, float), np.asarray(cka, float)
        found = np.where(connectivity < self.lmc, POOR, np.where(similarity < self.cka, DISSIMILAR, SIMILAR))
        return np.where(np.isfinite(connectivity) & np.isfinite(similarity), found, "")


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Average a table over seeds, and say for each cell in which direction its temperature should have moved.

    Args:
        rows: Rows of the table `regimes` of one study.

    Returns:
        A row for each temperature kind, density and temperature, from hot to cold, with the means of `test_error`,
        `lmc`, `cka`, `dense_error` and `noise_scale` over the networks that were trained, and with:
        `noise`, the standard error of the mean error, one figure for each kind: over dense networks, or over retrained
        ones where there is one dense network, or else from second differences along the temperature (Gasser et al.,
        1986); `gap`, the error above that of the best temperature at this density; `matters`, whether the gap exceeds
        twice the noise of a difference; `direction`: `stay` where it does not, else the side on which the best
        temperature lies. Where a whole cell is missing, its figures are.

    Raises:
        UserError: A kind has one temperature or one density alone.
    """
    _check(rows)
    place = ["temperature_kind", "density", "temperature"]
    means = rows.groupby([*place, "dense_seed"])[["test_error", "lmc", "cka", "dense_error", "noise_scale"]].mean()
    table = means.groupby(place).mean().reset_index()
    table["noise"] = table["temperature_kind"].map(
        {str(k): _noise(part) for k, part in rows.groupby("temperature_kind")}
    )
    best = table["test_error"].groupby([table[name] for name in COLUMN]).transform("min")
    table["gap"] = table["test_error"] - best
    table["matters"] = table["gap"] > 2 * np.sqrt(2) * table["noise"]
    parts = [_directed(part, str(kind)) for (kind, _), part in table.groupby(COLUMN)]
    return pd.concat(parts, ignore_index=True)


def learn(table: pd.DataFrame) -> Boundaries:
    """Learn the boundaries from cells whose best direction is known, by a search over all pairs of candidates.

    As in the metric-informed decision tree of Zhou et al. (2024), connectivity is asked first and similarity second,
    and each threshold is searched for within the range of its metric. The three directions count equally, and within
    a direction each cell counts by its `gap`, what wrong advice costs there; cells that should stay count equally.

    Args:
        table: Cells with the columns of `cells`.

    Returns:
        The boundaries with the lowest cost, in the middle of all that have it.

    Raises:
        UserError: No cell has both metrics.
    """
    known = table.dropna(subset=["lmc", "cka", "test_error"])
    if known.empty:
        raise UserError("boundaries of regimes need cells with connectivity, similarity and error; there is none")
    cost = known["gap"].where(known["matters"], 1.0)
    weight = (cost / cost.groupby(known["direction"]).transform("sum")).to_numpy()
    lmc, cka = known["lmc"].to_numpy(), known["cka"].to_numpy()
    right = {name: (known["direction"] == name).to_numpy() for name in DIRECTIONS}
    on_lmc, on_cka = _between(lmc), _between(cka)
    poor = lmc < on_lmc[:, None]  # (a, n)
    similar = cka >= on_cka[:, None]  # (b, n)
    connected = np.where(similar, weight * right[STAY], weight * right[COLDER])
    gains = (poor @ (weight * right[HOTTER]))[:, None] + (~poor).astype(float) @ connected.T
    rows, columns = np.nonzero(np.isclose(gains, gains.max()))
    best = np.stack([on_lmc[rows], on_cka[columns]], axis=1)
    middle = best[np.abs(best - np.median(best, axis=0)).sum(1).argmin()]
    return Boundaries(*map(float, middle))


def resampled(rows: pd.DataFrame, seed: int, count: int = RESAMPLES) -> list[Boundaries]:
    """Boundaries learned from resampled grids: whole densities are drawn with replacement.

    Args:
        rows: Rows of the table `regimes` of one study.
        seed: Seed of the draws.
        count: Number of resampled grids.

    Returns:
        The boundaries of each.
    """
    draw = generator(seed, "regimes")
    table = cells(rows)
    groups = [part for _, part in table.groupby(COLUMN)]
    return [learn(pd.concat([groups[i] for i in draw.integers(len(groups), size=len(groups))])) for _ in range(count)]


def with_regimes(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table `regimes` with the regime of their cell.

    Args:
        rows: Rows of one study; the boundaries are learned from those that vary `epochs`, or from all without such.

    Returns:
        The rows with `regime`, empty where a metric is missing.
    """
    table = cells(rows)
    epochs = table[table["temperature_kind"] == "epochs"]
    boundaries = learn(table if epochs.empty else epochs)
    place = [*COLUMN, "temperature"]
    named = table.assign(regime=boundaries.regimes(table["lmc"], table["cka"])).set_index(place)["regime"]
    found = rows.drop(columns="regime", errors="ignore").join(named, on=place)
    return found.assign(regime=found["regime"].replace("", None))


def with_agreement(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Cells with their regime, and how often it stays under resampling.

    Args:
        rows: Rows of the table `regimes` of one study.
        seed: Seed of the resampling.

    Returns:
        The columns of `cells`; `regime`, by boundaries learned from these cells; `agreement`, the share of the
        boundaries learned from resampled grids that give it.
    """
    table = cells(rows)
    found = learn(table).regimes(table["lmc"], table["cka"])
    others = [each.regimes(table["lmc"], table["cka"]) for each in resampled(rows, seed)]
    return table.assign(regime=found, agreement=np.mean([other == found for other in others], axis=0))


def _residuals(rows: pd.DataFrame, seeds: str) -> tuple[float, int]:
    """Sum of squares of the test error that neither temperature nor seed explains at a density; degrees of freedom."""
    squares, freedom = 0.0, 0
    for _, part in rows.groupby("density"):
        errors = part.pivot_table(index="temperature", columns=seeds, values="test_error").dropna()
        if errors.empty:
            continue
        left = errors.sub(errors.mean(axis=1), axis=0).sub(errors.mean() - errors.to_numpy().mean())
        squares += float(np.square(left.to_numpy()).sum())
        freedom += (errors.shape[0] - 1) * (errors.shape[1] - 1)
    return squares, freedom


def _noise(rows: pd.DataFrame) -> float:
    """Standard error of the mean test error of a cell, pooled over the cells of one kind."""
    place = ["density", "temperature"]
    for seeds in ("dense_seed", "retrain_seed"):
        counts = rows.groupby([*place, seeds])["test_error"].mean().groupby(place).count()
        squares, freedom = _residuals(rows, seeds)
        if freedom:
            return float(np.sqrt(squares / freedom / counts[counts > 1].mean()))
    by_density = [part.sort_values("temperature")["test_error"] for _, part in rows.groupby("density")]
    differences = np.concatenate([errors.diff().diff().dropna().to_numpy() for errors in by_density])
    return float(np.sqrt(np.median(differences**2) / 0.4549 / 6)) if len(differences) else 0.0  # 0.4549: of chi-square


def _between(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Candidates of a boundary: below all values, above all, and at quantiles in the middle of neighbours."""
    ordered = np.unique(values)
    middles = (ordered[1:] + ordered[:-1]) / 2
    if len(middles) > CANDIDATES:
        middles = middles[np.linspace(0, len(middles) - 1, CANDIDATES).round().astype(int)]
    return np.concatenate([ordered[:1], middles, np.nextafter(ordered[-1:], np.inf)])


def _directed(column: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Cells of one density from hot to cold, with the direction of the best temperature."""
    order = {value: rank for rank, value in enumerate(from_hot_to_cold(kind, column["temperature"].tolist()))}
    ordered = column.assign(rank=column["temperature"].map(order)).sort_values("rank", ignore_index=True)
    if ordered["test_error"].isna().all():
        return ordered.assign(direction=STAY)
    best = int(np.nanargmin(ordered["test_error"].to_numpy(float)))
    side = np.where(ordered.index > best, HOTTER, COLDER)
    return ordered.assign(direction=np.where(ordered["matters"], side, STAY))


def _check(rows: pd.DataFrame) -> None:
    for kind, part in rows.groupby("temperature_kind"):
        for name in ("temperature", "density"):
            if part[name].nunique() < 2:
                raise UserError(
                    f"regimes need two values of {name} or more; {kind} has {part[name].unique()[0]:g} alone"
                )
