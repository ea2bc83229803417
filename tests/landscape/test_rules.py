import numpy as np
import pandas as pd
import pytest
from grids import table
from prunecast.landscape import rules
from prunecast.landscape.regimes import Boundaries, cells

BOUNDARIES = Boundaries(-0.2, 0.9)


def _column(lmc: list[float], cka: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"lmc": lmc, "cka": cka, "dense_error": [0.3, 0.2, 0.4][: len(lmc)], "noise_scale": [4, 2, 1][: len(lmc)]}
    )


@pytest.mark.parametrize(
    ("lmc", "cka", "chosen"),
    [
        ([0, 0, -0.5], [0.8, 0.85, 0.7], 1),  # from I hotter, back from II-A: the more similar of both
        ([0, 0, -0.5], [0.8, 0.95, 0.7], 1),  # from I hotter to II-B, where it stays
        ([-0.5, -0.5, -0.5], [0.7, 0.7, 0.7], 0),  # I throughout: the hottest
        ([0, 0, 0], [0.8, 0.8, 0.8], 2),  # II-A throughout: the coldest
        ([0, 0, np.nan], [0.95, 0.95, np.nan], 1),  # a missing one is left for a hotter one
    ],
)
def test_the_guided_choice_follows_the_advice(lmc: list[float], cka: list[float], chosen: int) -> None:
    assert rules.guided(BOUNDARIES)(_column(lmc, cka)) == chosen


def test_the_naive_choices() -> None:
    column = _column([0, 0, 0], [0.8, 0.9, np.nan])
    chosen = {name: choose(column) for name, choose in rules.NAIVE.items()}
    assert chosen == {"always hotter": 0, "always colder": 2, "best dense network": 1, "highest CKA": 1}
    assert rules.nearest_noise(2.5)(column) == 1


def test_the_best_noise_scale_is_a_geometric_mean() -> None:
    assert rules.best_noise(cells(table())) == pytest.approx(1 / 4)


def test_the_weighted_choice_recovers_a_planted_dependence() -> None:
    draw = np.random.default_rng(0)
    rows = table().assign(cka=lambda t: draw.uniform(0.5, 0.95, len(t)), lmc=lambda t: -draw.uniform(0, 0.5, len(t)))
    rows["test_error"] = 0.3 * (1 - rows["cka"]) ** 0.5 * np.exp(0.4 * np.sqrt(-rows["lmc"]))
    choose = rules.weighted(cells(rows[rows["dense_seed"] == 0]))
    for _, column in cells(rows[rows["dense_seed"] == 1]).groupby("density"):
        assert choose(column) == column["test_error"].to_numpy().argmin()


def test_advice_by_regimes_and_by_regression() -> None:
    learned = cells(table())
    others = _column([-0.5, 0, 0], [0.7, 0.86, np.nan])
    assert rules.by_regimes(BOUNDARIES)(others).tolist() == ["hotter", "colder", ""]
    assert rules.by_regression(learned)(others).tolist() == ["hotter", "colder", ""]
    only = rules.by_regression(learned[learned["direction"] == "hotter"])
    assert only(others).tolist() == ["hotter"] * 3
