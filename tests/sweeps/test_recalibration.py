from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prunecast import tables
from prunecast.datasets.tasks import Split
from prunecast.errors import UserError
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.models.inputs import Examples
from prunecast.networks.vision import ImageClassifier
from prunecast.sweeps import collect, journal, proxies, recalibration, sweeper
from prunecast.sweeps.adaptive import Evaluate
from small_images import pruned_by_hand, trained_on_digits
from tiny import plan
from torch import Tensor, nn

THRESHOLDS = sweeper.grid(11)
IMAGES = 100  # one batch
ROUNDED = 2 / 360  # accuracy: two examples may be on the other side of a boundary, by rounding of the statistics


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.layer(pixel_values))
        return normalised


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedModel]:
    """A network with batch norms; no test may change it, not even a statistic."""
    subject = trained_on_digits(tmp_path_factory.mktemp("digits") / "small")
    yield subject
    stored = ImageClassifier.from_pretrained(subject.folder).state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in subject.model.state_dict().items())
    assert not any(module.training for module in subject.model.modules())


@pytest.fixture
def own(trained: TrainedModel, tmp_path: Path) -> TrainedModel:
    """The same network with a folder to which the test may write."""
    trained.model.save_pretrained(tmp_path / "small")  # type: ignore[operator]
    return replace(trained, folder=tmp_path / "small")


def _curve(subject: TrainedModel, images: Examples | None) -> list[float]:
    measured = sweeper.Sweeper(subject.model, subject.weights, subject.examples, "float32", 0, images)
    accuracies: list[float] = measured.curve("magnitude", "layer", THRESHOLDS, "exact")[0]["accuracy"].to_list()
    return accuracies


def _by_hand(subject: TrainedModel, images: Tensor | None) -> list[float]:
    networks = [pruned_by_hand(subject, share / 10, images if share else None) for share in range(11)]
    return [evaluate(network, subject.examples).accuracy for network in networks]


def test_recalibrated_statistics_are_those_of_the_images_in_however_many_batches() -> None:
    torch.manual_seed(0)
    model, images = Normalised().eval(), torch.randn(2 * recalibration.BATCH, 3, 8, 8)
    with torch.no_grad():
        model.layer.weight.mul_(0.1)
        passed = model.layer(images)
    recalibration.recalibrate(model, Examples(images, None, torch.zeros(len(images))))
    mean, variance = model.norm.running_mean, model.norm.running_var
    assert mean is not None
    assert variance is not None
    assert torch.allclose(mean, passed.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(variance, passed.var((0, 2, 3)), rtol=1e-2)
    assert not model.norm.training
    assert model.norm.momentum == nn.BatchNorm2d(4).momentum


def test_uneven_batches_weigh_alike() -> None:
    model = Normalised().eval()
    images = torch.randn(recalibration.BATCH + 2, 3, 8, 8)
    with torch.no_grad():
        halves = [model.layer(half).mean((0, 2, 3)) for half in images.chunk(2)]
    recalibration.recalibrate(model, Examples(images, None, torch.zeros(len(images))))
    assert model.norm.running_mean is not None
    assert torch.allclose(model.norm.running_mean, (halves[0] + halves[1]) / 2, atol=1e-6)


def test_a_recalibrated_curve_is_that_of_statistics_taken_by_hand_and_its_dense_point_the_models_own(
    trained: TrainedModel,
) -> None:
    images = recalibration.recalibrating(trained, IMAGES).recalibrate_on
    assert images is not None
    assert _curve(trained, images) == pytest.approx(_by_hand(trained, images.inputs), abs=ROUNDED)
    assert _curve(trained, None) == _by_hand(trained, None)
    assert max(np.subtract(_curve(trained, images), _curve(trained, None))) > 0.2  # what recalibration is for


def test_the_images_are_drawn_from_the_training_split_or_else_from_the_evaluated_examples(
    trained: TrainedModel,
) -> None:
    drawn = recalibration.recalibrating(trained, IMAGES).recalibrate_on
    assert drawn is not None
    pool = {image.tobytes() for image in (trained.task.train.images / np.float32(127.5) - 1).astype(np.float32)}
    assert {image.numpy().transpose(1, 2, 0).tobytes() for image in drawn.inputs} <= pool
    nothing = Split(trained.task.train.images[:0], trained.task.train.labels[:0])
    without = replace(trained, task=replace(trained.task, train=nothing))
    everything = recalibration.recalibrating(without, 10_000).recalibrate_on
    assert everything is not None
    assert torch.equal(everything.inputs, trained.examples.inputs)


@pytest.mark.parametrize("number", [-1, 1])
def test_a_number_of_images_that_has_no_variance_is_one_sentence(trained: TrainedModel, number: int) -> None:
    with pytest.raises(UserError, match=f"recalibrate is {number}; it is 0, .* from 2 on"):
        recalibration.recalibrating(trained, number)


def test_a_model_without_batch_norms_is_swept_as_it_is(own_subject: TrainedModel, tmp_path: Path) -> None:
    assert recalibration.recalibrating(own_subject, IMAGES) is own_subject  # a text classifier
    before = collect.swept(own_subject, plan(3))
    written = (own_subject.folder / collect.JOURNAL).read_text()
    after = collect.swept(own_subject, plan(3, recalibrate=IMAGES))
    assert (own_subject.folder / collect.JOURNAL).read_text() == written
    assert after.sweeps.equals(before.sweeps)
    assert set(after.engines["recalibrated"]) == {0}


@pytest.mark.slow
def test_a_sweep_says_that_it_recalibrates_and_is_measured_anew_for_it(own: TrainedModel, tmp_path: Path) -> None:
    settings = {"criteria": ["magnitude"], "exact": ["small"]}
    stale = collect.swept(own, plan(11, **settings))
    key = journal.whole_lines(own.folder / collect.JOURNAL)[0]
    fresh = collect.swept(own, plan(11, **settings, recalibrate=IMAGES))
    assert key != journal.whole_lines(own.folder / collect.JOURNAL)[0]
    layer = fresh.sweeps.query("scope == 'layer' and axis == 'percentile'")["accuracy"].to_list()
    images = recalibration.recalibrating(own, IMAGES).recalibrate_on
    assert layer == pytest.approx(_by_hand(own, images.inputs if images else None), abs=ROUNDED)
    assert set(stale.engines["recalibrated"]) == {0}
    assert set(fresh.engines["recalibrated"]) == {IMAGES}
    assert fresh.models["dense_accuracy"].iloc[0] == evaluate(own.model, own.examples).accuracy
    path = tables.write("engines", stale.engines, tmp_path)
    stale.engines.drop(columns="recalibrated").to_csv(path, index=False)  # as an earlier version wrote it
    assert tables.read("engines", tmp_path)["recalibrated"].tolist() == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "adaptive"])
def test_a_recalibrated_sweep_that_was_killed_ends_in_the_same_tables(own: TrainedModel, engine: str) -> None:
    settings = {"criteria": ["magnitude"], "exact": ["small"] if engine == "exact" else [], "recalibrate": IMAGES}
    whole = collect.swept(own, plan(21, **settings))
    path = own.folder / collect.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:30])
    resumed = collect.swept(own, plan(21, **settings))
    assert resumed.sweeps.equals(whole.sweeps)
    assert resumed.engines.equals(whole.engines)
    assert len(path.read_bytes().splitlines()) == len(lines)


def test_an_interrupted_evaluation_restores_weights_and_statistics(trained: TrainedModel) -> None:
    images = recalibration.recalibrating(trained, IMAGES).recalibrate_on
    measured = sweeper.Sweeper(trained.model, trained.weights, trained.examples, "float32", 0, images)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}

    def interrupted(evaluate_at: Evaluate) -> Evaluate:
        def stop(point: int, rows: np.ndarray) -> object:
            evaluate_at(5, rows)
            raise KeyboardInterrupt

        return stop  # type: ignore[return-value]

    with pytest.raises(KeyboardInterrupt):
        measured.curve("magnitude", "layer", THRESHOLDS, "exact", interrupted)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())


def test_outcomes_of_single_examples_are_those_of_the_recalibrated_network(trained: TrainedModel) -> None:
    recalibrated = recalibration.recalibrating(trained, IMAGES)
    images = recalibrated.recalibrate_on
    assert images is not None
    rows, share = np.arange(40), 0.6
    network = pruned_by_hand(trained, share, images.inputs)
    agrees, correct = proxies.probe(
        trained.model, trained.weights, trained.examples, rows, "layer", [0.0, 10 * share], images
    )
    with torch.no_grad():
        predicted, dense = (
            each(trained.examples.inputs[rows])["logits"].argmax(-1) for each in (network, trained.model)
        )
    assert agrees[1].tolist() == (predicted == dense).tolist()
    assert correct[1].tolist() == (predicted == trained.examples.labels[rows]).tolist()
    assert agrees[0].all()
    with_images, without = (proxies.measure(each, 11, 40)["signals"] for each in (recalibrated, trained))
    same = [name for name in without if name != "agreement"]
    assert with_images[same].equals(without[same])
    assert (with_images["agreement"] != without["agreement"]).any()
