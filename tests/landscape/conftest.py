"""Small networks and images for the tests of the three regimes."""

from collections.abc import Callable

import pytest
import torch
from prunecast.landscape.optimisation import Images
from prunecast.landscape.stacks import stacked
from prunecast.networks.preresnet import PreResNet

CLASSES, DEPTH, WIDTH, CHANNELS = 3, 8, 2, 2


@pytest.fixture
def networks() -> Callable[[int], tuple[list[PreResNet], PreResNet]]:
    """From a number to as many networks with different weights, and one network whose copies they are."""

    def make(count: int) -> tuple[list[PreResNet], PreResNet]:
        torch.manual_seed(count)
        alone = [PreResNet(CLASSES, DEPTH, WIDTH, CHANNELS) for _ in range(count)]
        together = PreResNet(CLASSES, DEPTH, WIDTH, CHANNELS, count).to(memory_format=torch.channels_last)
        together.load_state_dict(stacked([network.state_dict() for network in alone]))
        return alone, together

    return make


@pytest.fixture
def images() -> Images:
    """32 images of 8 by 8 pixels whose class can be learned from their mean."""
    labels = torch.arange(32) % CLASSES
    pixels = torch.randn(32, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
    return Images(pixels + labels.view(-1, 1, 1, 1), labels)
