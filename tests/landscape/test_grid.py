from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast import tables
from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.landscape import grid, regimes, temperature
from prunecast.landscape.optimisation import Recipe
from prunecast.landscape.temperature import Grid
from prunecast.networks.preresnet import PreResNet
from prunecast.networks.vision import ImageClassifier

SMALL = Grid(
    kind="epochs", temperatures=(1, 2), densities=(0.2, 0.6), dense_seeds=1, retrain_seeds=2, depth=8, width=2, side=8,
    train_examples=48, compared_examples=40, eval_examples=30,
    dense=Recipe(2, batch_size=16), retraining=Recipe(1, batch_size=16), together=8,
)  # fmt: skip


def _task(side: int = 8) -> Task:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 90)
    bright = (60 * labels)[:, None, None, None] + draw.integers(0, 60, (90, side, side, 1))
    split = Split(bright.astype(np.uint8), labels)
    return Task(
        "stripes", "image", "file", ("a", "b", "c"), split.first(60), Split(bright[60:].astype(np.uint8), labels[60:])
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("grid")
    return grid.measure(_task(), SMALL, "small", folder), folder


def test_a_grid_has_a_row_for_each_network_and_keeps_its_contract(measured: tuple[pd.DataFrame, Path]) -> None:
    rows, _ = measured
    valid = tables.validate("regimes", regimes.with_regimes(rows))
    assert len(valid) == 2 * 2 * 2
    assert valid[["test_error", "lmc", "cka", "regime"]].notna().all().all()
    by_cell = valid.groupby(["temperature", "density"])
    assert (by_cell[["lmc", "cka"]].max() == by_cell[["lmc", "cka"]].min()).all().all()  # the one pair of the cell
    assert valid.groupby("temperature")["dense_error"].nunique().eq(1).all()


def test_a_second_run_trains_nothing_and_an_interrupted_one_goes_on(measured: tuple[pd.DataFrame, Path]) -> None:
    rows, folder = measured
    files = sorted(folder.rglob("*.*"))
    before = {file: file.stat().st_mtime_ns for file in files}
    pd.testing.assert_frame_equal(grid.measure(_task(), SMALL, "small", folder), rows)
    assert {file: file.stat().st_mtime_ns for file in files} == before
    for cell in ("cell_0_1_0.2", "cell_0_2_0.6"):
        (folder / f"{cell}.json").unlink()
    pd.testing.assert_frame_equal(grid.measure(_task(), SMALL, "small", folder), rows, rtol=1e-3, atol=1e-3)


def test_how_many_are_trained_at_once_changes_nothing(measured: tuple[pd.DataFrame, Path], tmp_path: Path) -> None:
    one_by_one = grid.measure(_task(), replace(SMALL, together=1), "small", tmp_path)
    pd.testing.assert_frame_equal(one_by_one, measured[0], rtol=0.02, atol=0.02)


def test_networks_that_fail_to_train_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNECAST_LOG", str(tmp_path / "log"))
    hot = replace(SMALL, retraining=Recipe(1, batch_size=16, learning_rate=1e30))
    rows = grid.measure(_task(), hot, "small", tmp_path / "grid")
    assert rows[["test_error", "lmc", "cka"]].isna().all().all()
    assert rows["dense_error"].notna().all()
    assert "2 of 2 networks failed to train at epochs 1, density 0.2" in (tmp_path / "log").read_text()
    assert regimes.cells(rows)[["test_error", "lmc", "cka", "gap"]].isna().all().all()
    with pytest.raises(UserError, match="there is none"):
        regimes.with_regimes(rows)


@pytest.mark.parametrize(
    "changes", [{"8.bias": float("nan")}, {"4.weight": 0.0, "4.bias": 0.0}], ids=["diverged", "one output for all"]
)
def test_a_network_that_failed_is_in_no_pair_and_the_others_stay(changes: dict[str, float]) -> None:
    torch.manual_seed(0)
    first, failed, second = (PreResNet(3, 8, 2, 1).state_dict() for _ in range(3))
    for name, value in changes.items():  # of the classifier, or of the norm before it
        failed[name].fill_(value)
    data = grid.data_of(_task(), SMALL)
    both = grid._networks([first, second], data, SMALL)
    without_pair = grid._networks([first, failed], data, SMALL)
    assert without_pair[0] == both[0] | {"lmc": None, "cka": None, "cka_unbiased": None}
    assert without_pair[1] == {"retrain_seed": 1} | dict.fromkeys(grid.MEASURED)
    three = grid._networks([first, failed, second], data, SMALL)
    for row, expected in zip((three[0], three[2]), both, strict=True):
        assert [row[name] for name in grid.MEASURED] == pytest.approx([expected[name] for name in grid.MEASURED])


def test_pruning_leaves_the_largest_weights_of_each_convolution() -> None:
    state = PreResNet(3, 8, 4).state_dict()
    left, masks = grid.pruned(state, 0.25)
    for name, weight in state.items():
        if weight.dim() != 4:
            assert torch.equal(left[name], weight)
            continue
        count = weight.numel() - round(0.75 * weight.numel())
        expected = weight.abs().flatten().topk(count)[0].min()
        assert torch.equal(masks[name], weight.abs() >= expected)
        assert torch.equal(left[name], torch.where(masks[name], weight, 0))


def test_images_are_averaged_to_the_side_of_the_grid_and_standardised() -> None:
    task = _task(16)
    data = temperature.data_of(task, SMALL)
    means = task.train.images[:48].reshape(48, 8, 2, 8, 2).mean((2, 4))
    mean, deviation = task.train.images.mean(), task.train.images.std()
    np.testing.assert_allclose(data.train.pixels[:, 0].numpy(), (means - mean) / deviation, atol=1e-4)
    assert (len(data.compared), len(data.validation)) == (40, 30)


def test_reduced_images_are_the_same_but_for_rounding() -> None:
    small = temperature.reduced(_task(16), 8)
    means = _task(16).validation.images.reshape(30, 8, 2, 8, 2, 1).mean((2, 4))
    assert np.abs(small.validation.images - means).max() <= 0.5


def test_a_task_of_texts_is_a_sentence() -> None:
    task = Task("tales", "text", "file", ("a", "b"), Split(["one", "two"], np.arange(2)), Split(["one"], np.arange(1)))
    with pytest.raises(UserError, match="studied on images; task 'tales' consists of texts"):
        grid.data_of(task, SMALL)


def test_images_that_cannot_be_averaged_are_a_sentence() -> None:
    with pytest.raises(UserError, match="12 by 12 pixels cannot be averaged to 8 by 8"):
        temperature.data_of(_task(12), SMALL)


def test_a_saved_pair_is_two_pruned_checkpoints(measured: tuple[pd.DataFrame, Path], tmp_path: Path) -> None:
    places = grid.save_pair(_task(), SMALL, grid.Cell(0, 2, 0.2), measured[1], tmp_path)
    weights = [ImageClassifier.from_pretrained(place).network[1].convolution1.weight for place in places]
    assert torch.equal(weights[0] == 0, weights[1] == 0)
    assert (weights[0] == 0).double().mean() > 0.7
    assert not torch.equal(*weights)
