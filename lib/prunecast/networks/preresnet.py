"""Pre-activation ResNets of any depth and width for small images, and several of one shape as one network."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from prunecast.errors import UserError

STAGES = 3  # each halves height and width, but for the first, and doubles the channels
PER_BLOCK = 2  # convolutions, in each of the blocks of a stage
BESIDE_BLOCKS = 2  # layers: the first convolution and the classifier


class PreResNet(nn.Sequential):
    """A pre-activation ResNet (He et al., 2016, identity mappings), or several of one shape as one network.

    With `copies` above 1 the convolutions are grouped: copy number i sees and makes the i-th part of the channels, so
    that the copies share no weight and no statistic. Every parameter and buffer is that of the copies one after the
    other in the first dimension. The input is images (n, copies · channels, height, width), those of the first copy,
    of the second, and so on; the output is logits (n, copies · classes) in the same order.

    Args:
        classes: Number of classes.
        depth: Number of layers with weights, which is 2 more than a multiple of 6.
        width: Channels of the first stage.
        channels: Channels of an image.
        copies: Number of networks.

    Raises:
        UserError: There is no such depth, or a number is not positive.
    """

    def __init__(self, classes: int, depth: int = 20, width: int = 16, channels: int = 3, copies: int = 1):
        blocks, rest = divmod(depth - BESIDE_BLOCKS, STAGES * PER_BLOCK)
        if rest or blocks < 1:
            raise UserError(f"a PreResNet has 8, 14, 20, … layers, 2 more than a multiple of 6, not {depth}")
        if width < 1:
            raise UserError(f"the width of a PreResNet is a positive number of channels, not {width}")
        widths = [width, *(width * 2**stage for stage in range(STAGES) for _ in range(blocks))]
        last = widths[-1]
        super().__init__(
            _convolution(channels, width, 3, 1, copies),
            *(_PreActivationBlock(a, b, 1 if a == b else 2, copies) for a, b in pairwise(widths)),
            nn.BatchNorm2d(last * copies),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, classes) if copies == 1 else _Classifiers(last, classes, copies),
        )


class _PreActivationBlock(nn.Module):
    """Two convolutions, each after norm and ReLU, beside a shortcut (He et al., 2016, identity mappings)."""

    def __init__(self, inputs: int, outputs: int, stride: int, copies: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs * copies), nn.BatchNorm2d(outputs * copies)
        self.convolution1 = _convolution(inputs, outputs, 3, stride, copies)
        self.convolution2 = _convolution(outputs, outputs, 3, 1, copies)
        self.shortcut = _convolution(inputs, outputs, 1, stride, copies) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.norm1(x))
        beside: torch.Tensor = self.shortcut(active) if self.shortcut else x
        residual: torch.Tensor = self.convolution2(functional.relu(self.norm2(self.convolution1(active))))
        return beside + residual


class _Classifiers(nn.Linear):
    """A linear layer for each copy, whose weights stand below each other."""

    def __init__(self, inputs: int, classes: int, copies: int):
        super().__init__(inputs, classes * copies)
        self.copies = copies

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.view(self.copies, -1, self.in_features)
        products = torch.einsum("nci,coi->nco", x.view(len(x), self.copies, self.in_features), weight)
        return products.flatten(1) + self.bias


def _convolution(inputs: int, outputs: int, size: int, stride: int, copies: int) -> nn.Conv2d:
    padding = size // 2
    return nn.Conv2d(inputs * copies, outputs * copies, size, stride, padding, groups=copies, bias=False)
