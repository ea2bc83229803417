"""A saved classifier as an ONNX file, which other runtimes execute: written, and checked against the model itself."""

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning import structured
from prunecast.seeding import generator

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SHAPES = ((4, 12), (1, 7), (3, 9))  # examples and tokens: of the export, and of what it is checked on besides
TOLERANCE = 1e-4  # logits further apart are those of another model


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        bytes: Size of the file.
        difference: Largest absolute difference of a logit between the file, executed by ONNX Runtime, and the model.
    """

    bytes: int
    difference: float


class _Logits(nn.Module):
    """A classifier with tensors as arguments, by position, and its logits as the answer."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *arguments: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, arguments, strict=True)))["logits"]
        return logits


def export(folder: Path, file: Path) -> Exported:
    """Write a classifier as an ONNX file that takes any number of examples and, for texts, of tokens.

    Args:
        folder: Folder with a classifier, dense, masked, or with parts removed; zeros are exported as they are.
        file: The file to write; it is replaced.

    Returns:
        Its size, and how far its logits are from the model's on random inputs of several shapes.

    Raises:
        UserError: A package is missing, the folder holds no classifier that can be loaded or exported, the file cannot
            be written, or it answers otherwise than the model.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"to export takes {', '.join(missing)}: pip install {' '.join(missing)}")
    model = _loaded(folder)
    inputs = list(_inputs(model))
    whole = _Logits(model, tuple(inputs[0])).eval()
    sizes = {0: torch.export.Dim.DYNAMIC}
    if "input_ids" in inputs[0]:
        sizes[1] = torch.export.Dim.DYNAMIC
    try:
        with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as work, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about its own parts
            written = Path(work) / file.name
            torch.onnx.export(
                whole,
                tuple(inputs[0].values()),
                written,
                input_names=list(inputs[0]),
                output_names=["logits"],
                dynamic_shapes=(tuple(dict(sizes) for _ in inputs[0]),),
                external_data=False,
                verbose=False,
            )
            difference = max(_difference(written, whole, each) for each in inputs)
            if not difference < TOLERANCE:
                raise UserError(
                    f"{folder.name} is not exported: the logits of the file differ by up to {difference:.2g}"
                )
            written.replace(file)
    except OSError as error:
        raise UserError(f"{folder.name} was not written to {file}: {error.strerror or error}") from None
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(f"{folder.name} cannot be exported: {str(error).strip().splitlines()[0]}") from None
    return Exported(file.stat().st_size, difference)


def _loaded(folder: Path) -> nn.Module:
    """The classifier of a folder, whose layers may be smaller than its configuration says."""
    try:
        return storage.load(folder)[0].eval()
    except UserError as error:
        try:
            return structured.load_removed(folder)
        except UserError:
            raise error from None


def _inputs(model: Any) -> Iterator[dict[str, Tensor]]:
    """Random inputs of each of the `SHAPES`: token ids, of which the last example has fewer, or pixels."""
    draw = generator(0, "export")
    for examples, tokens in SHAPES:
        if isinstance(model, ImageClassifier) or hasattr(model.config, "image_size"):
            pixels = draw.standard_normal((examples, *_pixels(model)))
            yield {"pixel_values": torch.from_numpy(pixels).float()}
            continue
        config = model.config.get_text_config()
        ids = torch.from_numpy(draw.integers(config.vocab_size, size=(examples, tokens)))
        mask = torch.ones_like(ids)
        if config.pad_token_id is not None:
            ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
            ids[-1, tokens // 2 :], mask[-1, tokens // 2 :] = config.pad_token_id, 0
        yield {"input_ids": ids, "attention_mask": mask}


def _pixels(model: Any) -> tuple[int, ...]:
    if isinstance(model, ImageClassifier):
        return tuple(model.shape)
    size = model.config.image_size
    return (model.config.num_channels, *((size, size) if isinstance(size, int) else size))


@torch.inference_mode()
def _difference(file: Path, model: nn.Module, inputs: dict[str, Tensor]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return float(np.abs(answer - model(*inputs.values()).numpy()).max())
