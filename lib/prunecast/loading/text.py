"""Text classifiers of the transformers library, with their tokenizers, and what all models of texts share."""

from typing import Any

import torch

from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.errors import UserError
from prunecast.loading.folders import config_of, gguf_file, local_folder, refuse_quantised
from prunecast.loading.hub import hub_options

from transformers.utils import logging as transformers_logging  # isort: skip

LIBRARY_LOGGING: Any = transformers_logging  # its functions have no annotations
LIBRARY_LOGGING.set_verbosity_error()
LIBRARY_LOGGING.disable_progress_bar()
CLASSIFIER = "ForSequenceClassification"  # ending of the library's names of text classifiers
POSITIONS = ("position_embeddings", "char_position_embeddings", "embed_positions", "positions_embed", "wpe")
FEW_TOKENS = 1000  # the library makes a tokenizer of special tokens alone where there is none, and these are fewer
UNLIMITED = 10**9  # a tokenizer without a limit states a larger one


def text_classifier(source: str, name: str, new_head: bool, **options: Any) -> tuple[Any, Any]:
    """Load a text classifier and its tokenizer.

    Args:
        source: A folder, or an id of the hub.
        name: Name of the checkpoint in errors.
        new_head: Whether weights outside the base model may be absent or of other shapes, since they are trained next.
        options: Further arguments of the library's `from_pretrained`.

    Returns:
        The model on the processor and in float32, and its tokenizer.

    Raises:
        UserError: The checkpoint is damaged, quantised, an adapter, of another kind or not fine-tuned, it cannot be
            loaded, or it has no tokenizer or one that has more tokens than the model.
    """
    from transformers import AutoModelForSequenceClassification

    factory = AutoModelForSequenceClassification
    model, absent, where = from_library(factory, source, name, "a text classifier", new_head, **options)
    _refuse_absent(model, name, absent, new_head)
    return model, tokenizer_of(source, name, model, where)


def from_library(
    factory: Any, source: str, name: str, kind: str, new_head: bool = False, **options: Any
) -> tuple[Any, list[str], dict[str, Any]]:
    """Load a model of texts.

    Args:
        factory: Class of the library that makes models of this kind.
        source: A folder, or an id of the hub.
        name: Name of the checkpoint in errors.
        kind: What it is loaded as, in errors.
        new_head: Whether weights may have other shapes than the model, since they are trained next.
        options: Further arguments of the library's `from_pretrained`.

    Returns:
        The model on the processor and in float32, the names of the weights that the checkpoint lacks, and the options
        for the hub.

    Raises:
        UserError: The checkpoint is damaged, quantised, an adapter, or it cannot be loaded.
    """
    from transformers import AutoConfig

    where: dict[str, Any] = {}
    stored: dict[str, Any] = {}
    local = local_folder(source)
    if local:
        stored = config_of(local)
    else:
        where = hub_options(source)
    source, gguf = _of_gguf(source)
    try:
        if {"attn_implementation", "_attn_implementation"} & set(stored):  # which may need a library or a GPU
            config: Any = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
            config._attn_implementation = "eager"
            options = {"config": config}
        model, loaded = factory.from_pretrained(
            source,
            ignore_mismatched_sizes=new_head,  # a head for other classes is replaced, and trained
            output_loading_info=True,
            use_safetensors=True,
            dtype=torch.float32,
            trust_remote_code=False,
            **where,
            **gguf,
            **options,
        )
    except Exception as error:  # the library raises whatever the code of an architecture does
        raise UserError(_not_loaded(name, kind, error, bool(where))) from None
    if gguf:
        _forget_quantisation(model)
    refuse_quantised(repr(name), getattr(model.config, "quantization_config", None))
    return model, list(loaded["missing_keys"]), where


def tokenizer_of(source: str, name: str, model: Any, where: dict[str, Any]) -> Any:
    """Load the tokenizer of a model.

    Args:
        source: A folder, or an id of the hub.
        name: Name of the checkpoint in errors.
        model: The model.
        where: The options for the hub with which the model was loaded.

    Returns:
        The tokenizer.

    Raises:
        UserError: There is none, or it has more tokens than the model.
    """
    from transformers import AutoTokenizer

    source, gguf = _of_gguf(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where, **gguf)
        tokens = len(tokenizer)
    except Exception as error:
        raise UserError(f"checkpoint {name!r} has no tokenizer that could be loaded: {first_line(error)}") from None
    if tokens < FEW_TOKENS and len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)) <= 1:
        raise UserError(
            f"checkpoint {name!r} has no tokenizer; save that of its base model beside it with save_pretrained"
        )
    rows = _embedded_tokens(model)
    if rows is not None and tokens > rows:
        raise UserError(f"checkpoint {name!r}: its tokenizer has {tokens} tokens, its model only {rows}")
    return tokenizer


def most_tokens(model: Any, tokenizer: Any) -> int:
    """The number of tokens of the longest text that a model takes.

    It is the smallest of the tokenizer's limit, `max_position_embeddings`, and the rows of the tables of positions,
    where positions are counted from the padding index on, as in RoBERTa, less those that are not used.

    Args:
        model: The text classifier.
        tokenizer: Its tokenizer.

    Returns:
        The number of tokens, special ones included; `UNLIMITED` where nothing limits it.
    """
    positions = [getattr(model.config.get_text_config(), "max_position_embeddings", None)]
    offset = 0
    for path, module in model.named_modules():
        if path.rpartition(".")[2] in POSITIONS and hasattr(module, "weight"):
            padding = getattr(module, "padding_idx", None)
            offset = max(offset, 0 if padding is None else padding + 1)
            positions.append(module.weight.shape[0] - getattr(module, "offset", 0))
    limits = [tokenizer.model_max_length, *(limit - offset for limit in positions if limit and limit > 0)]
    return int(min([*limits, UNLIMITED]))


def first_line(error: Exception) -> str:
    """The first line of an error of a library, at most 200 characters, after the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200].rstrip('.')}" if lines else type(error).__name__


def _of_gguf(source: str) -> tuple[str, dict[str, str]]:
    """Folder and name of a GGUF file, as arguments of the library's `from_pretrained`; no name for other sources."""
    local = local_folder(source)
    gguf = gguf_file(local) if local else None
    return (str(gguf.parent), {"gguf_file": str(gguf.resolve())}) if gguf else (source, {})


def _forget_quantisation(model: Any) -> None:
    """Let a model whose weights were dequantised as they were loaded be saved and pruned as any other."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False


def _not_loaded(name: str, kind: str, error: Exception, offline: bool) -> str:
    if offline and isinstance(error, OSError):
        return (
            f"checkpoint {name!r} could not be loaded: it is neither a folder, nor one in PRUNECAST_MODELS, and the "
            "hub cannot be reached; connect to the network, or name a folder"
        )
    if "size mismatch" in str(error) or "mismatched" in str(error):
        return (
            f"checkpoint {name!r}: its weights have other shapes than its config.json says, such as another number of "
            "classes (id2label)"
        )
    return f"checkpoint {name!r} could not be loaded as {kind} ({first_line(error)})"


def _refuse_absent(model: Any, name: str, missing: Any, new_head: bool) -> None:
    base = f"{model.base_model_prefix}."
    inside = [key for key in missing if key.startswith(base) and "pooler" not in key]
    if new_head:
        absent = inside
    elif missing and not inside:
        kind = next(iter(getattr(model.config, "architectures", None) or ()), "")
        saved = f", since it was saved as {kind}" if kind and not kind.endswith(CLASSIFIER) else ""
        lacking = min(missing, key=lambda key: (key.startswith(base), key))
        raise UserError(
            f"checkpoint {name!r} has no trained classification head ({lacking}){saved}; fine-tune it on the task, "
            "or take one that was"
        )
    else:
        absent = list(missing)
    if absent:
        raise UserError(
            f"checkpoint {name!r} is not a {model.config.model_type}: it lacks {len(absent)} of its weights"
        )


def _embedded_tokens(model: Any) -> int | None:
    """Rows of the table of token embeddings; None where the model has no such table."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        return None
