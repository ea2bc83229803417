"""Image classifiers of the transformers library, with the preparation of their images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.errors import UserError

from transformers.utils import logging as transformers_logging  # isort: skip

LIBRARY_LOGGING: Any = transformers_logging  # its functions have no annotations
LIBRARY_LOGGING.set_verbosity_error()
LIBRARY_LOGGING.disable_progress_bar()

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
        except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
            raise UserError(
                f"checkpoint {self.name!r}: its image processor cannot prepare images of "
                f"{images.shape[1]} by {images.shape[2]} pixels and {self.channels} channels ({_first_line(error)})"
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
    from transformers import AutoModelForImageClassification

    try:
        model, loaded = AutoModelForImageClassification.from_pretrained(
            source, output_loading_info=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UserError(
            f"checkpoint {name!r} could not be loaded as an image classifier ({_first_line(error)}): it is neither "
            "such a folder, nor one in PRUNECAST_MODELS, nor served as safetensors by the hub"
        ) from None
    if loaded["missing_keys"]:
        absent = sorted(loaded["missing_keys"])
        raise UserError(
            f"checkpoint {name!r} lacks {len(absent)} of the weights of a {model.config.model_type} classifier, "
            f"such as {absent[0]}"
        )
    config = getattr(model.config, "vision_config", model.config)
    return model.eval(), ImageInputs(_processor(source, name), getattr(config, "num_channels", 3), name)


def _processor(source: str, name: str) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(source)
    except OSError:
        folder = Path(source)
        described = folder.is_dir() and (folder / "preprocessor_config.json").exists()
        state = "a damaged" if described else "no"
        raise UserError(
            f"checkpoint {name!r} has {state} preprocessor_config.json, which says how its images are prepared; "
            "save it with the image processor that the model was trained with"
        ) from None
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise UserError(
            f"checkpoint {name!r}: its preprocessor_config.json does not describe an image processor "
            f"({_first_line(error)})"
        ) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:150]
