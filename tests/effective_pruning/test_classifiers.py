import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import paths, tables
from prunecast.effective_pruning import classifiers, image_pruning
from prunecast.effective_pruning.weight_scores import calibration_batches, every_weight
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models import checkpoints, zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.pruning import effective_number, gates
from prunecast.sweeps import collect, curve_metrics
from tiny import apart, plan

CRITERIA = ["magnitude", "random", "taylor", "saliency", "wanda"]
EPSILON = 0.05
NETWORKS = {
    "net": zoo.ModelSpec(
        task="digits", architecture="fc2_100", epochs=4, learning_rate_schedule="constant", standardise=True
    ),
    "splines": zoo.ModelSpec(task="digits", architecture="kan", epochs=2, learning_rate=1e-2),
}


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that holds a fully connected and a Kolmogorov-Arnold network for the digits."""
    monkeypatch.setattr(zoo, "registry", lambda: dict(NETWORKS))


def test_a_text_classifier_is_pruned_under_every_criterion(own_subject: TrainedModel) -> None:
    rows = tables.validate("emp", classifiers.of_classifier(own_subject, CRITERIA, "global", [0.1, 1000.0], EPSILON))
    assert rows["criterion"].drop_duplicates().to_list() == CRITERIA
    dense = evaluate(own_subject.model, own_subject.examples)
    assert set(rows["dense"]) == {dense.accuracy}
    assert set(rows["entries"]) == {sum(weight.numel() for weight in own_subject.weights.values())}
    whole = rows[rows["beta"] == 1000]
    assert set(whole["sparsity"]) == {0}
    assert set(whole["pruned"]) == set(whole["random_at_same_sparsity"]) == {dense.accuracy}
    assert set(whole["pruned_loss"]) == {dense.mean_loss}
    few: Any = rows[rows["beta"] == 0.1].set_index("criterion").to_dict("index")
    size = torch.cat([weight.detach().abs().flatten() for weight in own_subject.weights.values()])
    assert few["magnitude"]["kept"] == int(effective_number.mask(size, 0.1).sum())
    assert few["magnitude"]["magnitude_at_same_sparsity"] == few["magnitude"]["pruned"]
    assert few["random"]["optimum"] < few["magnitude"]["optimum"]


@pytest.mark.usefixtures("tiny_models")
def test_models_of_a_study_have_the_optima_of_its_measured_curves(subject: TrainedModel) -> None:
    apart(subject, paths.run("study") / "models")  # trained already
    study = collect.collect(["tiny"], "study", plan(6))
    for table in ("models", "sweeps"):
        tables.write(table, getattr(study, table), paths.outputs("study"))
    names = ["magnitude", "random", "taylor"]
    rows = tables.validate("emp", classifiers.of_study([], "study", names, EPSILON, 0))
    keys = list(rows[["model", "granularity", "criterion"]].itertuples(index=False, name=None))
    assert keys == [*(("tiny", "global", name) for name in names), ("tiny", "layer", "magnitude")]
    for row in rows.to_dict("records"):
        if row["criterion"] == "taylor":
            assert math.isnan(row["optimum"])
        else:
            measured = curve_metrics.safe_sparsities(study.sweeps, EPSILON, row["criterion"])
            assert row["optimum"] == measured[row["granularity"]].loc["tiny"]
    again = classifiers.of_study(["tiny"], "study", names, EPSILON, 0)
    pd.testing.assert_frame_equal(tables.validate("emp", again), rows)
    with pytest.raises(UserError, match="study 'study' has no curve of 'large'; it has those of tiny"):
        classifiers.of_study(["tiny", "large"], "study", names, EPSILON, 0)


@pytest.mark.usefixtures("networks")
def test_a_network_is_trained_once_for_every_seed_in_a_folder_of_its_own() -> None:
    betas, seeds = [0.5, 1.0, 5.0], [3, 8]
    rows = tables.validate("emp", classifiers.of_networks(["net"], "anew", betas, seeds, EPSILON))
    assert list(rows[["seed", "beta"]].itertuples(index=False, name=None)) == [(s, b) for s in seeds for b in betas]
    assert (rows["entries"] == 64 * 100 + 100 * 10).all()
    assert (rows["dense"] > 0.5).all()
    assert (rows["magnitude_at_same_sparsity"] == rows["pruned"]).all()
    assert rows.loc[rows["beta"] == 5, "sparsity"].to_list() == [0, 0]
    folders = [paths.run("anew") / f"seed_{seed}" / "models" / "net" for seed in seeds]
    one, other = (storage.load(folder)[0] for folder in folders)
    assert not torch.equal(*(model.get_parameter("network.1.weight") for model in (one, other)))
    for model, of in zip((one, other), (rows[rows["seed"] == seed] for seed in seeds), strict=True):
        size = torch.cat([weight.detach().abs().flatten() for weight in every_weight(model).values()])
        assert of["kept"].to_list() == [int(effective_number.mask(size, beta).sum()) for beta in betas]
    times = [(folder / "trained.json").stat().st_mtime_ns for folder in folders]
    pd.testing.assert_frame_equal(
        tables.validate("emp", classifiers.of_networks(["net"], "anew", betas, seeds, EPSILON)), rows
    )
    assert [(folder / "trained.json").stat().st_mtime_ns for folder in folders] == times


@pytest.mark.usefixtures("networks")
def test_nodes_of_a_kolmogorov_arnold_network_are_switched_off() -> None:
    subject = checkpoints.trained_classifier("splines", "small", 0)
    network: Any = subject.model.network
    before = [weight.clone() for weight in subject.model.parameters()]
    rows = tables.validate("emp", classifiers.of_kan(subject, [0.3, 1.0], EPSILON))
    assert set(rows["granularity"]) == {"node"}
    assert rows["criterion"].to_list() == ["attribution"] * 2 + ["magnitude"] * 2
    assert (rows["entries"] == 64).all()
    assert all(torch.equal(a, b) for a, b in zip(before, subject.model.parameters(), strict=True))
    images = torch.cat([batch["pixel_values"] for batch in calibration_batches(subject)])
    scores = gates.node_scores(network, images)
    for row in rows[rows["criterion"] == "attribution"].to_dict("records"):
        kept = {name: effective_number.mask(score, row["beta"]) for name, score in scores.items()}
        assert sum(int(mask.sum()) for mask in kept.values()) == row["kept"]
        with gates.nodes_off(network, kept):
            assert evaluate(subject.model, subject.examples).accuracy == row["pruned"]


def test_a_photograph_is_pruned_by_channels_and_patches_beside_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    corner = image_pruning.photograph()[150:190, 200:250].clip(1 / 255)  # without black: zeros are pruned entries
    monkeypatch.setattr(image_pruning, "photograph", lambda: corner)
    photograph, images = classifiers.of_photograph([1.0, 0.5], 0)
    rows = tables.validate("emp", photograph)
    keys = list(rows[["granularity", "beta"]].itertuples(index=False, name=None))
    assert keys == [("channel", 1.0), ("channel", 0.5), ("patch", 1.0), ("patch", 0.5)]
    assert (rows["entries"] == corner.size).all()
    assert (rows["pruned"] > rows["random_at_same_sparsity"]).all()
    assert list(images) == ["photograph", "channel", "channel, at random", "patch", "patch, at random"]
    for row in rows[rows["beta"] == 1].to_dict("records"):
        image, chance = images[row["granularity"]], images[f"{row['granularity']}, at random"]
        assert set(np.unique((image == 0) | (image == corner))) == {True}
        assert row["kept"] == np.count_nonzero(image) == np.count_nonzero(chance)
        assert row["preserved"] == pytest.approx(image.sum() / corner.sum())
