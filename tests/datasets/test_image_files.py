"""Image tasks on disk, against the arrays that were written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from prunecast.datasets import image_files, tasks
from prunecast.datasets.tasks import Task
from prunecast.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(12) % 4


def _arrays(**changes: Any) -> dict[str, Any]:
    return {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:8], "y_test": LABELS[:8]} | changes


def _load(folder: Path, arrays: dict[str, Any]) -> Task:
    (folder / "dots").mkdir()
    np.savez(folder / "dots" / "dots.npz", **arrays)
    return tasks.load_task("dots")


def test_local_images_come_as_arrays(task_folder: Path) -> None:
    task = _load(task_folder, _arrays(x_train=PIXELS[..., 0], x_test=PIXELS[:8, ..., 0]))
    assert (task.kind, task.source, task.label_names) == ("image", "folder", ("0", "1", "2", "3"))
    assert np.array_equal(task.train.images, PIXELS[..., :1])
    assert task.validation.labels.tolist() == LABELS[:8].tolist()


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None],
        LABELS.astype(np.uint8),
        LABELS.astype(float),
        LABELS.astype(str),
        LABELS.astype(float).astype(str),
        LABELS.astype("S1"),
    ],
)
def test_labels_are_numbers_in_any_form(task_folder: Path, labels: NDArray[Any]) -> None:
    task = _load(task_folder, _arrays(y_train=labels, y_test=labels[:8]))
    assert (task.label_names, task.names_known) == (("0", "1", "2", "3"), False)
    assert task.train.labels.tolist() == LABELS.tolist()
    assert task.train.labels.dtype == np.int64


def test_labels_that_are_words_name_the_classes(task_folder: Path) -> None:
    words = np.array(["dog", "cat", "eel", "ant"])[LABELS]
    task = _load(task_folder, _arrays(y_train=words, y_test=words[:8]))
    assert (task.label_names, task.names_known) == (("ant", "cat", "dog", "eel"), True)
    assert [task.label_names[label] for label in task.validation.labels] == words[:8].tolist()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ((PIXELS / 255).astype(np.float32), PIXELS),
        ((PIXELS / 255).astype(np.float64), PIXELS),
        (PIXELS.astype(np.float32), PIXELS),
        (PIXELS.astype(np.int64), PIXELS),
        (PIXELS > 127, np.where(PIXELS > 127, 255, 0)),
        (np.zeros_like(PIXELS, np.float32), np.zeros_like(PIXELS)),
    ],
)
def test_pixels_of_any_type_become_0_to_255(task_folder: Path, written: NDArray[Any], read: NDArray[Any]) -> None:
    task = _load(task_folder, _arrays(x_train=written, x_test=written[:8]))
    assert task.train.images.dtype == np.uint8
    assert np.array_equal(task.train.images, read)


RAGGED = np.array([np.zeros((2, 2)), np.zeros((3, 3))] * 6, dtype=object)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y_train": LABELS[:-1]}, r"dots\.npz, y_train: there are 11 labels, and 12 images of the split train"),
        ({"y_test": LABELS}, r"dots\.npz, y_test: there are 12 labels, and 8 images of the split test"),
        ({"y_train": np.eye(4)[LABELS]}, r"y_train: labels have the shape \(12, 4\), and need \(n,\)"),
        ({"y_test": np.full(8, 4)}, r"y_test, row 0 \(counted from 0\): label 4 is outside 0 to 3"),
        ({"y_train": LABELS - 1}, r"y_train, row 0 \(counted from 0\): label -1 is not the number of a class"),
        ({"y_train": LABELS + 0.5}, "label 0.5 is not the number of a class"),
        ({"y_test": np.array(["dog"] * 8)}, "y_test, row 0 .*: label 'dog' is not among the label names 0, 1, 2, 3"),
        ({"y_train": LABELS * 0, "y_test": LABELS[:8] * 0}, "split train: all 12 examples are of the class '0'"),
        ({"y_train": RAGGED}, r"array 'y_train' of dots\.npz cannot be read as numbers or texts \(Object arrays"),
        ({"x_train": RAGGED}, r"array 'x_train' of dots\.npz cannot be read as numbers or texts \(Object arrays"),
        ({"x_train": PIXELS.transpose(0, 3, 1, 2)}, r"x_train: images have the shape \(12, 3, 5, 4\), and need"),
        ({"x_train": PIXELS.reshape(12, -1)}, r"x_train: images have the shape \(12, 60\), and need"),
        ({"x_train": PIXELS[:, :0]}, r"x_train: images have the shape \(12, 0, 4, 3\), and need"),
        ({"x_test": PIXELS[:8, :4]}, r"shapes \(5, 4, 3\) \(train\) and \(4, 4, 3\) \(test\)"),
        ({"x_train": PIXELS / 127.5 - 1}, "values of images run from -1 to 1; they must be whole numbers"),
        ({"x_train": PIXELS / 2}, "values of images run from 0 to 127.5; they must be whole numbers"),
        ({"x_train": PIXELS.astype(np.int32) + 1}, "values of images run from 1 to 256; they must"),
        ({"x_train": np.full(PIXELS.shape, np.nan)}, "values of images run from nan to nan; they must"),
        ({"x_train": PIXELS.astype(str)}, "images are of type .*, and need whole numbers"),
        ({"x_train": PIXELS[:0], "y_train": LABELS[:0]}, r"dots\.npz: there are no images of the split train"),
    ],
)
def test_spoilt_arrays_are_refused_in_one_sentence(task_folder: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        _load(task_folder, _arrays(**changes))
    assert "\n" not in str(refused.value)


def test_other_arrays_are_answered_with_those_that_are_needed_and_those_there_are(task_folder: Path) -> None:
    sentence = r"dots\.npz has no array 'x_train': it needs x_train, y_train, x_test, y_test, it has a, b, c, d"
    with pytest.raises(UserError, match=sentence):
        _load(task_folder, dict(zip("abcd", _arrays().values(), strict=True)))


@pytest.mark.parametrize("damage", ["empty", "text", "array", "cut", "changed"])
def test_a_damaged_file_of_arrays_is_refused_in_one_sentence(task_folder: Path, damage: str) -> None:
    folder = task_folder / "dots"
    folder.mkdir()
    path = folder / "dots.npz"
    np.savez_compressed(path, **_arrays())
    content = path.read_bytes()
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, PIXELS)
    else:
        middle = len(content) // 3
        changed = content[:middle] + bytes(64) + content[middle + 64 :]
        path.write_bytes({"empty": b"", "text": b"junk", "cut": content[:middle], "changed": changed}[damage])
    with pytest.raises(UserError, match=r"^(array '\w+' of )?dots\.npz cannot be read as numbers or texts \(.+\)$"):
        tasks.load_task("dots")


def _tiles(folder: Path, side: int = 2) -> dict[str, NDArray[Any]]:
    """A task of one file of tiles a split; returns the images that were written."""
    folder.mkdir()
    count = image_files.TILES_A_SIDE**2
    written = {}
    for number, split in enumerate(("train", "test")):
        images = np.random.default_rng(number).integers(0, 256, (count, side, side, 3)).astype(np.uint8)
        rows = images.reshape(50, 50, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(50 * side, 50 * side, 3)
        Image.fromarray(rows).save(folder / f"{split}_00.webp", lossless=True)
        written[split] = images
    labels = np.arange(count) % 2
    np.savez(folder / "labels.npz", y_train=labels, y_test=labels, classes=["dog", "cat"])
    return written


def test_tiles_come_as_images_in_their_order(task_folder: Path) -> None:
    written = _tiles(task_folder / "tiled")
    task = tasks.load_task("tiled")
    assert np.array_equal(task.train.images, written["train"])
    assert np.array_equal(task.validation.images, written["test"])
    assert task.label_names == ("dog", "cat")


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((100, 90), r"train_01\.webp has 100 by 90 pixels: a file of tiles is a grid of 50 by 50"),
        ((150, 150), r"train_01\.webp has 150 by 150 pixels: a file of tiles"),
        ((100, 100), r"labels\.npz, y_train: there are 2500 labels, and 5000 images"),
        ((30, 30), r"train_01\.webp has 30 by 30 pixels: a file of tiles"),
    ],
)
def test_tiles_of_another_size_or_number_are_refused(task_folder: Path, size: tuple[int, int], sentence: str) -> None:
    _tiles(task_folder / "tiled")
    Image.new("RGB", size).save(task_folder / "tiled" / "train_01.webp")
    with pytest.raises(UserError, match=sentence):
        tasks.load_task("tiled")


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_damaged_file_of_tiles_is_named(task_folder: Path, kept: int) -> None:
    _tiles(task_folder / "tiled")
    path = task_folder / "tiled" / "test_00.webp"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"^test_00\.webp cannot be read as an image"):
        tasks.load_task("tiled")


def test_missing_tiles_and_labels_are_named(task_folder: Path) -> None:
    folder = task_folder / "tiled"
    _tiles(folder)
    (folder / "test_00.webp").unlink()
    with pytest.raises(UserError, match=r"tiled has labels\.npz and no test_\*\.webp"):
        tasks.load_task("tiled")
    (folder / "labels.npz").unlink()
    with pytest.raises(
        UserError, match=r"needs train\.parquet, .* or for images tiled\.npz, or labels\.npz with tiles"
    ):
        tasks.load_task("tiled")
