"""Text classifiers of the transformers library, with their tokenizers."""

from typing import Any

import torch

from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.errors import UserError

from transformers.utils import logging as transformers_logging  # isort: skip

LIBRARY_LOGGING: Any = transformers_logging  # its functions have no annotations
LIBRARY_LOGGING.set_verbosity_error()
LIBRARY_LOGGING.disable_progress_bar()


def text_classifier(source: str, name: str, new_head: bool, **options: Any) -> tuple[Any, Any]:
    """A text classifier and its tokenizer; only `new_head` may leave weights outside the base model untrained."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            source,
            ignore_mismatched_sizes=new_head,  # a head for other classes is replaced, and trained
            output_loading_info=True,
            use_safetensors=True,
            dtype=torch.float32,
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {name!r} could not be loaded as a text classifier ({type(error).__name__}): it is neither "
            "such a folder, nor one in PRUNECAST_MODELS, nor served as safetensors by the hub"
        ) from None
    base = f"{model.base_model_prefix}."
    absent = sorted(
        key for key in loaded["missing_keys"] if not new_head or (key.startswith(base) and "pooler" not in key)
    )
    if absent:
        raise UserError(
            f"checkpoint {name!r} is not a {model.config.model_type}: it lacks {len(absent)} of its weights"
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise UserError(f"checkpoint {name!r}: its tokenizer has {len(tokenizer)} tokens, its model only {rows}")
    return model, tokenizer
