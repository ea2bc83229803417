"""Image tasks on disk: a local folder of arrays or losslessly compressed tiles, and torchvision's downloads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TILES_A_SIDE = 50  # a tile file is a 50 by 50 grid of images, row by row


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
    train_labels: NDArray[np.integer]
    held_out: NDArray[np.uint8]
    held_out_labels: NDArray[np.integer]
    label_names: tuple[str, ...]


def from_folder(folder: Path) -> Images | None:
    """Read the images of a local task.

    Args:
        folder: A folder with `FOLDER.npz` of its own name (x_train, y_train, x_test, y_test), or with `labels.npz`
            (y_train, y_test, classes) and WebP files of tiles (train_*.webp, test_*.webp).

    Returns:
        The images, or None where the folder holds neither.
    """
    if (single := folder / f"{folder.name}.npz").exists():
        arrays = np.load(single, allow_pickle=False)
        digits = tuple(str(label) for label in np.unique(arrays["y_train"]))
        x_train, x_test = (_with_channels(arrays[name]) for name in ("x_train", "x_test"))
        return Images(x_train, arrays["y_train"], x_test, arrays["y_test"], digits)
    if (labels := folder / "labels.npz").exists():
        arrays = np.load(labels, allow_pickle=False)
        names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in arrays["classes"])
        return Images(_tiles(folder, "train"), arrays["y_train"], _tiles(folder, "test"), arrays["y_test"], names)
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
        _with_channels(np.asarray(train.data)),
        np.asarray(train.targets),
        _with_channels(np.asarray(held_out.data)),
        np.asarray(held_out.targets),
        tuple(train.classes),
    )


def _tiles(folder: Path, split: str) -> NDArray[np.uint8]:
    from PIL import Image

    grids = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob(f"{split}_*.webp"))]
    side = grids[0].shape[0] // TILES_A_SIDE
    shape = (TILES_A_SIDE, side, TILES_A_SIDE, side, 3)
    return np.concatenate([grid.reshape(shape).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3) for grid in grids])


def _with_channels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images[..., None] if images.ndim == 3 else images
