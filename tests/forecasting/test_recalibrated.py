from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prunecast import cli
from prunecast.datasets.tasks import load_task
from prunecast.datasets.user_files import read_data
from prunecast.forecasting import predict
from prunecast.forecasting.subjects import Subject, open_subject
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.networks.vision import ImageClassifier
from small_images import pruned_by_hand, trained_on_digits

EPSILON = 0.05
IMAGES = 100  # one batch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return trained_on_digits(tmp_path_factory.mktemp("digits") / "small")


@pytest.fixture
def opened(trained: TrainedModel) -> Iterator[Subject]:
    """The network, opened as a user's checkpoint, to be recalibrated; it is as it was when the test is over."""
    subject = open_subject(str(trained.folder), load_task("digits"), recalibrate=IMAGES)
    yield subject
    stored = ImageClassifier.from_pretrained(trained.folder).state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in subject.model.model.state_dict().items())


def test_a_saved_network_has_the_accuracy_that_was_measured_with_recalibrated_statistics(
    trained: TrainedModel, opened: Subject, tmp_path: Path
) -> None:
    ratio, safe = predict.largest_safe(opened.model, "layer", EPSILON, 0.5, opened.dense)
    predict.save_pruned(opened.model, opened.processor, "layer", ratio, tmp_path / "pruned")
    again = open_subject(str(tmp_path / "pruned"), load_task("digits"))
    assert again.dense_accuracy == safe.accuracy >= opened.dense_accuracy - EPSILON
    images = opened.model.recalibrate_on
    assert images is not None
    by_hand = pruned_by_hand(trained, ratio, images.inputs)
    assert evaluate(by_hand, trained.examples).accuracy == pytest.approx(safe.accuracy, abs=2 / 360)
    saved = again.model.model.state_dict()
    for name, value in by_hand.state_dict().items():
        assert torch.allclose(saved[name].float(), value.float(), rtol=1e-4, atol=1e-5) or "batches" in name
    stale, _ = predict.largest_safe(trained, "layer", EPSILON, 0.5)
    assert ratio > stale  # what recalibration is for
    assert predict.pruned_name(opened.model, "layer", ratio) != predict.pruned_name(trained, "layer", ratio)


def test_without_pruning_the_statistics_that_are_saved_are_the_networks_own(
    trained: TrainedModel, opened: Subject, tmp_path: Path
) -> None:
    predict.save_pruned(opened.model, opened.processor, "layer", 0.0, tmp_path / "whole")
    written = ImageClassifier.from_pretrained(tmp_path / "whole").state_dict()
    assert all(torch.equal(value, written[name]) for name, value in trained.model.state_dict().items())


def _folder_of_digits(folder: Path) -> Path:
    """Ten images of each of the ten digits, in a folder of a user's."""
    split = load_task("digits").validation
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for number, image in enumerate(split.images[split.labels == digit][:10]):
            Image.fromarray(image[..., 0]).save(folder / str(digit) / f"{number}.png")
    return folder


def test_a_users_own_images_are_used_without_their_labels_and_the_notes_say_so(
    trained: TrainedModel, tmp_path: Path
) -> None:
    data = read_data(_folder_of_digits(tmp_path / "mine"))
    subject = open_subject(str(trained.folder), data, recalibrate=40)
    images = subject.model.recalibrate_on
    assert images is not None
    assert len(images) == 40
    pool = {image.numpy().tobytes() for image in subject.model.examples.inputs}
    assert {image.numpy().tobytes() for image in images.inputs} <= pool
    assert len(np.unique(images.labels)) > 5  # drawn at random, not the first of a folder in the order of classes
    assert "taken anew over 40 of the evaluated images, labels not used" in subject.notes[-1]


def test_notes_say_what_is_recalibrated_and_what_recalibration_would_change(
    trained: TrainedModel, opened: Subject, subject: TrainedModel, task_folder: Path
) -> None:
    assert "taken anew over 100 unlabelled training images" in opened.notes[-1]
    without = open_subject(str(trained.folder), load_task("digits"), recalibrate=0)
    assert without.model.recalibrate_on is None
    assert "batch norms keep the statistics of the dense model" in without.notes[-1]
    compared = open_subject(str(trained.folder), load_task("digits"))
    assert compared.notes == without.notes[:-1]  # nothing is pruned, and nothing is said
    text = open_subject(str(subject.folder), load_task("colours"), recalibrate=IMAGES)
    assert text.model.recalibrate_on is None
    assert text.notes[-1] == "the model has no batch norms, so that nothing is recalibrated"
    assert "batch norms" not in " ".join(open_subject(str(subject.folder), load_task("colours"), recalibrate=0).notes)


@pytest.mark.slow
def test_the_command_recalibrates_measures_and_saves(
    trained: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(trained.folder), "--task", "digits", "--epsilon", "0.05", "--seed", "0"]
    arguments += ["--figure", str(tmp_path / "curve.svg"), "--save"]
    measured = []
    for images in ("0", "100"):
        assert cli.main([*arguments, str(tmp_path / images), "--recalibrate", images]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("measured"))
        measured.append(int(line.split("prune ")[1].split("%")[0]))
        accuracy = float(line.split("accuracy ")[1].split(";")[0])
        again = open_subject(str(tmp_path / images), load_task("digits"))
        assert again.dense_accuracy == pytest.approx(accuracy, abs=5e-4)
    assert measured[1] > measured[0]
    assert cli.main([*arguments, str(tmp_path / "none"), "--recalibrate", "1"]) == cli.MISTAKE
    assert "recalibrate is 1; it is 0" in capsys.readouterr().err
