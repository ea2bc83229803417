"""Image classifiers of the transformers library, with the preparation of their images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecast.errors import UserError
from prunecast.loading.folders import config_of
from prunecast.loading.hub import hub_options
from prunecast.loading.text import first_line

CHUNK = 64  # images that the library's processor is given at once, which holds several copies of them


@dataclass(frozen=True)
class ImageInputs:
    """The preparation of images as a checkpoint states it: size, crop, mean and deviation of the pixels.

    Attributes:
        processor: The image processor of the checkpoint.
        channels: Number of channels that its model takes, 1 or 3.
        name: Name of the checkpoint.
    """

    processor: Any
    channels: int
    name: str

    def pixel_values(self, images: NDArray[np.uint8]) -> Tensor:
        """Prepare images as the library's own processor does; grey ones are repeated to three channels.

        Args:
            images: Images (n, height, width, channels) with values from 0 to 255.

        Returns:
            Pixel values (n, channels, height, width) in the size of the checkpoint.

        Raises:
            UserError: The images have other channels than the model, or the processor does not make pixel values of
                one size from them.
        """
        if images.shape[-1] not in (1, self.channels):
            raise UserError(
                f"the images have {images.shape[-1]} channels, checkpoint {self.name!r} takes {self.channels}"
            )
        in_colour = np.broadcast_to(images, (*images.shape[:-1], self.channels))
        chunks = [in_colour[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
        return torch.cat([self._prepared(chunk) for chunk in chunks])

    def save_pretrained(self, folder: Path) -> None:
        """Write `preprocessor_config.json`.

        Args:
            folder: Folder to write to, made where it does not exist.
        """
        self.processor.save_pretrained(folder)

    def _prepared(self, images: NDArray[np.uint8]) -> Tensor:
        try:
            made = self.processor(
                [np.array(image) for image in images],
                input_data_format="channels_last",
                return_tensors="pt",
            )
        except Exception as error:  # a processor of the library raises whatever its own code does
            raise UserError(
                f"checkpoint {self.name!r}: its image processor cannot prepare images of "
                f"{images.shape[1]} by {images.shape[2]} pixels and {self.channels} channels ({first_line(error)})"
            ) from None
        values = made.get("pixel_values")
        if not isinstance(values, Tensor) or values.ndim != 4 or len(made) > 1:
            raise UserError(
                f"checkpoint {self.name!r}: its image processor makes {', '.join(made)} of images, and not pixel "
                "values (channels, height, width) alone, which are all that a model can be given here"
            )
        return values


def image_classifier(source: str, name: str) -> tuple[Any, ImageInputs]:
    """Load an image classifier and the preparation of its images.

    Args:
        source: A folder, or an id of the hub.
        name: Name of the checkpoint in errors.

    Returns:
        The model in evaluation mode and in float32, and its `ImageInputs`.

    Raises:
        UserError: It cannot be loaded, its weights are not those of its architecture, or it does not say how images are
            prepared.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processors: Any = AutoImageProcessor  # its functions have no annotations

    local = Path(source).is_dir()
    if local:
        config_of(Path(source))
    options: dict[str, Any] = {"trust_remote_code": False} | ({} if local else hub_options(source))
    try:
        model, loaded = AutoModelForImageClassification.from_pretrained(
            source, output_loading_info=True, use_safetensors=True, dtype=torch.float32, **options
        )
    except Exception as error:  # the library raises whatever the code of an architecture does
        raise UserError(
            f"checkpoint {name!r} could not be loaded as an image classifier ({first_line(error)})"
        ) from None
    if absent := sorted(loaded["missing_keys"]):
        raise UserError(
            f"checkpoint {name!r} lacks {len(absent)} of the weights of a {model.config.model_type} classifier, "
            f"such as {absent[0]}; fine-tune it on the task, or take one that was"
        )
    try:
        processor = processors.from_pretrained(source, **options)
    except Exception as error:
        path = Path(source) / "preprocessor_config.json"
        fault = f"cannot be read as one ({first_line(error)})" if not local or path.exists() else "does not exist"
        raise UserError(
            f"checkpoint {name!r}: its preprocessor_config.json, which says how images are prepared, {fault}; save the "
            "image processor that the model was trained with beside it"
        ) from None
    config = getattr(model.config, "vision_config", model.config)
    return model.eval(), ImageInputs(processor, getattr(config, "num_channels", 3), name)
