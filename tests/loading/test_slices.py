import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from prunecast.cli import main
from prunecast.errors import UserError
from prunecast.loading.folders import config_of
from prunecast.loading.slices import assemble
from safetensors.torch import load_file, save_file

SIZE = 4000  # bytes of a slice
WEIGHTS = {"one": torch.randn(50, 50, generator=torch.Generator().manual_seed(0))}
CONFIG = {"model_type": "bert"}


def _zip(files: dict[str, bytes], folder: Path, size: int = SIZE) -> None:
    """Cut a zip of some files into slices."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    whole = content.getvalue()
    for number, start in enumerate(range(0, len(whole), size), 1):
        path = folder / f"part_{number}" / f"ck.zip.{number:03}"
        path.parent.mkdir(parents=True)
        path.write_bytes(whole[start : start + size])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The files of a checkpoint, in one folder."""
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    weights = (tmp_path / "model.safetensors").read_bytes()
    return {
        "ck/config.json": json.dumps(CONFIG).encode(),
        "ck/model.safetensors": weights,
        "ck/1_Pooling/a.json": b"{}",
    }


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A folder with one folder for each of three slices of a checkpoint."""
    _zip(files, tmp_path / "slices")
    assert len(list((tmp_path / "slices").rglob("ck.zip.*"))) == 3
    return tmp_path / "slices"


def test_slices_are_joined_and_unpacked_into_a_new_folder(folder: Path, tmp_path: Path) -> None:
    assert main(["assemble", str(folder), str(tmp_path / "all" / "joined")]) == 0
    target = tmp_path / "all" / "joined"
    assert config_of(target) == CONFIG
    assert torch.equal(load_file(target / "model.safetensors")["one"], WEIGHTS["one"])
    assert (target / "1_Pooling" / "a.json").read_bytes() == b"{}"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(UserError, match="joined already; name a folder that does not exist"):
        assemble(folder, target)


def test_a_zip_without_a_folder_inside_becomes_the_folder(tmp_path: Path, files: dict[str, bytes]) -> None:
    _zip({name.removeprefix("ck/"): data for name, data in files.items()}, tmp_path / "slices")
    assemble(tmp_path / "slices", tmp_path / "joined")
    assert config_of(tmp_path / "joined") == CONFIG


def _slice(folder: Path, number: int) -> Path:
    return folder / f"part_{number}" / f"ck.zip.{number:03}"


def _exchanged(one: int, other: int) -> Callable[[Path], object]:
    def exchange(folder: Path) -> None:
        paths = _slice(folder, one), _slice(folder, other)
        contents = [path.read_bytes() for path in paths]
        for path, content in zip(paths, reversed(contents), strict=True):
            path.write_bytes(content)

    return exchange


def _shortened(folder: Path) -> None:
    _slice(folder, 2).write_bytes(_slice(folder, 2).read_bytes()[:-1])


def _damaged(folder: Path) -> None:
    content = bytearray(_slice(folder, 2).read_bytes())
    content[1500:1600] = bytes(100)
    _slice(folder, 2).write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no first": (lambda folder: _slice(folder, 1).unlink(), r"holds no ck\.zip\.001; .* up to ck\.zip\.003"),
    "a gap": (lambda folder: _slice(folder, 2).unlink(), r"holds no ck\.zip\.002; .* up to ck\.zip\.003"),
    "no last": (lambda folder: _slice(folder, 3).unlink(), r"ck\.zip\.002 does not end as a zip .*003 is missing"),
    "one twice": (
        lambda folder: (folder / "ck.zip.002").write_bytes(_slice(folder, 2).read_bytes()),
        r"holds ck\.zip\.002 twice",
    ),
    "first and second exchanged": (_exchanged(1, 2), r"ck\.zip\.001 does not begin .* but ck\.zip\.002 does"),
    "second and last exchanged": (_exchanged(2, 3), r"ck\.zip\.00\d has [\d,]+ bytes and ck\.zip\.001 4,000"),
    "one is short": (_shortened, r"ck\.zip\.002 has 3,999 bytes and ck\.zip\.001 4,000"),
    "a damaged one": (_damaged, r"model\.safetensors cannot be unpacked further than ck\.zip\.00[23] "),
    "another zip": (
        lambda folder: (folder / "other.zip.001").write_bytes(b"PK"),
        r"several zips, ck\.zip and other\.zip",
    ),
    "no zip": (
        lambda folder: _slice(folder, 1).write_bytes(bytes(SIZE)),
        r"ck\.zip\.001 does not begin as a zip does;",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_missing_or_wrong_slice_is_one_sentence_that_names_it(folder: Path, tmp_path: Path, damage: str) -> None:
    change, sentence = DAMAGES[damage]
    change(folder)
    with pytest.raises(UserError, match=sentence) as refusal:
        assemble(folder, tmp_path / "joined")
    assert "\n" not in str(refusal.value)
    assert not [path for path in tmp_path.iterdir() if "joined" in path.name]


def test_middle_slices_in_the_wrong_order_are_named(tmp_path: Path, files: dict[str, bytes]) -> None:
    _zip(files, tmp_path / "slices", 2000)
    _exchanged(2, 4)(tmp_path / "slices")
    with pytest.raises(
        UserError, match=r"further than ck\.zip\.00\d .* one before it, is damaged or in the wrong place"
    ):
        assemble(tmp_path / "slices", tmp_path / "joined")


@pytest.mark.parametrize("name", ["../out.json", "/out.json", "ck/../../out.json", "..\\out.json", "C:\\out.json"])
def test_no_file_is_written_outside_the_folder(tmp_path: Path, files: dict[str, bytes], name: str) -> None:
    _zip(files | {name: b"{}"}, tmp_path / "all" / "slices")
    with pytest.raises(UserError, match=r"ck\.zip\.001 holds .*out\.json', outside its folder"):
        assemble(tmp_path / "all" / "slices", tmp_path / "all" / "joined")
    assert not list(tmp_path.rglob("*out.json"))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, folder: Path) -> None:
    _zip({"ck/model.bin": b"pickle" * 9}, tmp_path / "pickles")
    with pytest.raises(UserError, match=r"holds only model\.bin, which is a pickle"):
        assemble(tmp_path / "pickles", tmp_path / "joined")
    with pytest.raises(UserError, match=r"there is no slice such as NAME\.zip\.001 in .*none"):
        assemble(tmp_path / "none", tmp_path / "joined")
    with pytest.raises(UserError, match=r"holds slices of a zip; join them with prunecast assemble .*part_1 TARGET"):
        config_of(folder / "part_1")
