import numpy as np
import pandas as pd
import pytest
from grids import table
from prunecast import paths, tables
from prunecast.experiments import reproductions, three_regimes
from prunecast.landscape.regimes import Boundaries, cells
from prunecast.landscape.rules import GUIDED, NAIVE, WEIGHTED, by_regimes


@pytest.fixture
def paper() -> pd.DataFrame:
    return three_regimes.published(pd.read_csv(paths.PUBLISHED / "three_regimes.csv"))


def test_regret_is_the_error_above_that_of_the_best_temperature() -> None:
    found = three_regimes.decisions(cells(table(noise=0)), NAIVE).groupby("rule")["regret"].mean()
    assert found["always hotter"] == pytest.approx(0.04)
    assert found["always colder"] == pytest.approx(0.04)
    assert found["highest CKA"] == pytest.approx(0)


def test_advice_is_judged_where_temperature_matters() -> None:
    rules = {"right": by_regimes(Boundaries(-0.2, 0.9)), "poor": by_regimes(Boundaries(1, 0))}
    found = three_regimes.directions(cells(table()), rules)
    assert found.groupby("rule").size().to_dict() == {"right": 12, "poor": 12}  # four of five temperatures
    assert found.groupby("rule")["right"].mean().to_dict() == {"right": 1, "poor": 0.5}  # always hotter


def test_rules_are_not_judged_by_what_they_were_learned_from() -> None:
    """At one density the metrics are exchanged: what the others teach is wrong there, and nowhere else."""
    rows = table()
    odd = rows["density"] == 0.1
    rows.loc[odd, "lmc"] = rows.loc[odd, "temperature"].map({1: -0.5, 2: -0.5, 4: 0, 8: 0, 16: 0})
    rows.loc[odd, "cka"] = rows.loc[odd, "temperature"].map({1: 0.8, 2: 0.8, 4: 0.95, 8: 0.85, 16: 0.85})
    advice, chosen = three_regimes.judged(rows, "density")
    by_density = advice[advice["rule"] == GUIDED].groupby("density")["right"].mean()
    assert by_density[0.1] == 0
    assert set(chosen["dense_seed"]) == {0, 1}
    assert set(chosen["rule"]) == {*NAIVE, GUIDED, WEIGHTED, "noise scale"}


def test_metrics_of_one_network_stand_beside_errors_of_the_mean() -> None:
    rows = table()
    rows.loc[rows["dense_seed"] == 1, "cka"] = 0.5
    found = three_regimes.of_seed(rows, cells(rows), 1)
    assert (found["cka"] == 0.5).all()
    pd.testing.assert_series_equal(found["test_error"], cells(rows)["test_error"])


def test_a_summary_has_intervals_over_five_dense_networks_or_more() -> None:
    for seeds, known in ((2, False), (5, True)):
        found = three_regimes.summary(three_regimes.judged(table(seeds=seeds), "density")[1], 0)
        assert found[["low", "high"]].notna().all().all() == known
        assert found.loc["always colder", "regret"] == pytest.approx(4, abs=0.3)
        assert found.loc[GUIDED, "difference"] == 0


def test_the_published_grid_gives_the_figures_of_the_paper(paper: pd.DataFrame) -> None:
    """Recomputed from the digitised figure: the choice by CKA costs at most 0.58 points, the last epoch up to 3.28."""
    found = three_regimes.decisions(cells(paper), {name: NAIVE[name] for name in ("highest CKA", "always colder")})
    largest = found.groupby("rule")["regret"].max() * 100
    assert largest.round(2).to_dict() == {"highest CKA": 0.58, "always colder": 3.28}
    assert len(paper) == 16 * 9


def test_halves_are_learned_from_one_and_judged_by_the_other(paper: pd.DataFrame) -> None:
    for by in ("density", "temperature"):
        found = three_regimes.halves(cells(paper), by)
        assert found["cells"].sum() == cells(paper)["matters"].sum()
        assert found[["right", "right, sloping"]].to_numpy().min() > 0.6


def test_the_reproductions_keep_their_contract(paper: pd.DataFrame) -> None:
    found = tables.validate("reproductions", reproductions.of_regimes(paper, table()))
    assert found["published"].round(2).to_list() == [3.28, 0.17, 0.58, -0.68]
    assert found["ours"].iloc[0] == pytest.approx(4, abs=0.3)


def test_the_cost_of_the_full_length_by_schedule() -> None:
    rows = pd.concat([table(), table("epochs_constant_rate")])
    found = three_regimes.last_against_best(cells(rows), ["epochs", "epochs_constant_rate"])
    assert len(found) == 6
    np.testing.assert_allclose(found["best"], 4)
    np.testing.assert_allclose(found["cost"], 4, atol=0.5)


def test_the_stated_numbers_are_those_of_the_tables(paper: pd.DataFrame) -> None:
    rows = pd.concat([table(), table("epochs_constant_rate")])
    advice, chosen = three_regimes.judged(rows, "density")
    by_source = three_regimes.by_source({"other densities": (advice, chosen)}, 0)
    control = three_regimes.last_against_best(cells(rows), ["epochs", "epochs_constant_rate"])
    found = three_regimes.headline(chosen, paper, by_source, control, 0)
    of_epochs = chosen.query("temperature_kind == 'epochs' and rule == 'always colder'")["regret"]
    assert found["cold_epochs"] == pytest.approx(100 * of_epochs.mean())
    assert (round(found["similar_paper"], 2), round(found["cold_paper"], 2)) == (0.17, 1.53)
    assert found["right_all"] == pytest.approx(advice.loc[advice["rule"] == GUIDED, "right"].mean())
    assert found["constant_cost"] == pytest.approx(control.loc[(0.05, "epochs_constant_rate"), "cost"])
    assert found["cells"] == (advice["rule"] == GUIDED).sum()
