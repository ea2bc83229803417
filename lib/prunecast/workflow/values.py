"""Values that users give to options and to parameters of pages: checked before anything runs, without heavy imports."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prunecast.errors import UserError, check_epsilon, check_recalibrate
from prunecast.loading.folders import config_of, local_folder

SCOPES = ("global", "layer")  # those of `prunecast.pruning.masks`, which imports torch
FIGURES = (".eps", ".jpeg", ".jpg", ".pdf", ".png", ".ps", ".svg", ".svgz", ".tif", ".tiff", ".webp")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def check_values(values: Mapping[str, Any]) -> None:
    """Check the values that mean the same wherever they are given, by their names.

    Args:
        values: Values by the name of the option or parameter; those of other names are not checked.

    Raises:
        UserError: For the first value that is not allowed.
    """
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"{name} is {value}; it must be a finite number")
        if name in VALUES:
            VALUES[name](value)


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make paths absolute, and check what lies there.

    Args:
        values: Values by the name of the option or parameter. Relative paths start in the current folder.

    Returns:
        All values, with paths as text.

    Raises:
        UserError: A checkpoint or a file does not exist or cannot be loaded, or a folder to save to is not free.
    """
    return {name: PATHS[name](value) if value and name in PATHS else value for name, value in values.items()}


def check_figure(path: Path) -> None:
    """Check that a figure can be written.

    Args:
        path: The file; its suffix names the format.

    Raises:
        UserError: The format is unknown, there is no such folder, or it cannot be written to.
    """
    if path.suffix.lower() not in FIGURES:
        raise UserError(f"figure {path} has none of the suffixes {', '.join(FIGURES)}")
    if not path.parent.is_dir():
        raise UserError(f"figure {path} cannot be written: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"figure {path} cannot be written: {'it is a folder' if path.is_dir() else 'no permission'}")


def _check_scope(value: str) -> None:
    if value not in SCOPES:
        raise UserError(f"scope is {value!r}; it is {' or '.join(SCOPES)}")


def _check_device(value: str) -> None:
    if value and not DEVICE.fullmatch(value):
        raise UserError(
            f"device is {value!r}; it is cpu, cuda, cuda:NUMBER or mps, by default a GPU where there is one"
        )


def _check_examples(value: int) -> None:
    if value < 1:
        raise UserError(f"examples is {value}; at least one is needed")


def _check_max_length(value: int) -> None:
    if value < 1:
        raise UserError(f"max_length is {value}; a text has at least one token")


def _check_seed(value: int) -> None:
    if not 0 <= value < 2**63:
        raise UserError(f"seed is {value}; it is a whole number from 0")


def _check_multiple(value: int) -> None:
    if value < 1:
        raise UserError(f"multiple is {value}; widths are multiples of 1 or more, such as 8 or 16")


def _checkpoint(value: str) -> str:
    """The absolute folder of a checkpoint, its files checked; an id of the hub as it is."""
    value = _without_tilde(value)
    if folder := local_folder(value):
        config_of(folder)
        return str(folder.resolve())
    if Path(value).is_file():
        raise UserError(f"checkpoint {value} is a file; give the folder that holds config.json and the safetensors")
    if not HUB_ID.fullmatch(value):
        raise UserError(f"there is no checkpoint folder {value}")
    return value


def _data(value: str) -> str:
    path = Path(_without_tilde(value))
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    return str(path.resolve())


def _free_folder(value: str) -> str:
    """An absolute folder that holds nothing and can be made and written to."""
    folder = Path(_without_tilde(value)).resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} exists and is {'not empty' if folder.is_dir() else 'a file'}; name a new folder")
    parent = next(path for path in folder.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be made: {parent} is not a folder that one can write to")
    return str(folder)


def _without_tilde(value: str) -> str:
    """A path with the home folder in place of a leading tilde, which no shell replaces after `checkpoint=`."""
    return str(Path(value).expanduser()) if value.startswith("~") else value


VALUES: dict[str, Callable[[Any], object]] = {
    "epsilon": check_epsilon,
    "scope": _check_scope,
    "device": _check_device,
    "examples": _check_examples,
    "max_length": _check_max_length,
    "seed": _check_seed,
    "multiple": _check_multiple,
    "recalibrate": check_recalibrate,
}
PATHS: dict[str, Callable[[str], str]] = {
    "checkpoint": _checkpoint,
    "checkpoint_a": _checkpoint,
    "checkpoint_b": _checkpoint,
    "data": _data,
    "save": _free_folder,
}
