"""Folders of checkpoints: where one is, and whether its files are whole and can be loaded."""

import hashlib
import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

from prunecast import paths
from prunecast.errors import UserError

LFS_POINTER = b"version https://git-lfs"
GGUF = ".gguf"  # ending of a file that holds weights, configuration and tokenizer of a language model
SLICES = "*.zip.[0-9][0-9][0-9]"  # names of the slices of a zip


def refuse_pickles(folder: Path) -> None:
    """Check that a checkpoint folder has its weights as whole safetensors, since pickled weights can run code.

    Args:
        folder: The folder; or a GGUF file, or a folder with one and no safetensors, which hold no pickle.

    Raises:
        UserError: There is no such folder, it has no safetensors or not all of their bytes, or it holds an adapter; or
            it is a damaged GGUF file, or the package that reads one is absent.
    """
    if gguf := gguf_file(folder):
        _check_gguf(gguf)
        return
    if not folder.is_dir():
        raise UserError(f"there is no checkpoint folder {folder}")
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"checkpoint {folder.name} holds an adapter (adapter_config.json), which would be ignored; merge it into "
            "its base model with merge_and_unload of the library peft, and save the result"
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in sorted(folder.iterdir()) if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
        content = f"only {pickles[0]}, which is a pickle" if pickles else "no weights"
        if any(folder.glob(SLICES)):
            raise UserError(
                f"checkpoint {folder.name} holds slices of a zip; join them with prunecast assemble {folder} TARGET"
            )
        raise UserError(f"checkpoint {folder.name} holds {content}; weights are loaded as safetensors alone")
    for path in files:
        _refuse_damage(path)
    index = folder / "model.safetensors.index.json"
    if index.exists() and not (folder / "model.safetensors").exists():
        parts = read_json(index).get("weight_map", {}).values()
        if absent := sorted(part for part in set(parts) if not (folder / part).exists()):
            raise UserError(f"checkpoint {folder.name} lacks {absent[0]}, which {index.name} names; download it again")


def config_of(folder: Path) -> dict[str, Any]:
    """Read the configuration of a checkpoint, after a check of its files.

    Args:
        folder: The folder of the checkpoint, or its GGUF file.

    Returns:
        The content of its `config.json`; for a GGUF file, which names no class of the library, that it is a causal
        language model.

    Raises:
        UserError: As for `refuse_pickles`, there is no configuration or it is no JSON, or the weights are quantised.
    """
    refuse_pickles(folder)
    if gguf_file(folder):
        return {"architectures": ["ForCausalLM"]}
    path = folder / "config.json"
    if not path.exists():
        raise UserError(f"checkpoint {folder.name} has no config.json, which names its architecture")
    config = read_json(path)
    refuse_quantised(folder.name, config.get("quantization_config"))
    return config


def refuse_quantised(name: str, settings: Any) -> None:
    """Refuse a checkpoint whose configuration says how its weights are quantised.

    Args:
        name: Name of the checkpoint.
        settings: The `quantization_config` of its configuration; None where it has none.

    Raises:
        UserError: There are such settings.
    """
    if settings:
        method = settings.get("quant_method", "no method") if isinstance(settings, dict) else type(settings).__name__
        raise UserError(
            f"checkpoint {name} is quantised ({method} in its config.json), and weights that are stored in few bits "
            "cannot be pruned; take the checkpoint that it was made from"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a checkpoint.

    Raises:
        UserError: The file is no JSON object in UTF-8, or begins with a byte order mark, which libraries refuse.
    """
    where = f"checkpoint {path.parent.name}: {path.name}"
    try:
        content = json.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{where} is not text in UTF-8") from None
    except json.JSONDecodeError as error:
        if path.read_bytes().startswith(b"\xef\xbb\xbf"):
            raise UserError(f"{where} begins with a byte order mark; save it as UTF-8 without one") from None
        raise UserError(
            f"{where} is no JSON from line {error.lineno}, column {error.colno} on ({error.msg}); download it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{where} holds no JSON object, but {type(content).__name__}")
    return content


def local_folder(checkpoint: str) -> Path | None:
    """The folder or GGUF file that a checkpoint names, by path or in `PRUNECAST_MODELS`; None for one of the hub."""
    local = paths.checkpoint_folder()
    candidates = [Path(checkpoint), *([local / checkpoint] if local else [])]
    return next((path for path in candidates if path.is_dir() or (path.suffix == GGUF and path.is_file())), None)


def gguf_file(path: Path) -> Path | None:
    """Find the GGUF file of a checkpoint.

    Args:
        path: A file, or a folder.

    Returns:
        The file itself, or the one of a folder without safetensors; None where there is none.

    Raises:
        UserError: A folder without safetensors holds several.
    """
    if path.is_file():
        return path if path.suffix == GGUF else None
    files = [] if any(path.glob("*.safetensors")) else sorted(path.glob(f"*{GGUF}"))
    if len(files) > 1:
        raise UserError(f"checkpoint {path.name} holds {len(files)} GGUF files; name one, such as {files[0]}")
    return files[0] if files else None


def weights_hash(checkpoint: str) -> str:
    """The sha256 of the weights of a local checkpoint, safetensors or GGUF; empty for one of the hub."""
    folder = local_folder(checkpoint)
    if folder is None:
        return ""
    gguf = gguf_file(folder)
    digest = hashlib.sha256()
    for path in [gguf] if gguf else sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _check_gguf(path: Path) -> None:
    """Check that a file begins as GGUF, and that the package which reads such files is installed."""
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise UserError(
            f"checkpoint {path.name} is a pointer of Git LFS and not the weights; fetch it with git lfs pull"
        )
    if start[:4] != b"GGUF":
        raise UserError(f"checkpoint {path.name} does not begin as a GGUF file does; download it again")
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"checkpoint {path.name} is a GGUF file, which the package gguf reads: pip install gguf")


def _refuse_damage(path: Path) -> None:
    """Refuse a file that is not as long as its own header says; the weights are not read."""
    where = f"checkpoint {path.parent.name}: {path.name}"
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            raise UserError(f"{where} is a pointer of Git LFS and not the weights; fetch them with git lfs pull")
        length = struct.unpack("<Q", start[:8])[0] if size >= 8 else size
        if 8 + length > size:
            raise UserError(f"{where} is cut off or no safetensors file; download it again")
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{where} is damaged: its header cannot be read; download it again") from None
    if size != 8 + length + end:
        raise UserError(f"{where} has {size:,} bytes, its header says {8 + length + end:,}; download it again")
