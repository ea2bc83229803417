import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prunecast.datasets import docstrings, tasks
from prunecast.errors import UserError
from tiny import task_frames, write_task


def test_docstrings_are_balanced_distinct_and_do_not_name_their_class() -> None:
    task = tasks.load_task("docstrings")
    assert task.source == "built-in"
    assert task.classes == len(docstrings.PACKAGES) >= 6
    assert np.bincount(task.validation.labels).tolist() == [64] * task.classes
    everything = [*task.train.inputs, *task.validation.inputs]
    assert len(set(everything)) == len(everything)
    assert not [text for text in everything if any(name in text.lower() for name in docstrings.PACKAGES)]


def test_digits_are_images_of_ten_classes() -> None:
    task = tasks.load_task("digits")
    assert (task.kind, task.classes, task.train.images.shape[1:]) == ("image", 10, (8, 8, 1))
    assert task.train.images.max() == 255


def test_a_local_folder_is_a_task(task_folder: Path) -> None:
    task = tasks.load_task("colours")
    assert (task.source, task.classes, len(task.train), len(task.validation)) == ("folder", 3, 180, 90)
    assert task.majority_accuracy == pytest.approx(1 / 3)


def test_a_fingerprint_changes_with_one_label(task_folder: Path) -> None:
    task = tasks.load_task("colours")
    labels = task.train.labels.copy()
    labels[0] = (labels[0] + 1) % 3
    changed = tasks.Task(
        task.name, task.kind, task.source, task.label_names, tasks.Split(task.train.inputs, labels), task.validation
    )
    assert changed.fingerprint != task.fingerprint


def test_an_unknown_task_is_answered_with_the_known_ones(task_folder: Path) -> None:
    with pytest.raises(UserError, match="'shapes'.*docstrings, digits.*colours.*sst2"):
        tasks.load_task("shapes")


def _spoilt(split: str, column: str, row: int, value: str | int) -> dict[str, pd.DataFrame]:
    frames: dict[str, pd.DataFrame] = task_frames()
    frames[split].loc[row, column] = value
    return frames


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ({"train": task_frames()["train"]}, r"no validation\.parquet"),
        (_spoilt("validation", "label", 7, 3), "validation, row 7: label 3 is outside 0 to 2"),
        (_spoilt("train", "label", 0, -1), "train, row 0: label -1 is outside"),
        (_spoilt("train", "text", 5, "  "), "train, row 5: the text is empty"),
        ({s: f.rename(columns={"text": "sentence"}) for s, f in task_frames().items()}, "no column 'text'"),
        ({s: f.assign(label="warm") for s, f in task_frames().items()}, "labels must be whole numbers"),
        ({s: f.head(0) for s, f in task_frames().items()}, "there are no examples"),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_sentence(
    task_folder: Path, frames: dict[str, pd.DataFrame], sentence: str
) -> None:
    write_task(task_folder / "spoilt", frames)
    with pytest.raises(UserError, match=sentence):
        tasks.load_task("spoilt")


def test_a_task_of_the_hub_is_what_load_dataset_reads(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for split, frame in task_frames().items():
        name = {"train": "train", "validation": "test"}[split]
        frame.rename(columns={"text": "sentence", "label": "tone"}).to_parquet(folder / f"{name}-0.parquet")
    entry = {"path": str(folder.parent), "text": "sentence", "label": "tone", "validation": "test"}
    task = tasks.from_hub("colours", entry)
    assert (task.source, task.classes, len(task.train), len(task.validation)) == ("hub", 3, 180, 90)
    held_out = task_frames()["validation"]
    served = list(zip(task.validation.inputs, task.validation.labels.tolist(), strict=True))
    assert sorted(served) == sorted(zip(held_out["text"], held_out["label"], strict=True))
    assert len(np.unique(task.validation.labels[:10])) == 3  # shuffled: splits of the hub may be sorted by class
    with pytest.raises(UserError, match="no split 'validation'"):
        tasks.from_hub("colours", {key: entry[key] for key in ("path", "text", "label")})


def test_a_task_of_torchvision_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "runs" / ".cache" / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 4)):
        images, labels = np.arange(count * 784, dtype=np.uint8), np.arange(count, dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())
    task = tasks.from_hub("mnist", {"torchvision": "MNIST"})
    assert (task.train.images.shape, task.validation.labels.tolist()) == ((6, 28, 28, 1), [0, 1, 2, 3])


def test_local_images_come_as_arrays(task_folder: Path) -> None:
    (task_folder / "dots").mkdir()
    np.savez(
        task_folder / "dots" / "dots.npz",
        x_train=np.zeros((5, 28, 28), np.uint8),
        y_train=np.array([0, 1, 0, 1, 0]),
        x_test=np.zeros((3, 28, 28), np.uint8),
        y_test=np.array([0, 1, 1]),
    )
    task = tasks.load_task("dots")
    assert (task.kind, task.source, task.train.images.shape) == ("image", "folder", (5, 28, 28, 1))


def test_without_a_network_a_hub_name_is_one_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    script = (
        "from prunecast.datasets.tasks import load_task\n"
        "try: load_task('sst2')\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "'sst2' is not in PRUNECAST_DATA and the hub could not serve it" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("name", ["sst2", "cola", "trec6", "cifar10", "mnist"])
def test_real_local_data_opens(name: str, monkeypatch: pytest.MonkeyPatch, real_tasks: Path) -> None:
    monkeypatch.setenv("PRUNECAST_DATA", str(real_tasks))
    task = tasks.load_task(name)
    assert task.source == "folder"
    assert len(task.train) > len(task.validation) > 0
