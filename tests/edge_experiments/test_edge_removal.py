"""Surrogates judged on tiny networks: what is observed, what is judged, and that a second run measures nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from prunecast import tables
from prunecast.datasets.tasks import load_task
from prunecast.edge_experiments import edge_removal
from prunecast.edge_experiments.edge_removal import Protocols
from prunecast.edge_experiments.edge_subjects import Networks
from prunecast.errors import UserError

pytestmark = pytest.mark.slow  # every surrogate is fitted, the published ones for thousands of epochs

NETWORKS = Networks(
    iterations=(2,),
    nets=1,
    seeds=2,
    fair_seeds=1,
    train_examples=300,
    epochs=2,
    observed_examples=60,
    judged_examples=80,
)
PROTOCOLS = Protocols(published_masks=40, fair_masks=15, keep_rates=(0.5, 0.9), multiples=(1, 2), most_observed=40)


@pytest.fixture(scope="module")
def task():
    return load_task("digits")


@pytest.fixture(scope="module")
def measured(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edges")
    return edge_removal.measure(task, NETWORKS, PROTOCOLS, folder), folder


def test_the_rows_keep_to_the_contract(measured):
    assert len(tables.validate("edges", measured[0])) == len(measured[0])


def test_the_fair_protocol_is_run_for_its_seeds_alone(measured):
    seeds = measured[0].groupby("protocol")["seed"].agg(set)
    assert seeds.to_dict() == {"published": {0, 1}, "fair": {0}}


def test_fair_masks_are_connected_and_published_ones_are_counted(measured):
    rows = measured[0]
    assert (rows[rows["protocol"] == "fair"]["connected"] == 1).all()
    whole = rows[(rows["protocol"] == "published") & (rows["subset"] == "all")]
    assert (whole["test_masks"] == 40).all()
    assert (whole["connected"] < 0.5).all()


def test_costs_are_those_of_the_observed_masks(measured):
    rows = measured[0].set_index("surrogate")
    edges = rows["edges"].iloc[0]
    assert (rows.loc["leave_one_out", "evaluations"] == edges + 2).all()
    ridge = rows.loc["ridge"]
    assert (ridge["evaluations"] == ridge["observed"]).all()
    assert set(ridge[ridge["protocol"] == "fair"]["observed"]) == {edges, 2 * edges}
    assert (rows.loc["reachability", "evaluations"] == 0).all()


def test_every_surrogate_that_learns_from_masks_forecasts_other_keep_rates(measured):
    rows = measured[0]
    pairs = rows[(rows["surrogate"] == "live_edges") & (rows["budget"] == "2 E")]
    assert set(zip(pairs["train_keep_rate"], pairs["keep_rate"], strict=True)) == {
        (own, tested) for own in (0.5, 0.9) for tested in (0.5, 0.9)
    }


def test_an_interrupted_study_goes_on_and_gives_the_same_table(task, measured):
    rows, folder = measured
    next(folder.glob("2_0_1*.json")).unlink()
    again = edge_removal.measure(task, NETWORKS, PROTOCOLS, folder)
    pd.testing.assert_frame_equal(again, rows)


def test_a_larger_study_measures_only_what_is_new(task, measured, tmp_path):
    rows, folder = measured
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    more = edge_removal.measure(task, replace(NETWORKS, nets=2), PROTOCOLS, folder)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert len(more) == 2 * len(rows)


def test_few_examples_with_the_whole_budget_come_near_to_the_losses(measured):
    rows = measured[0].set_index("surrogate")
    assert rows.loc["few_examples", "spearman"].mean() > rows.loc["reachability", "spearman"].mean()


def test_residual_networks_and_language_models_are_judged_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNECAST_RUNS", str(tmp_path))
    names = ["digits_preresnet14", "docstrings_gpt2"]
    rows = edge_removal.measure_others(names, "test", 60, PROTOCOLS, tmp_path)
    valid = tables.validate("edges", rows)
    assert set(valid["network"]) == {"residual_cnn", "language_model"}
    assert np.isfinite(valid[valid["test_masks"] > 1]["spearman"]).all()


def test_settings_are_those_of_the_lists():
    lists = ((2,), (1, 2, 1), (300, 2, 60, 80), (40, 15, 40), (0.5, 0.9), (1, 2))
    assert edge_removal.settings_of(*lists) == (NETWORKS, PROTOCOLS)


@pytest.mark.parametrize(
    ("place", "wrong", "sentence"),
    [(1, (1, 2), "nets"), (2, (300, 0, 60, 80), "examples"), (3, (40,), "masks"), (4, (1.0,), "keep rate")],
)
def test_lists_of_another_kind_are_refused_in_a_sentence(place, wrong, sentence):
    lists = [(2,), (1, 2, 1), (300, 2, 60, 80), (40, 15, 40), (0.5, 0.9), (1, 2)]
    lists[place] = wrong
    with pytest.raises(UserError, match=sentence):
        edge_removal.settings_of(*lists)
