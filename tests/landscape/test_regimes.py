from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from grids import COLD, table
from prunecast.errors import UserError
from prunecast.landscape.regimes import Boundaries, cells, learn, resampled, with_agreement, with_regimes


def test_cells_say_on_which_side_the_best_temperature_lies() -> None:
    found = cells(table())
    expected = ["colder", "colder", "stay", "hotter", "hotter"] * 3
    assert found["direction"].to_list() == expected
    np.testing.assert_allclose(found["gap"], [0.04, 0.02, 0, 0.02, 0.04] * 3, atol=0.005)


def test_where_larger_is_hotter_the_sides_are_exchanged() -> None:
    found = cells(table("rho")).query("density == 0.1")
    assert found["temperature"].to_list() == [16, 8, 4, 2, 1]
    assert found["direction"].to_list() == ["colder", "colder", "stay", "hotter", "hotter"]


def test_nothing_matters_below_the_noise() -> None:
    loud = table(noise=0.1, seeds=3)
    assert cells(loud)["matters"].mean() < 0.35
    assert cells(table())["matters"].mean() == pytest.approx(0.8)


def test_noise_is_that_of_differences_over_dense_networks_or_retrained_ones() -> None:
    """What shifts a whole network changes no difference between its temperatures, and is no noise of one."""
    rows = table(noise=0.02, seeds=4)
    variances = []
    for _, part in rows.groupby("density"):
        square = part.pivot(index="dense_seed", columns="temperature", values="test_error")
        variances += [(square[a] - square[b]).var() / 2 for a, b in combinations(square.columns, 2)]
    expected = np.sqrt(np.mean(variances) / 4)
    assert cells(rows)["noise"].iloc[0] == pytest.approx(expected)
    shifted = rows.assign(test_error=rows["test_error"] + 0.1 * rows["dense_seed"])
    assert cells(shifted)["noise"].iloc[0] == pytest.approx(expected)
    retrained = rows.assign(retrain_seed=rows["dense_seed"], dense_seed=0)
    assert cells(retrained)["noise"].iloc[0] == pytest.approx(expected)


def test_noise_without_seeds_comes_from_second_differences() -> None:
    draw = np.random.default_rng(1)
    epochs = np.arange(1, 200)
    parts = [table(seeds=1).iloc[:1].assign(key=0).drop(columns=["temperature", "density"])] * 1
    rows = parts[0].merge(pd.DataFrame({"key": 0, "temperature": epochs}), on="key")
    rows = pd.concat([rows.assign(density=density) for density in (0.1, 0.2)])
    rows["test_error"] = 0.3 - 0.001 * rows["temperature"] + 0.01 * draw.normal(size=len(rows))
    assert cells(rows)["noise"].iloc[0] == pytest.approx(0.01, rel=0.2)


def test_boundaries_that_were_planted_are_learned() -> None:
    found = learn(cells(table()))
    assert -0.27 < found.lmc < -0.13
    assert 0.87 < found.cka < 0.94
    rows = with_regimes(table())
    assert rows["regime"].to_list() == [COLD[epochs] for epochs in rows["temperature"]]


def test_a_missing_cell_stays_missing() -> None:
    rows = table()
    gone = (rows["density"] == 0.1) & (rows["temperature"] == 8)
    rows.loc[gone, ["test_error", "lmc", "cka"]] = np.nan
    found = with_regimes(rows)
    assert found.loc[gone, "regime"].isna().all()
    assert found.loc[~gone, "regime"].notna().all()
    assert with_agreement(rows, 0)["regime"].eq("").sum() == 1


def test_a_regime_follows_from_both_metrics() -> None:
    found = Boundaries(-0.2, 0.9).regimes([-0.3, -0.1, -0.1, np.nan], [0.99, 0.8, 0.95, 0.9])
    assert found.tolist() == ["I", "II-A", "II-B", ""]


def test_resampling_is_repeated_with_the_same_seed() -> None:
    assert resampled(table(), 0, 5) == resampled(table(), 0, 5)
    agreement = with_agreement(table(), 0)["agreement"]
    assert agreement.between(0, 1).all()
    assert agreement.mean() > 0.9  # all densities are alike


@pytest.mark.parametrize(
    ("column", "sentence"), [("temperature", "temperature or more"), ("density", "density or more")]
)
def test_a_grid_with_one_column_is_a_sentence(column: str, sentence: str) -> None:
    rows = table()
    with pytest.raises(UserError, match=sentence):
        cells(rows[rows[column] == rows[column].iloc[0]])
