"""Image classifiers for 32 by 32 pixels, made of torchvision's networks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional

from prunecast import torchvision_operators as _before_torchvision  # noqa: F401

import torchvision.models  # isort: skip

VISION_ARCHITECTURES = ("vgg16", "vgg16_bn")
SIDE = 32


class ImageClassifier(nn.Module):
    """A torchvision VGG16 whose head fits 32 by 32 images: one linear layer on its 512 last channels."""

    def __init__(self, architecture: str, classes: int):
        super().__init__()
        self.architecture, self.classes = architecture, classes
        self.network = getattr(torchvision.models, architecture)(weights=None)
        self.network.avgpool = nn.Identity()
        self.network.classifier = nn.Linear(512, classes)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, Any]:
        """Logits (n, classes) of images (n, 3, 32, 32), and the mean cross-entropy where labels (n,) are given."""
        logits = self.network(pixel_values)
        return (
            {"logits": logits}
            if labels is None
            else {"loss": functional.cross_entropy(logits, labels), "logits": logits}
        )

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self, str(folder / "model.safetensors"))
        config = {"architecture": self.architecture, "classes": self.classes}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: Path) -> "ImageClassifier":
        """Read what `save_pretrained` wrote."""
        model = cls(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        load_model(model, str(folder / "model.safetensors"))
        return model


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """Images (n, h, w, 1 or 3) of uint8 as floats (n, 3, 32, 32) between -1 and 1, resized bilinearly if need be."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if tensor.shape[1] == 1:
        tensor = tensor.expand(-1, 3, -1, -1)
    if tensor.shape[-2:] != (SIDE, SIDE):
        tensor = functional.interpolate(tensor, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return tensor.contiguous()
