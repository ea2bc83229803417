"""Models as folders: saved as safetensors with their configuration, and classifiers loaded."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from prunecast.errors import UserError
from prunecast.loading import hub, images
from prunecast.loading.folders import config_of, local_folder, read_json
from prunecast.loading.text import first_line, text_classifier
from prunecast.networks.vision import ImageClassifier, is_vision_architecture

IMAGES = "ForImageClassification"  # part of the library's names of image classifiers
LANGUAGE_MODEL = ("ForCausalLM", "LMHeadModel")  # endings of the library's names of language models
NO_PADDING = -1  # `pad_token_id` of a loaded model without a padding token, so that it takes batches


def save(model: nn.Module, processor: Any, folder: Path) -> None:
    """Write a model into a folder, so that `load` and `from_pretrained` give the same one.

    Args:
        model: A classifier or a language model: its weights become safetensors, its configuration `config.json`.
        processor: Its tokenizer or `ImageInputs`; None for an `ImageClassifier`.
        folder: Folder to write to, made where it does not exist.
    """
    model.save_pretrained(folder)  # type: ignore[operator]
    if processor is not None:
        processor.save_pretrained(folder)
    if (config := getattr(model, "config", None)) and not type(model).__name__.endswith(LANGUAGE_MODEL):
        _complete(folder / "config.json", config)


@contextmanager
def saved_beside(folder: Path, model: nn.Module, processor: Any, name: str) -> Iterator[Path]:
    """A context with a model saved to a temporary folder beside `folder`, from where it may be moved there.

    Args:
        folder: The folder that it is to be saved to.
        model: The model.
        processor: What prepares its inputs, as for `save`.
        name: Name of the model in errors.

    Yields:
        The temporary folder.

    Raises:
        UserError: It cannot be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True) as work:
            save(model, processor, Path(work) / folder.name)
            yield Path(work) / folder.name
    except OSError as error:
        raise UserError(f"{name} was not saved to {folder}: {error.strerror or error}") from None


def load(folder: Path) -> tuple[nn.Module, Any]:
    """Load what `save` wrote into a folder, or a checkpoint of others.

    Returns:
        The model in evaluation mode, and its tokenizer; for images its `ImageInputs`, None for an `ImageClassifier`.

    Raises:
        UserError: The folder has no model, its weights are no safetensors or not those of its architecture, or its
            tokenizer has more tokens than the model.
    """
    config = config_of(folder)
    if is_vision_architecture(config.get("architecture")):
        return _image_classifier(folder), None
    return _from_library(str(folder), folder.name, config.get("architectures"))


def open_checkpoint(checkpoint: str) -> tuple[nn.Module, Any, str]:
    """Load a checkpoint by its folder, by its name in `PRUNECAST_MODELS`, or by its id of the hub.

    Args:
        checkpoint: The path, name or id.

    Returns:
        The model in evaluation mode and its tokenizer or `ImageInputs`, as of `load`, and its name.

    Raises:
        UserError: As for `load`, or neither folder nor hub has it.
    """
    if folder := local_folder(checkpoint):
        return *load(folder), folder.resolve().name
    return *_from_library(checkpoint, checkpoint, _architectures(checkpoint)), checkpoint


def _from_library(source: str, name: str, architectures: Any) -> tuple[nn.Module, Any]:
    if any(IMAGES in str(each) for each in architectures or ()):
        model, inputs = images.image_classifier(source, name)
        return model.eval(), inputs
    model, tokenizer = text_classifier(source, name, new_head=False)
    return model.eval(), tokenizer


def _architectures(checkpoint: str) -> Any:
    """The architectures that the configuration of a checkpoint of the hub names; None if it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            checkpoint, trust_remote_code=False, **hub.hub_options(checkpoint)
        ).architectures
    except (OSError, ValueError):
        return None  # the loader says why


def _image_classifier(folder: Path) -> nn.Module:
    try:
        return ImageClassifier.from_pretrained(folder).eval()
    except (OSError, TypeError, ValueError, LookupError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {folder.name}: its weights are not those that its config.json describes ({first_line(error)})"
        ) from None


def _complete(path: Path, config: Any) -> None:
    """Write what the library leaves out of `config.json` because it takes it for the default of every architecture."""
    stored = read_json(path)
    if config.id2label and config.label2id:  # PVT has a number of labels alone
        stored["id2label"] = {str(index): name for index, name in config.id2label.items()}
        stored["label2id"] = dict(config.label2id)
    if stored.get("pad_token_id") == NO_PADDING:
        stored["pad_token_id"] = None
    path.write_text(json.dumps(stored, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
