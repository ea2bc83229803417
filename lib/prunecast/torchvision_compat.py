"""Import this before torchvision: it lets torchvision work where its compiled extension cannot load.

A CPU build of torch beside a CUDA build of torchvision leaves two operators undeclared, and then even
`from transformers import Trainer` fails. Declaring their schemas is enough for models, transforms and datasets.
"""

from typing import Any

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    Library: Any = torch.library.Library  # its methods have no annotations
    LIBRARY = Library("torchvision", "DEF")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
