import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prunecast.datasets import docstrings, tasks
from prunecast.errors import UserError
from tiny import task_frames, write_task


@pytest.mark.slow
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


def _spoilt(split: str, column: str, row: int, value: Any) -> dict[str, pd.DataFrame]:
    frames = {name: frame.astype({column: object}) for name, frame in task_frames().items()}
    frames[split].loc[row, column] = value
    return frames


def _nullable(row: int) -> dict[str, pd.DataFrame]:
    frames = {name: frame.astype({"label": "Int64"}) for name, frame in task_frames().items()}
    frames["validation"].loc[row, "label"] = pd.NA
    return frames


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ({"train": task_frames()["train"]}, r"no validation\.parquet"),
        (
            _spoilt("validation", "label", 7, 3),
            r"validation\.parquet, row 7 \(counted from 0\): label 3 is outside 0 to 2",
        ),
        (_spoilt("train", "label", 0, -1), "row 0 .*: label -1 is not the number of a class"),
        (_spoilt("train", "label", 0, 2**40), "row 0 .*: label 1099511627776 is not the number of a class"),
        (_spoilt("train", "label", 4, None), "row 4 .*: the label is missing"),
        (_nullable(3), r"validation\.parquet, row 3 .*: the label is missing"),
        (
            {s: f.assign(label=f["label"].where(f.index != 3)) for s, f in task_frames().items()},
            r"train\.parquet, row 3 .*: the label is missing",
        ),
        (
            {s: f.assign(label=f["label"] + 0.5) for s, f in task_frames().items()},
            "row 0 .*: label 0.5 is not the number",
        ),
        (
            {s: f.assign(label=[[0]] * len(f)) for s, f in task_frames().items()},
            "a label of type list is neither a word nor a whole number",
        ),
        (
            {s: f.assign(label=f["label"].map(dict(enumerate("xyz")))) for s, f in task_frames().items()},
            "row 0 .*: label 'x' is not among the label names warm, cold, none",
        ),
        (_spoilt("train", "text", 5, "  "), r"train\.parquet, row 5 .*: the text in column 'text' is empty"),
        (_spoilt("train", "text", 6, None), "row 6 .*: the text in column 'text' is empty"),
        ({s: f.assign(text=range(len(f))) for s, f in task_frames().items()}, "column 'text' holds numbers, not texts"),
        (
            {s: f.assign(text=[["a", "b"]] * len(f)) for s, f in task_frames().items()},
            "column 'text' holds values of type list, not texts",
        ),
        (
            {s: f.rename(columns={"text": "sentence"}) for s, f in task_frames().items()},
            r"train\.parquet has no column 'text': its columns are sentence, label",
        ),
        (
            {s: f.assign(label=0) for s, f in task_frames().items()},
            "split train: all 180 examples are of the class 'warm'; at least two classes are needed",
        ),
        ({s: f.head(0) for s, f in task_frames().items()}, "there are no examples"),
    ],
)
def test_a_spoilt_folder_is_refused_in_one_sentence(
    task_folder: Path, frames: dict[str, pd.DataFrame], sentence: str
) -> None:
    write_task(task_folder / "spoilt", frames)
    with pytest.raises(UserError, match=sentence):
        tasks.load_task("spoilt")


@pytest.mark.parametrize("content", [b"", b"PAR1junk", b"PAR1" + bytes(100) + b"PAR1", b"text,label\na,0\n"])
def test_a_damaged_parquet_file_is_refused_in_one_sentence(task_folder: Path, content: bytes) -> None:
    (task_folder / "colours" / "validation.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"^task folder colours, validation\.parquet cannot be read as parquet \(.+\)$"):
        tasks.load_task("colours")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{labels: [a, b]}", "meta.json is no JSON in UTF-8"),
        (b'{"labels": ["\xe9", "b", "c"]}', "meta.json is no JSON in UTF-8"),
        (b"", "meta.json is no JSON in UTF-8"),
        (b"[" * 100_000, "meta.json is no JSON in UTF-8"),
        (b"{}", "needs the names of the labels as a list"),
        (b'["a", "b", "c"]', "needs the names of the labels as a list"),
        (b'{"labels": null}', "needs the names of the labels as a list"),
        (b'{"labels": "abc"}', "needs the names of the labels as a list"),
        (b'{"labels": []}', "needs the names of the labels as a list"),
        (b'{"labels": ["a", null, "c"]}', "needs the names of the labels as a list"),
        (b'{"labels": ["a", " ", "c"]}', "needs the names of the labels as a list"),
        (b'{"labels": ["a", "b", "a"]}', "the label name 'a' occurs twice"),
    ],
)
def test_label_names_that_are_none_are_refused_in_one_sentence(
    task_folder: Path, content: bytes, sentence: str
) -> None:
    (task_folder / "colours" / "meta.json").write_bytes(content)
    with pytest.raises(UserError, match=sentence) as refused:
        tasks.load_task("colours")
    assert "\n" not in str(refused.value)


def test_label_names_may_start_with_a_byte_order_mark(task_folder: Path) -> None:
    (task_folder / "colours" / "meta.json").write_bytes(b'\xef\xbb\xbf{"labels": ["a", "b", "c"]}')
    assert tasks.load_task("colours").label_names == ("a", "b", "c")


@pytest.mark.parametrize("form", ["words", "digits", "floats", "float texts", "bytes"])
def test_labels_of_a_folder_are_numbers_in_any_form_or_the_words_of_meta(task_folder: Path, form: str) -> None:
    plain = tasks.load_task("colours")
    change: dict[str, Callable[[pd.Series], pd.Series]] = {
        "words": lambda labels: labels.map(dict(enumerate(("warm", "cold", "none")))),
        "digits": lambda labels: labels.astype(str),
        "floats": lambda labels: labels.astype(float),
        "float texts": lambda labels: labels.astype(float).astype(str),
        "bytes": lambda labels: labels.map(lambda label: str(label).encode()),
    }
    frames = {split: frame.assign(label=change[form](frame["label"])) for split, frame in task_frames().items()}
    write_task(task_folder / "other", frames)
    other = tasks.load_task("other")
    assert (other.label_names, other.names_known) == (("warm", "cold", "none"), True)
    assert other.fingerprint == plain.fingerprint


def test_label_names_that_are_numbers_are_matched_as_texts_and_counted_as_numbers(task_folder: Path) -> None:
    stars = {split: frame.assign(label=(frame["label"] + 1).astype(str)) for split, frame in task_frames().items()}
    write_task(task_folder / "texts", stars, ("1", "2", "3"))
    write_task(task_folder / "numbers", task_frames(), ("1", "2", "3"))
    assert tasks.load_task("texts").validation.labels.tolist() == task_frames()["validation"]["label"].tolist()
    assert tasks.load_task("numbers").validation.labels.tolist() == task_frames()["validation"]["label"].tolist()


def test_texts_may_be_digits(task_folder: Path) -> None:
    frames = {
        split: frame.assign(text=[str(row) for row in range(len(frame))]) for split, frame in task_frames().items()
    }
    write_task(task_folder / "digits_as_text", frames)
    assert list(tasks.load_task("digits_as_text").train.inputs[:2]) == ["0", "1"]


@given(size=st.integers(1, 50), count=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_a_sample_is_a_subset_in_order_the_same_for_the_same_seed(size: int, count: int, seed: int) -> None:
    for inputs in ([f"text {row}" for row in range(size)], np.arange(size, dtype=np.uint8).reshape(size, 1, 1, 1)):
        split = tasks.Split(inputs, np.arange(size))
        drawn = split.sample(count, seed)
        assert len(drawn) == len(drawn.inputs) == min(size, count)
        assert np.all(np.diff(drawn.labels) > 0)
        assert [*map(str, drawn.inputs)] == [str(inputs[row]) for row in drawn.labels]
        assert np.array_equal(drawn.labels, split.sample(count, seed).labels)


def test_a_sample_of_a_sorted_split_has_the_classes_in_their_proportions() -> None:
    split = tasks.Split(["text"] * 10_000, np.repeat([0, 1], [7_000, 3_000]))
    shares = [split.sample(1_000, seed).labels.mean() for seed in range(20)]
    assert len(set(shares)) > 5
    assert np.mean(shares) == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 20_000) ** 0.5)
    assert split.first(1_000).labels.tolist() == [0] * 1_000  # what a model of the registry is trained on stays


def test_what_is_computed_from_all_examples_is_computed_once(task_folder: Path) -> None:
    task = tasks.load_task("colours")
    assert task.fingerprint is task.fingerprint
    assert replace(task, validation=task.validation.first(4)).majority_accuracy == 0.5  # of 0, 1, 2, 0
    assert task.majority_accuracy == pytest.approx(1 / 3)


def test_the_names_of_classes_are_known_unless_they_are_their_numbers(task_folder: Path) -> None:
    assert tasks.load_task("colours").names_known
    assert not tasks.load_task("digits").names_known


def test_loading_a_folder_imports_neither_datasets_nor_sklearn_nor_pandas_nor_torch(task_folder: Path) -> None:
    script = (
        "import sys\nfrom prunecast.datasets import tasks, user_files\nassert tasks.load_task('colours').classes == 3\n"
        "print(sorted({'datasets', 'sklearn', 'pandas', 'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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


@pytest.mark.parametrize("form", ["words", "numbers", "texts of numbers"])
def test_classes_of_the_hub_that_have_no_names_are_in_the_order_of_their_numbers(tmp_path: Path, form: str) -> None:
    labels = np.arange(44) % 11
    values = {
        "numbers": labels.tolist(),
        "texts of numbers": [str(label) for label in labels],
        "words": [f"class {label}" for label in labels],
    }
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"text": [f"text {label} {row}" for row, label in enumerate(labels)], "label": values[form]})
    for split in ("train", "validation"):
        frame.to_parquet(folder / f"{split}-0.parquet")
    task = tasks.from_hub("numbered", {"path": str(folder.parent)})
    prefix = "class " if form == "words" else ""
    order = sorted(map(str, range(11))) if form == "words" else [*map(str, range(11))]
    assert task.label_names == tuple(prefix + name for name in order)
    assert task.names_known == (form == "words")
    found = {text: task.label_names[label] for text, label in zip(task.train.inputs, task.train.labels, strict=True)}
    assert found == {text: prefix + text.split()[1] for text in frame["text"]}


def test_a_task_of_torchvision_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "runs" / ".cache" / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 4)):
        images, labels = np.arange(count * 784, dtype=np.uint8), np.arange(count, dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())
    task = tasks.from_hub("mnist", {"torchvision": "MNIST"})
    assert (task.train.images.shape, task.validation.labels.tolist()) == ((6, 28, 28, 1), [0, 1, 2, 3])


def test_without_a_network_a_hub_name_is_one_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    script = (
        "from prunecast.datasets.tasks import load_task\n"
        "try: load_task('sst2')\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "'sst2' is not in PRUNECAST_DATA and the hub could not serve it" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sst2", "cola", "trec6", "cifar10", "mnist"])
def test_real_local_data_opens(name: str, monkeypatch: pytest.MonkeyPatch, real_tasks: Path) -> None:
    monkeypatch.setenv("PRUNECAST_DATA", str(real_tasks))
    task = tasks.load_task(name)
    assert task.source == "folder"
    assert len(task.train) > len(task.validation) > 0
