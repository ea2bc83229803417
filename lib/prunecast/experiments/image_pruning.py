"""A photograph pruned by its pixels: effective model pruning where the loss can be seen (Wang et al., 2026)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from prunecast.errors import UserError
from prunecast.pruning.effective_number import effective, mask
from prunecast.seeding import seed_everything

Order = Literal["effective", "random"]
WINDOW = 7  # pixels a side that structural similarity looks at


@dataclass(frozen=True)
class Pruned:
    """An image (height, width, 3) after pruning: of its `entries`, `kept` are as they were and the others zero.

    `n_eff` is the effective number of entries, summed over groups; `psnr` the peak signal-to-noise ratio in decibels,
    infinite where nothing changed, and `ssim` the structural similarity, at most 1, both against the image as it was.
    """

    image: np.ndarray
    entries: int
    n_eff: float
    kept: int
    psnr: float
    ssim: float


def photograph() -> np.ndarray:
    """A photograph of a temple that comes with scikit-learn, (427, 640, 3), floats from 0 to 1."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg") / 255.0


def by_channel(image: np.ndarray, beta: float, order: Order = "effective", seed: int = 0) -> Pruned:
    """Keep the ν = ⌊β · N_eff⌋ brightest entries of every colour channel of an image (height, width, 3) from 0 to 1.

    In the order random, each group keeps as many entries of its own, drawn with `seed`. A group that is black has
    nothing to prune and keeps everything. Raises UserError for an image, a beta or an order that is none.
    """
    _check(image, order)
    return _pruned(image, ((slice(None), slice(None), channel) for channel in range(3)), beta, order, seed)


def by_patch(image: np.ndarray, beta: float, patch: int = 4, order: Order = "effective", seed: int = 0) -> Pruned:
    """As `by_channel`, in every patch × patch × 3 entries; at the right and lower edge patches may be smaller."""
    _check(image, order)
    if patch < 1:
        raise UserError(f"patch is {patch}; a patch is at least one pixel a side")
    corners = ((row, column) for row in range(0, len(image), patch) for column in range(0, image.shape[1], patch))
    groups = ((slice(row, row + patch), slice(column, column + patch), slice(None)) for row, column in corners)
    return _pruned(image, groups, beta, order, seed)


def _check(image: np.ndarray, order: str) -> None:
    colour = image.ndim == 3 and image.shape[2] == 3 and min(image.shape[:2]) >= WINDOW
    if not (colour and np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1):
        raise UserError(
            f"the image is {image.shape} of {image.dtype}; it must be (height, width, 3) floats from 0 to 1, "
            f"and at least {WINDOW} pixels a side"
        )
    if order not in get_args(Order):
        raise UserError(f"{order!r} is no order: there are {', '.join(get_args(Order))}")


def _pruned(image: np.ndarray, groups: Iterator[tuple], beta: float, order: Order, seed: int) -> Pruned:
    choice = seed_everything(seed, "pixels")
    stays = np.ones(image.shape, bool)
    n_eff = 0.0
    for group in groups:
        scores = image[group]
        if not scores.any():
            n_eff += scores.size  # all are equal
            continue
        brightest = torch.from_numpy(np.ascontiguousarray(scores))
        n_eff += effective(lambda part=brightest: [part], beta).n_eff  # type: ignore[misc]
        kept = mask(brightest, beta).numpy()
        stays[group] = kept if order == "effective" else choice.permutation(kept.ravel()).reshape(kept.shape)
    left = np.where(stays, image, 0.0)
    with np.errstate(divide="ignore"):
        psnr = peak_signal_noise_ratio(image, left, data_range=1)
    ssim = structural_similarity(image, left, channel_axis=2, data_range=1)
    return Pruned(left, image.size, n_eff, int(stays.sum()), float(psnr), float(ssim))
