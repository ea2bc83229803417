import importlib.metadata
import json
import re

import pytest
from prunecast import cache


def _row(path, key, calls, value=1):
    def make():
        calls.append(value)
        return {"value": value}

    return cache.kept_row(path, key, make)


def test_a_row_is_made_once_for_a_key_and_anew_for_another(tmp_path):
    path, calls = tmp_path / "model" / "rows" / "row.json", []
    first, other = cache.key_of(["evaluation"], "inputs"), cache.key_of(["evaluation"], "other inputs")
    assert _row(path, first, calls) == _row(path, first, calls, value=2) == {"value": 1}
    assert _row(path, other, calls, value=3) == {"value": 3}
    assert calls == [1, 3]


def test_the_order_and_the_kind_of_inputs_count():
    keys = [("a", "b"), ("b", "a"), ("ab",), ("a", "b", ""), (["a", "b"],)]
    assert len({cache.key_of(["training"], *inputs)["inputs"] for inputs in keys}) == len(keys)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("stage", r"version \d+ of stage training made it, and the version is \d+ now"),
        ("library", r"version \d+\.\d+ of torch made it, and the version is 99\.1 now"),
        ("inputs", "its inputs or parameters have changed"),
        ("former", "an earlier version of Prunecast made it"),
    ],
)
def test_what_an_earlier_version_kept_is_made_anew_with_one_sentence(tmp_path, monkeypatch, change, sentence):
    monkeypatch.setenv("PRUNECAST_LOG", str(tmp_path / "log"))
    path, calls = tmp_path / "model" / "rows" / "row.json", []
    _row(path, cache.key_of(["training"], "inputs"), calls)
    inputs = "inputs"
    if change == "stage":
        monkeypatch.setitem(cache.VERSIONS, "training", cache.VERSIONS["training"] + 1)
    elif change == "library":
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.1.7")
    elif change == "inputs":
        inputs = "other inputs"
    else:
        path.write_text(json.dumps({"key": "0" * 64, "row": {"value": 0}}))
    assert _row(path, cache.key_of(["training"], inputs), calls, value=2) == {"value": 2}
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert re.search(f"model/row.json is made anew: {sentence}$", line)


def test_a_patch_version_of_torch_does_not_count(monkeypatch):
    before = cache.key_of(["training"], "inputs")
    real = importlib.metadata.version("torch")
    patched = ".".join([*real.split(".")[:2], "77"])
    versions = {"torch": patched, "transformers": importlib.metadata.version("transformers")}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert cache.key_of(["training"], "inputs") == before


def test_a_folder_appears_whole_with_its_key_or_not_at_all(tmp_path):
    folder, key = tmp_path / "product", cache.key_of(["finetuning"], "inputs")

    def fill(new):
        (new / "file").write_text("content")
        return {"fact": 3}

    cache.kept_folder(folder, key, fill)
    kept = json.loads((folder / cache.STAMP).read_text())
    assert (kept["key"], kept["fact"], (folder / "file").read_text()) == (key, 3, "content")
    cache.kept_folder(folder, key, lambda new: pytest.fail("filled again"))

    def fail(new):
        (new / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.kept_folder(folder, cache.key_of(["finetuning"], "other"), fail)
    assert (folder / "file").read_text() == "content"
    assert [path.name for path in tmp_path.iterdir()] == ["product"]
