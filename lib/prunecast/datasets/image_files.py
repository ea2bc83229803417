"""Image tasks on disk: a local folder of lossless tiles or arrays, and torchvision's downloads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

TILES_A_SIDE = 50  # a tile file is a 50 by 50 grid of images, row by row


@dataclass(frozen=True)
class Images:
    """Arrays of an image task: images (n, height, width, channels) of uint8, labels (n,)."""

    train: np.ndarray
    train_labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray
    label_names: tuple[str, ...]


def from_folder(folder: Path) -> Images | None:
    """Read `FOLDER/FOLDER.npz` (x_train, y_train, …) or `labels.npz` with WebP tiles; None if it holds neither."""
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
    """Download `torchvision.datasets.DATASET` into `folder`, or reuse it there."""
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


def _tiles(folder: Path, split: str) -> np.ndarray:
    from PIL import Image

    grids = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob(f"{split}_*.webp"))]
    side = grids[0].shape[0] // TILES_A_SIDE
    shape = (TILES_A_SIDE, side, TILES_A_SIDE, side, 3)
    return np.concatenate([grid.reshape(shape).transpose(0, 2, 1, 3, 4).reshape(-1, side, side, 3) for grid in grids])


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images
