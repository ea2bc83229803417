from collections.abc import Callable
from math import floor
from typing import Any

import numpy as np
import pytest
from prunecast.effective_pruning import image_pruning
from prunecast.effective_pruning.image_pruning import Image, Order, PrunedImage
from prunecast.errors import UserError

Prune = Callable[..., PrunedImage]


@pytest.fixture(scope="module")
def photograph() -> Image:
    return image_pruning.photograph()


@pytest.fixture
def noise() -> Image:
    return np.random.default_rng(0).random((10, 14, 3))


def _effective_number(scores: Image) -> float:
    return float(scores.sum() ** 2 / (scores**2).sum())


def test_the_photograph_is_in_colour_and_scaled(photograph: Image) -> None:
    assert photograph.shape == (427, 640, 3)
    assert photograph.min() == 0
    assert photograph.max() == 1


@pytest.mark.parametrize("order", ["effective", "random"])
def test_every_channel_retains_exactly_its_number(order: Order, photograph: Image) -> None:
    pruned = image_pruning.by_channel(photograph, 0.7, order)
    numbers = [_effective_number(photograph[..., channel]) for channel in range(3)]
    assert pruned.n_eff == pytest.approx(sum(numbers))
    assert pruned.kept == sum(floor(0.7 * number) for number in numbers)
    assert pruned.entries == photograph.size
    for channel, number in enumerate(numbers):  # some of the retained entries are black themselves
        left, all_of_it = pruned.image[..., channel], photograph[..., channel]
        assert np.count_nonzero(left) <= floor(0.7 * number)
        assert ((left == 0) | (left == all_of_it)).all()
        if order == "effective":
            assert np.count_nonzero(left) == floor(0.7 * number)
            assert left[left > 0].min() >= all_of_it[left == 0].max()


@pytest.mark.parametrize("order", ["effective", "random"])
def test_every_patch_retains_exactly_its_number(order: Order, noise: Image) -> None:
    pruned = image_pruning.by_patch(noise, 0.6, 4, order)
    numbers = []
    for row in (0, 4, 8):
        for column in (0, 4, 8, 12):
            here = np.s_[row : row + 4, column : column + 4]
            numbers.append(_effective_number(noise[here]))
            assert np.count_nonzero(pruned.image[here]) == floor(0.6 * numbers[-1])
    assert pruned.n_eff == pytest.approx(sum(numbers))
    assert pruned.kept == np.count_nonzero(pruned.image)


@pytest.mark.parametrize("prune", [image_pruning.by_channel, image_pruning.by_patch])
def test_an_image_of_which_all_entries_are_retained_is_unchanged(prune: Prune, noise: Image) -> None:
    pruned = prune(noise, 1000.0)
    assert np.array_equal(pruned.image, noise)
    assert (pruned.kept, pruned.psnr) == (noise.size, np.inf)
    assert pruned.ssim == pytest.approx(1)


@pytest.mark.parametrize("prune", [image_pruning.by_channel, image_pruning.by_patch])
def test_the_brightest_entries_preserve_more_of_the_photograph_than_random_ones(
    prune: Prune, photograph: Image
) -> None:
    part = photograph[100:180, 200:280]
    best, control = (prune(part, 1.0, order=order) for order in ("effective", "random"))
    assert (best.kept, best.n_eff) == (control.kept, control.n_eff)
    assert best.psnr > control.psnr + 3
    assert best.ssim > control.ssim + 0.2


def test_a_black_patch_is_retained(noise: Image) -> None:
    noise[:4, 4:8] = 0
    pruned = image_pruning.by_patch(noise, 0.5)
    assert pruned.kept == np.count_nonzero(pruned.image) + 4 * 4 * 3
    assert image_pruning.by_channel(np.zeros((8, 8, 3)), 0.5).kept == 8 * 8 * 3


def test_random_entries_depend_on_the_seed(noise: Image) -> None:
    one, two, other = (image_pruning.by_patch(noise, 0.5, order="random", seed=seed).image for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("image", "settings", "sentence"),
    [
        (np.zeros((8, 8)), {}, r"the image is \(8, 8\) of float64; it must be \(height, width, 3\)"),
        (np.zeros((8, 6, 3)), {}, "at least 7 pixels a side"),
        (np.zeros((8, 8, 3), np.uint8), {}, "of uint8; it must be"),
        (np.full((8, 8, 3), 2.0), {}, "floats from 0 to 1"),
        (np.ones((8, 8, 3)), {"order": "darkest"}, "there is no order 'darkest'; there are effective, random"),
        (np.ones((8, 8, 3)), {"patch": 0}, "patch is 0"),
        (np.ones((8, 8, 3)), {"beta": 0.0}, "beta is 0"),
    ],
)
def test_an_invalid_image_or_argument_is_refused(image: np.ndarray, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        image_pruning.by_patch(image, **{"beta": 1.0} | settings)
