import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import paths, tables
from prunecast.edge_experiments import edge_scores
from prunecast.errors import UserError
from prunecast.experiments import reproductions
from prunecast.graph.structure import Graph

CHAIN = Graph(("input", "a", "b", "output"), ((0, 1), (1, 2), (2, 3), (0, 3)))


class Additive:
    """Every removed edge adds its cost to the loss."""

    graph, examples = CHAIN, 1

    def __init__(self, *costs: float) -> None:
        self.costs = np.array(costs)

    def losses(self, masks):
        return 1 + (1 - self.graph.checked(masks)) @ self.costs

    def gated_losses(self, gates):
        return 1 + (1 - gates) @ torch.tensor(self.costs)

    def on(self, count):
        return self


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return edge_scores.of_predictions(pd.read_csv(paths.PUBLISHED / "edge_surrogate_predictions.csv.gz"))


@pytest.fixture(scope="module")
def table(found: pd.DataFrame) -> pd.DataFrame:
    return edge_scores.beside_printed(pd.read_csv(paths.PUBLISHED / "edge_surrogates.csv"), found)


def _tau_b(first, second) -> float:
    signs = [np.sign(np.subtract.outer(values, values))[np.triu_indices(len(values), 1)] for values in (first, second)]
    return (signs[0] @ signs[1]) / np.sqrt((signs[0] @ signs[0]) * (signs[1] @ signs[1]))


def test_scores_are_those_computed_by_hand_with_ties() -> None:
    draw = np.random.default_rng(0)
    true, forecast = draw.normal(size=40), draw.integers(6, size=40)
    ranks = [pd.Series(values).rank() for values in (true, forecast)]
    got = edge_scores.scores(true, forecast)
    assert got["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert got["kendall_b"] == pytest.approx(_tau_b(true, forecast))
    assert got["pearson"] == pytest.approx(np.corrcoef(true, forecast)[0, 1])


def test_scores_do_not_depend_on_the_unit_of_the_forecast_but_on_its_sign() -> None:
    true = np.random.default_rng(0).normal(size=20)
    assert edge_scores.scores(true, 3 * true + 1) == pytest.approx(
        {"spearman": 1, "kendall_b": 1, "pearson": 1, "top5_regret": 0}
    )
    assert edge_scores.scores(true, -true)["spearman"] == pytest.approx(-1)


def test_the_regret_is_the_mean_over_all_orders_of_tied_masks() -> None:
    true = np.array([5.0, 0.0, 3.0, 7.0, 4.0, 6.0, 2.0, 8.0])
    forecast = np.array([0, 2, 1, 1, 1, 1, 1, 1])  # one is certain, four of six are drawn
    drawn = [min(5.0, *(true[i] for i in four)) for four in itertools.combinations(range(2, 8), 4)]
    assert edge_scores.scores(true, forecast)["top5_regret"] == pytest.approx(np.mean(drawn) / 8)
    assert edge_scores.scores(true[:4], forecast[:4])["top5_regret"] == 0  # fewer than five: all are taken


def test_a_constant_forecast_scores_nothing_and_constant_losses_have_no_score() -> None:
    got = edge_scores.scores([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    assert [got[name] for name in ("spearman", "kendall_b", "pearson")] == [0, 0, 0]
    for losses in ([], [1.0], [2.0, 2.0]):
        assert np.isnan(list(edge_scores.scores(losses, np.arange(len(losses))).values())).all()


@pytest.mark.parametrize(("true", "forecast"), [([1, 2], [1]), ([1, 2], [1, np.nan]), ([1, np.inf], [1, 2])])
def test_what_cannot_be_ranked_is_refused(true, forecast) -> None:
    with pytest.raises(UserError, match=r"^[^\n]+$"):
        edge_scores.scores(true, forecast)


def test_scores_by_subset_are_those_of_the_masks_in_it() -> None:
    true, forecast, connected = np.arange(6.0), np.array([1, 0, 2, 5, 4, 3.0]), np.arange(6) < 3
    rows = edge_scores.by_subset(true, forecast, connected).set_index("subset")
    assert rows.loc["all", ["test_masks", "connected"]].to_list() == [6, 0.5]
    assert rows.loc["connected", ["test_masks", "connected"]].to_list() == [3, 1]
    assert rows.loc["connected", "spearman"] == edge_scores.scores(true[:3], forecast[:3])["spearman"]
    none = edge_scores.by_subset(true, forecast, np.zeros(6, bool)).set_index("subset")
    assert none.loc["connected"].isna().sum() == 5


def test_faithfulness_grows_with_the_importance_of_the_edges_kept() -> None:
    network = Additive(4, 3, 2, 1)
    right = edge_scores.faithfulness(network, {0: 4, 1: 3, 2: 2, 3: 1})
    np.testing.assert_allclose(right["kept"], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(right["faithfulness"], [0, 0.4, 0.7, 0.9, 1])
    assert edge_scores.areas(right) == pytest.approx({"cpr": 0.625, "cmd": 0.375})
    wrong = edge_scores.areas(edge_scores.faithfulness(network, {0: 1, 1: 2, 2: 3, 3: 4}))
    assert wrong["cpr"] < 0.5 < wrong["cmd"]


def test_what_is_removed_to_advantage_counts_in_one_area_and_against_the_other() -> None:
    """Without the last edge the loss is lower than with it: more faithful than the whole network."""
    got = edge_scores.areas(edge_scores.faithfulness(Additive(2, 2, 2, -4), {0: 3, 1: 2, 2: 1, 3: 0}))
    assert got["cpr"] > 1
    assert got["cmd"] > 0


def test_every_edge_needs_an_importance() -> None:
    with pytest.raises(UserError, match="4 edges, but 2 are ranked"):
        edge_scores.faithfulness(Additive(1, 1, 1, 1), {0: 1, 1: 2})


def _edges(nets: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {"network": "random_dag", "iterations": 2, "net": net, "seed": seed, "surrogate": surrogate}
        | {"evaluations": cost, "spearman": height + 0.01 * net}
        for net in range(nets)
        for seed in range(2)
        for surrogate, height, cost in (("ours", 0.6, 12), ("reachability", 0.3, 0))
    )


def test_means_over_networks_have_intervals_from_five_on() -> None:
    got = edge_scores.means(_edges(), ["iterations", "surrogate"]).loc[(2, "ours")]
    assert got["mean"] == pytest.approx(0.625)
    assert got["low"] < 0.625 < got["high"]
    assert (got["nets"], got["evaluations"]) == (6, 12)
    assert edge_scores.means(_edges(4), ["surrogate"])[["low", "high"]].isna().all().all()


def test_a_difference_is_paired_by_network_and_seed() -> None:
    got = edge_scores.differences(_edges(), "reachability", ["iterations"]).loc[(2, "ours")]
    assert got[["mean", "low", "high"]].to_list() == pytest.approx([0.3] * 3)
    with pytest.raises(UserError, match="no surrogate 'other'"):
        edge_scores.differences(_edges(), "other", ["iterations"])


def test_the_published_table_is_reproduced_but_for_the_sign_of_two_rows(table: pd.DataFrame) -> None:
    printed = table.dropna(subset=["printed"])
    assert len(printed) == 40
    opposite = printed["sign"] == "opposite"
    assert set(printed.index[opposite].get_level_values("surrogate")) == {"L1", "Taylor"}
    assert opposite.sum() == 16
    recomputed = printed["recomputed"].where(~opposite, -printed["recomputed"])
    np.testing.assert_allclose(recomputed, printed["printed"], atol=0.0006)
    spread = (printed["recomputed std"] - printed["printed std"]).abs() > 0.0006
    assert printed.index[spread].to_list() == [("kendall", "Linear", "20-40")]  # 0.083, printed as 0.119


def test_one_bit_scores_as_much_as_the_published_surrogate(table: pd.DataFrame, found: pd.DataFrame) -> None:
    one_bit = table.xs("spearman").xs("Reachability")["recomputed"]
    np.testing.assert_allclose(one_bit, [0.296, 0.293, 0.340, 0.400], atol=0.0006)
    assert (one_bit - table.xs("spearman").xs("Graph")["recomputed"]).abs().max() < 0.012
    connected = found.xs("connected", level="subset")["spearman"].groupby(["surrogate", "iterations"]).mean()
    assert connected["Graph"].between(0.45, 0.54).all()
    assert (connected["Reachability"] == 0).all()


def test_most_published_masks_disconnect_the_output(found: pd.DataFrame) -> None:
    share = found.xs(("Graph", "all"), level=("surrogate", "subset"))["connected"].groupby("iterations").mean()
    assert (1 - share).between(0.85, 0.935).all()


def test_reproductions_hold_the_recomputed_and_the_measured_means() -> None:
    printed = pd.read_csv(paths.PUBLISHED / "edge_surrogates.csv")
    predictions = pd.read_csv(paths.PUBLISHED / "edge_surrogate_predictions.csv.gz").query("net < 2")
    edges = pd.DataFrame(
        {"network": "random_dag", "protocol": protocol, "subset": "all", "surrogate": "flow", "iterations": 2}
        | {"spearman": score, "kendall_b": score - 0.1, "train_keep_rate": rate}
        for protocol, score, rate in (
            ("published", 0.4, 1.0),
            ("published", 0.2, 1.0),
            ("published", 0.7, 0.5),  # of other masks than the paper's
            ("fair", 0.9, 1.0),
        )
    )
    rows = tables.validate("reproductions", reproductions.of_structure(printed, predictions, edges))
    assert len(rows) == 2 * 2 * 6 * 4
    measured = rows[rows["table"] == "measured"].set_index("row")
    assert measured["ours"].dropna().to_dict() == pytest.approx(
        {"Graph, 10-15 edges: spearman": 0.3, "Graph, 10-15 edges: kendall": 0.2}
    )
    assert (measured["same_protocol"] == measured["ours"].notna()).all()
    again = rows[rows["table"] == "recomputed"].set_index("row")
    assert again.loc["L1, >100 edges: spearman", ["published", "note"]].to_list() == [
        0.28,
        "from the published predictions; they give the opposite sign",
    ]
    assert again.loc["L1, >100 edges: spearman", "ours"] < 0
