import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from prunecast.errors import UserError
from prunecast.loading.folders import config_of, local_folder
from safetensors.torch import save_file

CONFIG = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder whose files are whole."""
    folder = tmp_path / "ck"
    folder.mkdir()
    save_file({"one": torch.ones(40, 40), "two": torch.ones(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_whole_files_are_accepted_also_in_parts(folder: Path) -> None:
    assert config_of(folder) == CONFIG
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    parts = {"one": "model-1.safetensors", "two": "model-1.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    assert config_of(folder) == CONFIG
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": parts | {"two": "model-2.safetensors"}})
    )
    with pytest.raises(UserError, match=r"^checkpoint ck lacks model-2\.safetensors, which model\.safetensors\.index"):
        config_of(folder)


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _cut(length: int) -> Callable[[Path], object]:
    def cut(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:length])

    return cut


def _config(**settings: object) -> Callable[[Path], object]:
    return _write("config.json", json.dumps(CONFIG | settings).encode())


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
DAMAGES = {
    "pointer": (_write("model.safetensors", POINTER), r"model\.safetensors is a pointer of Git LFS"),
    "half": (_cut(3000), r"model\.safetensors has 3,000 bytes, its header says 6,\d{3}; download it again"),
    "within the header": (_cut(50), r"model\.safetensors is cut off or no safetensors file"),
    "empty": (_cut(0), r"model\.safetensors is cut off or no safetensors file"),
    "other bytes": (_write("model.safetensors", bytes(8) + b"x" * 90), r"model\.safetensors is damaged"),
    "an error page": (_write("model.safetensors", b"<html>" * 90), r"model\.safetensors is cut off or no safetensors"),
    "config cut off": (_write("config.json", b'{"model'), r"config\.json is no JSON from line 1, column 2 on"),
    "config with a mark": (_write("config.json", b"\xef\xbb\xbf{}"), r"config\.json begins with a byte order mark"),
    "config in UTF-16": (_write("config.json", "{}".encode("utf-16")), r"config\.json is not text in UTF-8"),
    "config a list": (_write("config.json", b"[]"), r"config\.json holds no JSON object, but list"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json, which names its architecture"),
    "bitsandbytes": (_config(quantization_config={"quant_method": "bitsandbytes"}), r"quantised \(bitsandbytes in "),
    "GPTQ": (_config(quantization_config={"quant_method": "gptq", "bits": 4}), r"is quantised \(gptq in "),
    "adapter": (_write("adapter_config.json", b'{"peft_type": "LORA"}'), r"holds an adapter .*merge_and_unload"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_unusable_checkpoint_is_one_sentence_that_names_the_file(folder: Path, damage: str) -> None:
    change, sentence = DAMAGES[damage]
    change(folder)
    with pytest.raises(UserError, match=f"^checkpoint ck.*{sentence}") as refusal:
        config_of(folder)
    assert "\n" not in str(refusal.value)


def test_an_adapter_without_its_base_is_named_as_such(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="holds an adapter"):
        config_of(folder)


def test_a_folder_is_found_by_its_path_and_in_the_folder_of_checkpoints(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local_folder("ck") is None
    assert local_folder(str(folder)) == folder
    monkeypatch.setenv("PRUNECAST_MODELS", str(folder.parent))
    assert local_folder("ck") == folder
