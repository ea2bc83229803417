"""A photograph pruned by its pixels, in which the loss of effective model pruning is visible (Wang et al., 2026)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import skimage.metrics
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecast.errors import UserError
from prunecast.pruning.effective_number import effective, mask
from prunecast.seeding import generator

Order = Literal["effective", "random"]
Image = NDArray[np.float64]  # (height, width, 3), from 0 to 1
WINDOW = 7  # pixels a side of the window of structural similarity


@dataclass(frozen=True)
class PrunedImage:
    """An image after pruning.

    Attributes:
        image: The image (height, width, 3): retained entries as before, the others zero.
        entries: Number of entries.
        n_eff: Effective number of entries, summed over the groups.
        kept: Number of entries that were retained.
        psnr: Peak signal-to-noise ratio against the image before, in decibels; infinite where nothing changed.
        ssim: Structural similarity with the image before, at most 1.
    """

    image: Image
    entries: int
    n_eff: float
    kept: int
    psnr: float
    ssim: float


def photograph() -> Image:
    """A photograph of a temple that comes with scikit-learn, (427, 640, 3), with values from 0 to 1."""
    from sklearn.datasets import load_sample_image

    return np.asarray(load_sample_image("china.jpg") / 255.0, float)


def by_channel(image: Image, beta: float, order: Order = "effective", seed: int = 0) -> PrunedImage:
    """Prune an image in every colour channel to its ν = ⌊β · N_eff⌋ brightest entries.

    A channel that is black is retained.

    Args:
        image: The image (height, width, 3), from 0 to 1.
        beta: Factor of the effective number.
        order: `effective`, or `random` for the control, in which every channel retains as many random entries.
        seed: Seed of the random order.

    Returns:
        The image after pruning.

    Raises:
        UserError: If the image has another shape, type or range, beta is not positive, or the order is unknown.

    Source: Wang et al. (2026).
    """
    _check(image, order)
    return _pruned(
        image, ((slice(None), slice(None), slice(channel, channel + 1)) for channel in range(3)), beta, order, seed
    )


def by_patch(image: Image, beta: float, patch: int = 4, order: Order = "effective", seed: int = 0) -> PrunedImage:
    """Prune an image as `by_channel` does, in every patch of all three channels.

    Args:
        image: The image (height, width, 3), from 0 to 1.
        beta: Factor of the effective number.
        patch: Pixels a side of a patch; at the right and lower edge patches may be smaller.
        order: `effective`, or `random` for the control, in which every patch retains as many random entries.
        seed: Seed of the random order.

    Returns:
        The image after pruning.

    Raises:
        UserError: As for `by_channel`, and if a patch is smaller than a pixel.

    Source: Wang et al. (2026).
    """
    _check(image, order)
    if patch < 1:
        raise UserError(f"patch is {patch}; a patch is at least one pixel a side")
    corners = ((row, column) for row in range(0, len(image), patch) for column in range(0, image.shape[1], patch))
    groups = ((slice(row, row + patch), slice(column, column + patch), slice(None)) for row, column in corners)
    return _pruned(image, groups, beta, order, seed)


def _check(image: Image, order: str) -> None:
    colour = image.ndim == 3 and image.shape[2] == 3 and min(image.shape[:2]) >= WINDOW
    if not (colour and np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1):
        raise UserError(
            f"the image is {image.shape} of {image.dtype}; it must be (height, width, 3) floats from 0 to 1, "
            f"and at least {WINDOW} pixels a side"
        )
    if order not in get_args(Order):
        raise UserError(f"there is no order {order!r}; there are {', '.join(get_args(Order))}")


def _pruned(
    image: Image, groups: Iterator[tuple[slice, slice, slice]], beta: float, order: Order, seed: int
) -> PrunedImage:
    choice = generator(seed, "pixels")
    stays = np.ones(image.shape, bool)
    n_eff = 0.0
    for group in groups:
        scores = image[group]
        if not scores.any():
            n_eff += scores.size  # all are equal
            continue
        brightness = torch.from_numpy(np.ascontiguousarray(scores))
        n_eff += _n_eff(brightness, beta)
        kept = mask(brightness, beta).numpy()
        stays[group] = kept if order == "effective" else choice.permutation(kept.ravel()).reshape(kept.shape)
    left = np.where(stays, image, 0.0)
    metrics: Any = skimage.metrics  # its functions have no annotations
    with np.errstate(divide="ignore"):
        psnr = metrics.peak_signal_noise_ratio(image, left, data_range=1)
    ssim = metrics.structural_similarity(image, left, channel_axis=2, data_range=1)
    return PrunedImage(left, image.size, n_eff, int(stays.sum()), float(psnr), float(ssim))


def _n_eff(scores: Tensor, beta: float) -> float:
    return effective(lambda: [scores], beta).n_eff
