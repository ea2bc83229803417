"""Image classifiers: torchvision's VGG16, a small VGG11, pre-activation ResNets, fully connected networks."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_model
from torch import nn
from torch.nn import functional

from prunecast import torchvision_compat as _before_torchvision  # noqa: F401
from prunecast.errors import UserError

import torchvision.models  # isort: skip

from prunecast.networks.kan import KanNetwork  # isort: skip
from prunecast.networks.preresnet import PreResNet  # isort: skip

SIDE = 32  # height and width, in pixels, that images are resized to
SHIFT = 4  # largest shift of an augmented image, in pixels
FULLY_CONNECTED = {  # widths between input and output; those with a width in the name are of Wang et al., 2026
    "fc2": (128,),
    "fc5": (512, 256, 128, 64),
    "fc12": (256,) * 11,
    "fc2_100": (100,),
    "fc5_1000": (1000, 600, 300, 100),
    "fc12_1000": (1000, 900, 800, 750, 700, 650, 600, 500, 400, 200, 100),
}
KAN_NODES = 64
PRERESNET = re.compile(r"preresnet([1-9][0-9]*)_([1-9][0-9]*)")  # depth and width

Builder = Callable[[int, Sequence[int]], nn.Module]  # from the number of classes and the shape of an image


class ImageClassifier(nn.Module):
    """An image network for images of one shape.

    The input of the convolutional networks of `VISION_ARCHITECTURES` has three channels and 32 by 32 pixels: a single
    channel is repeated, and images of another size are resized bilinearly. All others take images as they are.

    Args:
        architecture: Name in `VISION_ARCHITECTURES`, or `preresnet`, depth, underscore and width, as in
            `preresnet8_16`: a `PreResNet` for images of the given shape.
        classes: Number of classes.
        shape: Channels, height and width of an image.
        mean: Mean of the pixel values by channel, which is subtracted; empty for no standardisation.
        deviation: Standard deviation of the pixel values by channel, by which they are divided; empty with `mean`.

    Attributes:
        resizes: Whether images of another size, and of one channel, are prepared for the network.
        standards: The `mean` and the `deviation`.
        network: The network without the preparation of its input.

    Raises:
        UserError: There is no such architecture, or no PreResNet of this depth.
    """

    def __init__(
        self,
        architecture: str,
        classes: int,
        shape: Sequence[int],
        mean: Sequence[float] = (),
        deviation: Sequence[float] = (),
    ):
        super().__init__()
        self.architecture, self.classes, self.shape = architecture, classes, tuple(shape)
        self.standards = {"mean": list(mean), "deviation": list(deviation)}
        self.resizes = architecture in VISION_ARCHITECTURES and architecture not in (*FULLY_CONNECTED, "kan")
        self.network = _builder(architecture)(classes, self.shape)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, Any]:
        """Classify images.

        Args:
            pixel_values: Images (n, channels, height, width) with values from -1 to 1.
            labels: Index (n,) of the true classes; None where no loss is needed.

        Returns:
            `logits` (n, classes), and with labels also `loss`, the mean cross-entropy in nats.
        """
        if self.standards["mean"]:
            mean, deviation = (pixel_values.new_tensor(each)[:, None, None] for each in self.standards.values())
            pixel_values = (pixel_values - mean) / deviation
        logits = self.network(_in_colour(pixel_values) if self.resizes else pixel_values)
        return (
            {"logits": logits}
            if labels is None
            else {"loss": functional.cross_entropy(logits, labels), "logits": logits}
        )

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`.

        Args:
            folder: Folder to write to, made where it does not exist.
        """
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self, str(folder / "model.safetensors"))
        config = {"architecture": self.architecture, "classes": self.classes, "shape": self.shape} | self.standards
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: Path) -> "ImageClassifier":
        """Read what `save_pretrained` wrote.

        Args:
            folder: Folder with `model.safetensors` and `config.json`.

        Returns:
            The classifier, in training mode.
        """
        with torch.device("meta"):  # no random initialisation that the stored weights replace
            model = cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
        return model


def is_vision_architecture(name: object) -> bool:
    """Whether `ImageClassifier` has an architecture of this name."""
    return isinstance(name, str) and (name in VISION_ARCHITECTURES or PRERESNET.fullmatch(name) is not None)


def pixel_values(images: NDArray[np.uint8]) -> torch.Tensor:
    """Scale images.

    Args:
        images: Images (n, height, width, channels) with values from 0 to 255.

    Returns:
        Images (n, channels, height, width) with values from -1 to 1.
    """
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def pixel_standards(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Compute by what the `pixel_values` of images are standardised.

    Args:
        images: Images (n, height, width, channels) with values from 0 to 255.

    Returns:
        Mean and standard deviation of the scaled values, each by channel.
    """
    scaled = images.reshape(-1, images.shape[-1]).astype(np.float64) / 127.5 - 1
    return scaled.mean(0).tolist(), scaled.std(0).tolist()


def flipped_and_shifted(image: torch.Tensor) -> torch.Tensor:
    """Augment an image: mirror it with probability one half, and shift it by up to 4 pixels in each direction.

    Args:
        image: An image (channels, height, width) with values from -1 to 1.

    Returns:
        The augmented image, of the same shape; pixels shifted in from outside are 0.
    """
    mirrored, down, right = (int(torch.randint(0, sides, ())) for sides in (2, 2 * SHIFT + 1, 2 * SHIFT + 1))
    padded = functional.pad(image.flip(-1) if mirrored else image, (SHIFT,) * 4)
    return padded[:, down : down + image.shape[1], right : right + image.shape[2]]


def _builder(name: str) -> Builder:
    if sizes := PRERESNET.fullmatch(name):
        depth, width = map(int, sizes.groups())
        return lambda classes, shape: PreResNet(classes, depth, width, shape[0])
    if name not in VISION_ARCHITECTURES:
        known = ", ".join(VISION_ARCHITECTURES)
        raise UserError(
            f"{name!r} is not an image architecture; there are {known}, and preresnet with a depth and a width, as in "
            "preresnet8_16"
        )
    return VISION_ARCHITECTURES[name]


def _vgg16(name: str) -> Builder:
    def build(classes: int, _shape: Sequence[int]) -> nn.Module:
        network: nn.Module = getattr(torchvision.models, name)(weights=None)
        network.avgpool = nn.Identity()
        network.classifier = nn.Linear(512, classes)
        return network

    return build


def _small_vgg11(classes: int, _shape: Sequence[int]) -> nn.Module:
    """VGG11 with batch norms and half of its channels, which are 32 in the first layer."""
    channels = [size if isinstance(size, str) else size // 2 for size in torchvision.models.vgg.cfgs["A"]]
    layers = torchvision.models.vgg.make_layers(channels, batch_norm=True)
    return nn.Sequential(layers, nn.Flatten(), nn.Linear(256, classes))


def _fully_connected(widths: Sequence[int]) -> Builder:
    def build(classes: int, shape: Sequence[int]) -> nn.Module:
        sizes = [int(np.prod(shape)), *widths]
        hidden = [part for a, b in zip(sizes, widths, strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], classes))

    return build


def _in_colour(images: torch.Tensor) -> torch.Tensor:
    colour = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
    if colour.shape[-2:] == (SIDE, SIDE):
        return colour
    return functional.interpolate(colour, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


VISION_ARCHITECTURES: dict[str, Builder] = {
    "vgg16": _vgg16("vgg16"),
    "vgg16_bn": _vgg16("vgg16_bn"),
    "vgg11_32": _small_vgg11,
    "preresnet20": lambda classes, _shape: PreResNet(classes),
    "kan": lambda classes, shape: KanNetwork((int(np.prod(shape)), KAN_NODES, classes)),
    **{name: _fully_connected(widths) for name, widths in FULLY_CONNECTED.items()},
}
