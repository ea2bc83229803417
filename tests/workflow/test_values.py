import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from prunecast.errors import UserError
from prunecast.pruning import masks
from prunecast.workflow import values


def test_the_scopes_are_those_of_the_masks():
    assert values.SCOPES == masks.SCOPES


def test_the_formats_of_figures_are_those_that_matplotlib_writes():
    formats = plt.figure().canvas.get_supported_filetypes()
    plt.close()
    assert {suffix.removeprefix(".") for suffix in values.FIGURES} <= set(formats)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"checkpoint": "a/b/c"}, "there is no checkpoint folder a/b/c"),
        ({"checkpoint": "/nowhere"}, "there is no checkpoint folder /nowhere"),
        ({"checkpoint": "./organisation"}, r"there is no checkpoint folder \./organisation"),
        ({"checkpoint": "file.safetensors"}, "file.safetensors is a file; give the folder that holds config.json"),
        ({"checkpoint": "empty"}, "checkpoint empty holds no weights"),
        ({"data": "reviews.csv"}, r"there is no file or folder reviews\.csv"),
        ({"save": "full"}, "full exists and is not empty; name a new folder"),
        ({"save": "file.safetensors"}, "exists and is a file"),
        ({"save": "file.safetensors/new"}, "cannot be made: .* is not a folder"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused_in_one_sentence(tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.safetensors").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(UserError, match=sentence) as refusal:
        values.resolved(given)
    assert "\n" not in str(refusal.value)


def test_paths_become_absolute_and_ids_of_the_hub_stay(tmp_path, monkeypatch, own_subject):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(own_subject.folder, tmp_path / "A" / "checkpoint")
    (tmp_path / "reviews.csv").touch()
    (tmp_path / "empty").mkdir()
    given = {"checkpoint": "A/checkpoint", "data": "reviews.csv", "save": "new/pruned", "task": "A/checkpoint"}
    here = Path.cwd()
    found = values.resolved(given)
    assert found == given | {"checkpoint": f"{here}/A/checkpoint", "data": f"{here}/reviews.csv"} | {
        "save": f"{here}/new/pruned"
    }
    assert not (tmp_path / "new").exists()
    assert values.resolved({"save": "empty", "checkpoint": ""}) == {"save": f"{here}/empty", "checkpoint": ""}
    for hub_id in ("org/model-1.5", "model"):
        assert values.resolved({"checkpoint": hub_id}) == {"checkpoint": hub_id}
    monkeypatch.setenv("HOME", str(tmp_path))
    assert values.resolved({"checkpoint": "~/A/checkpoint"}) == {"checkpoint": f"{here}/A/checkpoint"}
    monkeypatch.setenv("PRUNECAST_MODELS", str(tmp_path))
    monkeypatch.chdir("/")
    assert values.resolved({"checkpoint": "A/checkpoint"}) == {"checkpoint": f"{here}/A/checkpoint"}


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "CPU"])
def test_a_device_that_torch_has_no_name_for_is_refused(device):
    with pytest.raises(UserError, match="it is cpu, cuda"):
        values.check_values({"device": device})


def test_a_device_may_be_named_or_left_open():
    for device in ("", "cpu", "cuda", "cuda:1", "mps"):
        values.check_values({"device": device})


def test_a_figure_is_checked_before_it_is_drawn(tmp_path):
    for path, sentence in (
        (tmp_path / "f.xyz", "has none of the suffixes .eps"),
        (tmp_path / "f", "has none of the suffixes"),
        (tmp_path / "missing" / "f.svg", "there is no folder .*missing"),
        (tmp_path / "folder.svg", "it is a folder"),
    ):
        (tmp_path / "folder.svg").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=sentence):
            values.check_figure(path)
    values.check_figure(tmp_path / "f.svg")
    assert not (tmp_path / "f.svg").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="no permission"):
        values.check_figure(tmp_path / "f.svg")
    with pytest.raises(UserError, match="not a folder that one can write to"):
        values.resolved({"save": str(tmp_path / "new")})
