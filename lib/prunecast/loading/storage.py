"""Classifiers as folders: saved as safetensors with their configuration, and loaded."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from prunecast.errors import UserError
from prunecast.loading.folders import refuse_pickles
from prunecast.loading.text import text_classifier
from prunecast.networks.vision import VISION_ARCHITECTURES, ImageClassifier


def save(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    """Write the weights of a model as safetensors, its configuration, and its tokenizer (None for images)."""
    model.save_pretrained(folder)  # type: ignore[operator]
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def load(folder: Path) -> tuple[nn.Module, Any]:
    """Load what `save` wrote into a folder.

    Returns:
        The model in evaluation mode, and its tokenizer (None for images).

    Raises:
        UserError: The folder has no model, its weights are no safetensors or not those of its architecture, or its
            tokenizer has more tokens than the model.
    """
    refuse_pickles(folder)
    config = folder / "config.json"
    if not config.exists():
        raise UserError(f"checkpoint {folder.name} has no config.json, which names its architecture")
    if json.loads(config.read_text(encoding="utf-8")).get("architecture") in VISION_ARCHITECTURES:
        return ImageClassifier.from_pretrained(folder).eval(), None
    model, tokenizer = text_classifier(str(folder), folder.name, new_head=False)
    return model.eval(), tokenizer
