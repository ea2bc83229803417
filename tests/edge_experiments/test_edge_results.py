"""What is read from the table of judged edge surrogates, against a table made by hand."""

import pandas as pd
import pytest
from prunecast.edge_experiments import edge_results

SIZES = {2: "10-15", 30: ">100"}


def row(surrogate, spearman, **given):
    fixed = {
        "network": "random_dag", "iterations": 2, "net": 0, "seed": 0, "edges": 10, "protocol": "published",
        "subset": "all", "keep_rate": 0.5, "train_keep_rate": 1.0, "budget": "none", "evaluations": 1.0,
    }  # fmt: skip
    return fixed | {"surrogate": surrogate, "spearman": spearman} | given


PUBLISHED = pd.DataFrame(
    [
        row(name, score + size / 1000 + net / 100, iterations=size, net=net, train_keep_rate=rate, subset=subset)
        for name, score, rate in (
            ("reachability", 0.1, 1.0), ("flow", 0.2, 1.0), ("ridge", 0.3, 0.5), ("ridge", 0.25, 1.0),
            ("live_edges_chosen", 0.6, 0.5), ("few_examples", 0.9, 0.5),
        )
        for size in SIZES
        for net in range(6)
        for subset in ("all", "connected")
    ]
)  # fmt: skip
FAIR = pd.DataFrame(
    [
        row(name, score, keep_rate=rate, train_keep_rate=own, budget=budget, net=net)
        for name, score, own, budget in (
            ("ridge", 0.2, 0.5, "2 E"), ("ridge", 0.3, 0.9, "2 E"), ("live_edges", 0.7, 0.5, "2 E"),
            ("live_edges", 0.8, 0.9, "2 E"), ("ridge", 0.1, 0.9, "1 E"), ("gate_gradient", 0.4, 1.0, "none"),
        )
        for rate in (0.5, 0.9)
        for net in range(5)
    ]
).assign(protocol="fair", subset="connected")  # fmt: skip


def test_the_published_table_has_a_row_for_each_surrogate_and_kind_of_observed_masks():
    table = edge_results.published_table(PUBLISHED)
    assert table.loc[("flow", "leave one out"), ("10-15", "mean")] == pytest.approx(0.2 + 0.002 + 0.025)
    assert table.loc[("ridge", "random"), (">100", "connected")] == pytest.approx(0.3 + 0.03 + 0.025)
    assert ("ridge", "leave one out") not in table.index
    assert (
        table.loc[("reachability", "none"), ("10-15", "low")] < table.loc[("reachability", "none"), ("10-15", "mean")]
    )


def test_the_table_for_a_page_has_a_column_for_each_size():
    whole, connected = edge_results.shown(edge_results.published_table(PUBLISHED))
    assert list(whole.columns) == list(connected.columns) == ["10-15", ">100"]
    assert whole.loc[("flow", "leave one out"), "10-15"].startswith("0.23 (0.2")
    assert connected.loc[("ridge", "random"), ">100"] == pytest.approx(0.3 + 0.03 + 0.025)


def test_cost_is_set_against_score_at_one_keep_rate():
    found = edge_results.by_cost(FAIR).set_index(["surrogate", "budget"])["mean"]
    assert found["ridge", "2 E"] == pytest.approx(0.25)  # 0.2 at a keep rate of 0.5 and 0.3 at 0.9
    assert found["ridge", "1 E"] == pytest.approx(0.1)
    assert found["gate_gradient", "none"] == pytest.approx(0.4)


def test_transfer_has_every_pair_of_keep_rates():
    found = edge_results.transferred(FAIR).set_index(["surrogate", "train_keep_rate", "keep_rate"])["mean"]
    assert len(found) == 8
    assert found["ridge", 0.9, 0.5] == pytest.approx(0.3)


def test_a_difference_is_paired():
    found = edge_results.compared(FAIR, "live_edges", "ridge", "2 E")
    assert found["mean"].tolist() == pytest.approx([0.5, 0.5])
    assert (found["nets"] == 5).all()


def test_other_networks_have_their_kind_in_place_of_a_size():
    both = pd.concat([FAIR, FAIR.assign(network="residual_cnn", iterations=0)])
    assert set(edge_results.fair(both)["size"]) == {"10-15 edges", "residual cnn"}


def test_stated_numbers_are_those_of_the_tables():
    found = edge_results.headline(pd.concat([PUBLISHED, FAIR]))
    assert found["published_flow_least"] == pytest.approx(0.2 + 0.002 + 0.025)
    assert found["published_flow_most"] == pytest.approx(0.2 + 0.03 + 0.025)
    assert found["live_two"] == pytest.approx(0.75)
    assert found["ridge_two"] == pytest.approx(0.25)
