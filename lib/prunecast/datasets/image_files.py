"""Image tasks on disk: a local folder of arrays, of losslessly compressed tiles or of files by class; torchvision's."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecast.datasets.columns import first_line, indices, label_names, labels, listed, row_place
from prunecast.errors import UserError

TILES_A_SIDE = 50  # a tile file is a 50 by 50 grid of images, row by row
SUFFIXES = (".png", ".jpg", ".jpeg")  # of the files in a folder of images by class
GREY = ("1", "L", "LA")  # Pillow's modes of images without colour
DEEP = ("I", "F")  # how Pillow's modes of more than 8 bits a channel begin


@dataclass(frozen=True)
class Images:
    """Arrays of an image task.

    Attributes:
        train: Images (n, height, width, channels) with values from 0 to 255.
        train_labels: Index (n,) of the class of each.
        held_out: Images for evaluation, as `train`.
        held_out_labels: As `train_labels`.
        label_names: Name of each class, in the order of the labels.
    """

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    held_out: NDArray[np.uint8]
    held_out_labels: NDArray[np.int64]
    label_names: tuple[str, ...]


def from_folder(folder: Path) -> Images | None:
    """Read the images of a local task.

    Args:
        folder: A folder with `FOLDER.npz` of its own name (x_train, y_train, x_test, y_test), or with `labels.npz`
            (y_train, y_test, classes) and WebP files of tiles (train_*.webp, test_*.webp). Images are
            (n, height, width) or (n, height, width, channels), whole numbers from 0 to 255 or fractions from 0 to 1;
            labels are (n,) or (n, 1), whole numbers from 0 or names of classes.

    Returns:
        The images, or None where the folder holds neither.

    Raises:
        UserError: A file or array is missing or damaged, has another shape or other values, there are not as many
            labels as images, or a label is no class.
    """
    if (single := folder / f"{folder.name}.npz").exists():
        arrays = _arrays(single, ("x_train", "y_train", "x_test", "y_test"))
        images = {split: _images(arrays[f"x_{split}"], f"{single.name}, x_{split}") for split in ("train", "test")}
        first = _flat(arrays["y_train"], f"{single.name}, y_train")
        names = label_names(labels(first, _place(f"{single.name}, y_train"))) if first else ()
        return _together(single.name, images, arrays, names)
    if (path := folder / "labels.npz").exists():
        arrays = _arrays(path, ("y_train", "y_test", "classes"))
        names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in arrays["classes"].tolist())
        images = {split: _tiles(folder, split) for split in ("train", "test")}
        return _together(path.name, images, arrays, names)
    return None


def from_torchvision(dataset: str, folder: Path) -> Images:
    """Download a dataset of torchvision, or reuse an earlier download.

    Args:
        dataset: Name of the class in `torchvision.datasets`.
        folder: Folder of the downloads.

    Returns:
        The images, torchvision's test split held out.
    """
    from prunecast import torchvision_compat  # noqa: F401 - before torchvision

    import torchvision.datasets  # isort: skip

    kind = getattr(torchvision.datasets, dataset)
    train, held_out = (kind(folder, train=flag, download=True) for flag in (True, False))
    return Images(
        _images(np.asarray(train.data), dataset),
        np.asarray(train.targets, np.int64),
        _images(np.asarray(held_out.data), dataset),
        np.asarray(held_out.targets, np.int64),
        tuple(train.classes),
    )


def by_class(folder: Path) -> tuple[NDArray[np.uint8], list[Path]]:
    """Read a folder that has a sub-folder of PNG or JPEG files for each class.

    The images are turned as their EXIF data say. They are not resized, because the result would depend on how, so they
    must all be of one size.

    Args:
        folder: The folder; hidden files and files beside the sub-folders are left out.

    Returns:
        Images (n, height, width, channels) with values from 0 to 255, of one channel where none has colour and of
        three elsewhere, in the order of the names of classes and files; and the file (n) of each, in the folder of its
        class.

    Raises:
        UserError: There are no such sub-folders or files, or a file is no PNG or JPEG, cannot be read, or holds more
            than 8 bits a channel or an image of another size than the first.
    """
    files = [path for below in visible(folder) if below.is_dir() for path in visible(below)]
    if not files:
        raise UserError(f"folder {folder} has no images: it needs a sub-folder of PNG or JPEG files for each class")
    images: list[NDArray[np.uint8]] = []
    for path in files:
        name = str(path.relative_to(folder))
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{name} is neither a PNG nor a JPEG file: a folder of a class holds nothing else")
        image = _opened(path, name)
        if images and image.shape[:2] != images[0].shape[:2]:
            (height, width), (first_height, first_width) = image.shape[:2], images[0].shape[:2]
            raise UserError(
                f"{name} has {width} by {height} pixels, {files[0].relative_to(folder)} has {first_width} by "
                f"{first_height}: resize all images to one size, that of the model"
            )
        images.append(image)
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in images]), files


def visible(folder: Path) -> list[Path]:
    """The files and folders in a folder that are not hidden, sorted by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _together(
    name: str, images: dict[str, NDArray[np.uint8]], arrays: dict[str, NDArray[np.generic]], names: tuple[str, ...]
) -> Images:
    found = {}
    for split, pixels in images.items():
        where = f"{name}, y_{split}"
        values = _flat(arrays[f"y_{split}"], where)
        if not len(pixels):
            raise UserError(f"{name}: there are no images of the split {split}")
        if len(values) != len(pixels):
            raise UserError(f"{where}: there are {len(values)} labels, and {len(pixels)} images of the split {split}")
        found[split] = indices(values, names, _place(where))
    if images["train"].shape[1:] != images["test"].shape[1:]:
        shapes = " and ".join(f"{pixels.shape[1:]} ({split})" for split, pixels in images.items())
        raise UserError(
            f"{name}: images have the shapes {shapes}; both splits need the same height, width and channels"
        )
    return Images(images["train"], found["train"], images["test"], found["test"], names)


def _place(where: str) -> Callable[[int], str]:
    return lambda row: f"{where}, {row_place(row)}"


def _arrays(path: Path, needed: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    name = ""
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in needed if name not in file]:
                has = listed(list(file))
                raise UserError(f"{path.name} has no array {missing[0]!r}: it needs {', '.join(needed)}, it has {has}")
            arrays = {}
            for name in needed:
                arrays[name] = file[name]
            return arrays
    except UserError:
        raise
    except (OSError, EOFError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        what = f"array {name!r} of {path.name}" if name else path.name
        raise UserError(f"{what} cannot be read as numbers or texts ({first_line(error)})") from None


def _flat(array: NDArray[np.generic], where: str) -> list[object]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{where}: labels have the shape {array.shape}, and need (n,): one label for each image")
    values: list[object] = array.tolist()
    return values


def _images(array: NDArray[Any], where: str) -> NDArray[np.uint8]:
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise UserError(
            f"{where}: images have the shape {array.shape}, and need (n, height, width) or (n, height, width, "
            "channels) with 1 or 3 channels"
        )
    if images.dtype == np.uint8 or not len(images):
        return images.astype(np.uint8, copy=False)
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind not in "iuf":
        raise UserError(f"{where}: images are of type {images.dtype}, and need whole numbers from 0 to 255")
    lowest, highest = images.min(), images.max()
    fractions = images.dtype.kind == "f" and highest <= 1
    if lowest >= 0 and highest <= 255 and (fractions or images.dtype.kind != "f" or (images == np.rint(images)).all()):
        whole: NDArray[np.uint8] = np.rint(images * 255 if fractions else images).astype(np.uint8)
        return whole
    raise UserError(
        f"{where}: values of images run from {lowest:g} to {highest:g}; they must be whole numbers from 0 to 255, or "
        "fractions from 0 to 1"
    )


def _tiles(folder: Path, split: str) -> NDArray[np.uint8]:
    files = sorted(folder.glob(f"{split}_*.webp"))
    if not files:
        raise UserError(f"task folder {folder.name} has labels.npz and no {split}_*.webp, the tiles of the images")
    grids = [_opened(path, path.name) for path in files]
    side = grids[0].shape[0] // TILES_A_SIDE
    for path, grid in zip(files, grids, strict=True):
        if not side or grid.shape[:2] != (TILES_A_SIDE * side, TILES_A_SIDE * side):
            raise UserError(
                f"{path.name} has {grid.shape[1]} by {grid.shape[0]} pixels: a file of tiles is a grid of "
                f"{TILES_A_SIDE} by {TILES_A_SIDE} square images, all files of one size"
            )
    shape = (TILES_A_SIDE, side, TILES_A_SIDE, side, 3)
    return np.concatenate([grid.reshape(shape).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3) for grid in grids])


def _opened(path: Path, name: str) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode.startswith(DEEP):
                raise UserError(f"{name} holds more than 8 bits a channel: convert it to 8 bits")
            turned = ImageOps.exif_transpose(image).convert("L" if image.mode in GREY else "RGB")
    except UserError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} cannot be read as an image ({type(error).__name__})") from None
    pixels = np.asarray(turned)
    return pixels[..., None] if pixels.ndim == 2 else pixels
