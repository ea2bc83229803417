"""One file or one folder of images as a task, against what was written to it."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from prunecast.datasets.user_files import read_data
from prunecast.errors import UserError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
EXAMPLES = st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["good", "bad", "so-so"])), min_size=1)
COLUMNS = ("text", "second", "label")
REVIEWS = "text,label\nfine,good\npoor,bad\n"


def _delimited(delimiter: str, encoding: str) -> Callable[[Path, list[tuple[Any, ...]]], Path]:
    def write(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
        with (folder / "data.csv").open("w", encoding=encoding, newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *rows])
        return folder / "data.csv"

    return write


def _json_lines(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
    (folder / "data.jsonl").write_text("\n".join(lines), encoding="utf-8", newline="")
    return folder / "data.jsonl"


def _json_array(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    (folder / "data.json").write_text(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=1))
    return folder / "data.json"


def _parquet(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(folder / "data.parquet")
    return folder / "data.parquet"


WRITERS = {
    "csv": _delimited(",", "utf-8"),
    "csv with a byte order mark": _delimited(",", "utf-8-sig"),
    "semicolons": _delimited(";", "utf-8"),
    "tabs": _delimited("\t", "utf-8"),
    "bars": _delimited("|", "utf-8"),
    "json lines": _json_lines,
    "json array": _json_array,
    "parquet": _parquet,
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path, list[tuple[Any, ...]]], Path]:
    return WRITERS[request.param]


@given(rows=EXAMPLES)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_texts_are_read_as_they_were_written(
    tmp_path: Path, write: Callable[[Path, list[tuple[Any, ...]]], Path], rows: list[tuple[str, str, str]]
) -> None:
    rows = [("first", "second", "good"), ("שלום 😀\r\n", 'say "no", or;\tyes|no', "bad"), *rows]
    path = write(tmp_path, rows)
    task = read_data(path, pair="second")
    assert list(task.validation.inputs) == [row[:2] for row in rows]
    assert [task.label_names[label] for label in task.validation.labels] == [row[2] for row in rows]
    assert task.label_names == tuple(sorted({row[2] for row in rows}))
    assert list(read_data(path).validation.inputs) == [row[0] for row in rows]
    assert list(read_data(path, text="second").validation.inputs) == [row[1] for row in rows]


def test_a_task_of_a_file_has_all_rows_to_evaluate_on_and_none_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    task = read_data(tmp_path / "reviews.csv")
    assert (task.name, task.kind, task.source, task.names_known) == ("reviews.csv", "text", "file", True)
    assert (len(task.train), len(task.validation), task.majority_accuracy) == (0, 2, 0.5)
    assert task.fingerprint != read_data(tmp_path / "reviews.csv", text="label", label="text").fingerprint


@pytest.mark.parametrize(
    ("labels", "names", "known", "found"),
    [
        ([1, 0, 2], "012", False, [1, 0, 2]),
        (["1", "0", " 2 "], "012", False, [1, 0, 2]),
        ([1.0, 0.0, 2.0], "012", False, [1, 0, 2]),
        (["1.0", "0.0", "2e0"], "012", False, [1, 0, 2]),
        ([0, 2, 2], "012", False, [0, 2, 2]),
        ([10, 9, 0], [*map(str, range(11))], False, [10, 9, 0]),
        (["LABEL_10", "LABEL_9", "LABEL_0"], [*map(str, range(11))], False, [10, 9, 0]),
        (["1", "zero", "2"], ["1", "2", "zero"], True, [0, 2, 1]),
        (["b", " a ", "b"], "ab", True, [1, 0, 1]),
        (["NA", "null", "nan"], ["NA", "nan", "null"], True, [0, 2, 1]),
        ([True, False, True], ["False", "True"], True, [1, 0, 1]),
        (["ü", "é", "😀"], ["é", "ü", "😀"], True, [1, 0, 2]),
    ],
)
def test_labels_are_words_or_numbers(
    tmp_path: Path,
    write: Callable[[Path, list[tuple[Any, ...]]], Path],
    labels: list[Any],
    names: Sequence[str],
    known: bool,
    found: list[int],
) -> None:
    task = read_data(write(tmp_path, [(f"text {row}", "-", label) for row, label in enumerate(labels)]))
    assert (task.label_names, task.names_known) == (tuple(names), known)
    assert task.validation.labels.tolist() == found


def test_names_that_a_parquet_file_states_are_those_of_the_classes(tmp_path: Path) -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes", "maybe"]))
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    rows.to_parquet(str(tmp_path / "a.parquet"))
    task = read_data(tmp_path / "a.parquet")
    assert (task.label_names, task.names_known) == (("no", "yes", "maybe"), True)
    assert task.validation.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("present", "split", "chosen"),
    [
        (["train", "validation", "test"], "", "validation"),
        (["train", "test"], "", "test"),
        (["train", "dev", "test"], "", "dev"),
        (["train", "validation", "test"], "train", "train"),
        (["fold 1", "fold 2"], "fold 2", "fold 2"),
        (["1", "2"], "2", "2"),
    ],
)
def test_the_column_split_chooses_the_rows(tmp_path: Path, present: list[str], split: str, chosen: str) -> None:
    rows = [(f"{name} {row}", row % 2, name) for row in range(4) for name in present]
    pd.DataFrame(rows, columns=["text", "label", "split"]).to_csv(tmp_path / "data.csv", index=False)
    task = read_data(tmp_path / "data.csv", split=split)
    assert list(task.validation.inputs) == [f"{chosen} {row}" for row in range(4)]
    assert task.validation.labels.tolist() == [0, 1, 0, 1]


def test_rows_of_other_splits_may_lack_labels(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("split,text,label\ntest,a,\nvalidation,b,0\nvalidation,c,1\nvalidation,d,\n")
    with pytest.raises(UserError, match=r"^data\.csv, line 5: the label is missing$"):
        read_data(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", r"a\.csv is empty"),
        ("a.csv", b"text,label\n", r"a\.csv has no rows"),
        ("a.csv", b"\n\n", r"a\.csv is empty"),
        ("a.csv", b"great film,1\npoor,0\n", r"a\.csv has no column 'text': its columns are great film, 1"),
        ("a.csv", b"text;sentiment\na;1\n", "has no column 'text': its columns are text;sentiment"),
        ("a.csv", b"text,sentiment\na,1\n", "has no column 'label': its columns are text, sentiment"),
        ("a.csv", b"text,text,label\na,b,1\n", "has 2 columns 'text': its columns are text, text, label"),
        ("a.csv", b"text,label\na,0\n\n b ,\n", r"a\.csv, line 4: the label is missing"),
        ("a.csv", b'text,label\n"a\nb\nc",0\n  ,1\n', r"a\.csv, line 5: the text in column 'text' is empty"),
        ("a.csv", b"text,label\r\na,0\r\nb,c,1\r\n", r"a\.csv, line 3: there are 3 fields, the header has 2"),
        ("a.csv", b"text,label\na,0\n1\n", r"a\.csv, line 3: there are 1 fields, the header has 2"),
        ("a.csv", b'text,label\na,0\n"b,1\nc,1\n', r"a\.csv, line 3: unexpected end of data; a text that holds"),
        ("a.csv", b'text,label\n"b" c,1\n', r"a\.csv, line 2: ',' expected after '\"'; a text that holds quotes"),
        ("a.csv", b"text,label\na,0\ncaf\xe9,1\n", r"a\.csv, line 3: byte 0xe9 is not UTF-8; save the file in UTF-8"),
        ("a.csv", "text,label\na,0\n".encode("utf-16"), r"a\.csv, line 1: byte 0xff is not UTF-8"),
        ("a.csv", b"text,label\na,0.5\nb,1\n", r"a\.csv, line 2: label 0.5 is not the number of a class"),
        ("a.csv", b"text,label\na,1\nb,-1\n", r"a\.csv, line 3: label -1 is not the number of a class"),
        ("a.csv", b"text,label\na,1\nb,20240131\n", r"a\.csv, line 3: label 20240131 is not the number"),
        ("a.csv", b"text,label\na,1e999\nb,1\n", r"a\.csv, line 2: label 1e999 is not the number"),
        ("a.csv", b"text,label\na,x\nb,x\n", "'a.csv', split validation: all 2 examples are of the class 'x'"),
        ("a.csv", b"text,label\na,1\nb,1\n", "all 2 examples are of the class '1'; at least two classes are needed"),
        ("a.csv", b"text,label,split\na,x,train\n", "no validation or test split: its column 'split' has train; name"),
        ("a.tsv", b"text\tlabel\na\t0\n\t1\n", r"a\.tsv, line 3: the text in column 'text' is empty"),
        ("a.jsonl", b"", r"a\.jsonl is empty"),
        ("a.json", b"[]", r"a\.json is empty"),
        ("a.jsonl", b'{"text": "a", "label": 0}\n\n{"text": "b"}\n', r"a\.jsonl, line 3: the label is missing"),
        ("a.jsonl", b'{"text": "a", "label": NaN}', r"a\.jsonl, line 1: the label is missing"),
        ("a.jsonl", b'{"text": null, "label": 0}', r"a\.jsonl, line 1: the text in column 'text' is empty"),
        ("a.jsonl", b'{"text": 5, "label": 0}', r"a\.jsonl, line 1: column 'text' holds numbers, not texts"),
        ("a.jsonl", b'{"text": ["a"], "label": 0}', "line 1: column 'text' holds values of type list, not texts"),
        ("a.jsonl", b'{"text": "a", "label": [0]}', "line 1: a label of type list is neither a word nor"),
        ("a.jsonl", b'{"text": "a\\ud83d", "label": 0}', "line 1: the text in column 'text' holds half of a surrogate"),
        ("a.jsonl", b'{"text": "a", "label": 0}\n{"text": "b" "label"}', r"line 2: this is no JSON \(Expecting ','"),
        ("a.jsonl", b'{"text": "a", "label": 1' + b"0" * 5000 + b"}", "line 1: this JSON cannot be read"),
        ("a.jsonl", b"[" * 100_000, "line 1: this JSON cannot be read|line 1: this is no JSON"),
        ("a.jsonl", b'{"review": "a", "stars": 0}', "has no column 'text': its columns are review, stars"),
        ("a.json", b'[\n{"text": "a", "label": 0},\n{"text": "b", "label": }\n]', "line 3: this is no JSON"),
        ("a.json", b'[{"text": "a", "label": 0}, 7]', r"entry 2 \(counted from 1\): this is no JSON object"),
        ("a.json", b'[{"text": "a", "label": 0}, {"text": "", "label": 1}]', r"entry 2 \(counted from 1\): the text"),
        ("a.json", b'{\n"text": ["a", "b"],\n"label": [0, 1]\n}', r"a\.json, line 1: this is no JSON"),
        ("a.parquet", b"PAR1junk", r"a\.parquet cannot be read as parquet"),
        ("a.parquet", b"", r"a\.parquet cannot be read as parquet"),
        ("a.xlsx", b"PK", r"a\.xlsx is none of the files that can be read, which end in \.csv, \.tsv, \.jsonl"),
        ("a.csv.gz", b"", r"a\.csv\.gz is none of the files"),
    ],
)
def test_a_spoilt_file_is_refused_in_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as refused:
        read_data(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_spoilt_row_of_parquet_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [0, np.inf]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"^a\.parquet, row 1 \(counted from 0\): label inf is not the number of a class"
    ):
        read_data(tmp_path / "a.parquet")
    pd.DataFrame({"text": ["a", "b", None], "label": [0, 1, 1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"^a\.parquet, row 2 \(counted from 0\): the text in column 'text' is empty"):
        read_data(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"text": "review"}, "has no column 'review': its columns are text, label"),
        ({"pair": "second"}, "has no column 'second': its columns are text, label"),
        ({"label": "stars"}, "has no column 'stars': its columns are text, label"),
        ({"split": "test"}, "has no column 'split' from which to take the split 'test'"),
    ],
)
def test_an_option_that_names_nothing_is_refused(tmp_path: Path, options: dict[str, str], sentence: str) -> None:
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    with pytest.raises(UserError, match=sentence):
        read_data(tmp_path / "reviews.csv", **options)


def test_a_split_that_the_file_lacks_is_answered_with_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,split\na,x,train\nb,y,test\n")
    with pytest.raises(UserError, match="no rows of the split 'dev': its column 'split' has train, test"):
        read_data(tmp_path / "a.csv", split="dev")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file or folder .*reviews\.csv"):
        read_data(tmp_path / "reviews.csv")


def test_a_text_may_be_longer_than_the_default_limit_of_the_csv_module(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'word ' * 100_000},0\nb,1\n")
    assert len(read_data(tmp_path / "a.csv").validation.inputs[0]) == 500_000


Pixels = NDArray[np.uint8]


def _photos(folder: Path, kinds: Sequence[str] = ("cat", "dog"), count: int = 3) -> dict[str, list[Pixels]]:
    """Write images of random colours, a sub-folder for each kind; returns the pixels."""
    written = {}
    for number, kind in enumerate(kinds):
        pixels = np.random.default_rng(number).integers(0, 256, (count, 5, 7, 3)).astype(np.uint8)
        (folder / kind).mkdir(parents=True)
        for row, image in enumerate(pixels):
            Image.fromarray(image).save(folder / kind / f"{row}.png")
        written[kind] = list(pixels)
    return written


def test_a_folder_of_images_by_class_is_a_task(tmp_path: Path) -> None:
    written = _photos(tmp_path / "pets")
    task = read_data(tmp_path / "pets")
    assert (task.name, task.kind, task.source, task.names_known) == ("pets", "image", "file", True)
    assert (task.label_names, task.validation.labels.tolist()) == (("cat", "dog"), [0, 0, 0, 1, 1, 1])
    assert np.array_equal(task.validation.images, [*written["cat"], *written["dog"]])
    assert (len(task.train), task.train.images.shape) == (0, (0, 5, 7, 3))


def test_classes_named_by_numbers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    written = _photos(tmp_path / "numbered", [*map(str, range(11))], 1)
    task = read_data(tmp_path / "numbered")
    assert (task.label_names, task.names_known) == (tuple(map(str, range(11))), False)
    for image, label in zip(task.validation.images, task.validation.labels, strict=True):
        assert np.array_equal(image, written[str(label)][0])


@pytest.mark.parametrize(
    ("present", "split", "chosen"),
    [
        (["train", "validation"], "", "validation"),
        (["train", "val"], "", "val"),
        (["train", "test"], "", "test"),
        (["train", "test"], "train", "train"),
        (["2023", "2024"], "2024", "2024"),
    ],
)
def test_folders_of_splits_may_lie_above_the_classes(
    tmp_path: Path, present: list[str], split: str, chosen: str
) -> None:
    for number, name in enumerate(present):
        _photos(tmp_path / name, count=number + 1)
    task = read_data(tmp_path, split=split)
    assert len(task.validation) == 2 * (present.index(chosen) + 1)
    with pytest.raises(UserError, match=f"has no sub-folder 'extra': it has {', '.join(sorted(present))}"):
        read_data(tmp_path, split="extra")


def test_grey_images_have_one_channel_and_beside_colour_three(tmp_path: Path) -> None:
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        Image.fromarray(grey).save(tmp_path / kind / "0.png")
    assert np.array_equal(read_data(tmp_path).validation.images, np.stack([grey, grey])[..., None])
    Image.new("RGB", (7, 5), "red").save(tmp_path / "b" / "1.png")
    assert np.array_equal(read_data(tmp_path).validation.images[0], np.stack([grey] * 3, axis=-1))


def test_photos_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    turn = Image.Exif()
    turn[0x0112] = 6  # to be turned by 90 degrees
    for kind, exif in (("a", turn), ("b", Image.Exif())):
        (tmp_path / kind).mkdir()
        size = (8, 16) if kind == "b" else (16, 8)
        Image.new("RGB", size, "blue").save(tmp_path / kind / "0.JPEG", exif=exif)
    assert read_data(tmp_path).validation.images.shape == (2, 16, 8, 3)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("dog/3.png", b"", r"dog/3\.png cannot be read as an image"),
        ("dog/3.png", b"\x89PNG\r\n\x1a\n" + bytes(40), r"dog/3\.png cannot be read as an image"),
        ("dog/3.jpg", b"junk", r"dog/3\.jpg cannot be read as an image"),
        ("dog/notes.txt", b"junk", r"dog/notes\.txt is neither a PNG nor a JPEG file"),
        ("dog/puppies/0.png", b"", "dog/puppies is neither a PNG nor a JPEG file"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    _photos(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_data(tmp_path)


def test_hidden_files_and_files_beside_the_classes_are_left_out(tmp_path: Path) -> None:
    _photos(tmp_path)
    for name in ("README.txt", ".DS_Store", "dog/.DS_Store"):
        (tmp_path / name).write_text("junk")
    assert len(read_data(tmp_path).validation) == 6


def test_images_of_two_sizes_are_refused_with_both(tmp_path: Path) -> None:
    _photos(tmp_path)
    Image.new("RGB", (9, 5)).save(tmp_path / "dog" / "1.png")
    with pytest.raises(UserError, match=r"^dog/1\.png has 9 by 5 pixels, cat/0\.png has 7 by 5: resize all images"):
        read_data(tmp_path)


def test_images_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    _photos(tmp_path)
    Image.fromarray(np.full((5, 7), 40_000, np.uint16)).save(tmp_path / "dog" / "1.png")
    with pytest.raises(UserError, match=r"^dog/1\.png holds more than 8 bits a channel"):
        read_data(tmp_path)


def test_a_folder_without_classes_or_with_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no images: it needs a sub-folder of PNG or JPEG files for each class"):
        read_data(tmp_path)
    _photos(tmp_path, ["cat"])
    with pytest.raises(UserError, match="all 3 examples are of the class 'cat'"):
        read_data(tmp_path)
    _photos(tmp_path / "only", ["train"])
    with pytest.raises(UserError, match="has no validation or test split: its sub-folders are train; name one"):
        read_data(tmp_path / "only")
