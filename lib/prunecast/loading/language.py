"""Causal language models of the transformers library, with their tokenizers, and running text as blocks of tokens."""

from typing import Any

import torch
from torch import Tensor

from prunecast.errors import UserError
from prunecast.loading.folders import config_of, local_folder
from prunecast.loading.text import first_line, from_library, tokenizer_of
from prunecast.networks.vision import is_vision_architecture

CLASSIFIER = "Classification"  # part of the library's names of classifiers of all kinds
TRIED = 8  # tokens on which it is seen whether later ones change the answer
CHANGE = 1e-3  # of an answer, relative to the largest, that is not rounding


def language_model(checkpoint: str) -> tuple[Any, Any, str]:
    """Load a causal language model by its folder, by its name in `PRUNECAST_MODELS`, or by its id of the hub.

    Args:
        checkpoint: The path, name or id.

    Returns:
        The model in evaluation mode and in float32, its tokenizer, and its name.

    Raises:
        UserError: Neither folder nor hub has it, it is a classifier or predicts a token from later ones, its weights
            are not those of a language model, or it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    folder = local_folder(checkpoint)
    name = folder.resolve().name if folder else checkpoint
    source = str(folder or checkpoint)
    stored = config_of(folder) if folder else {}
    _refuse_classifier(name, stored.get("architectures") or [stored.get("architecture", "")])
    model, absent, where = from_library(AutoModelForCausalLM, source, name, "a causal language model")
    architectures = getattr(model.config, "architectures", None) or [""]
    _refuse_classifier(name, architectures)
    if absent:
        kind = f" but {architectures[0]}" if architectures[0] else ""
        raise UserError(
            f"checkpoint {name!r} is no causal language model{kind}: it lacks {len(absent)} weights of one, such as "
            f"{min(absent)}"
        )
    tokenizer = tokenizer_of(source, name, model, where)
    model.eval()
    if _reads_ahead(model, name):
        raise UserError(f"checkpoint {name!r} predicts a token from later ones: it is no causal language model")
    return model, tokenizer, name


def token_blocks(text: str, tokenizer: Any, length: int) -> Tensor:
    """Divide a text into blocks of tokens; the last, incomplete one is dropped.

    Args:
        text: The text.
        tokenizer: Tokenizer of the model; every block begins with its start token, where it has one.
        length: Tokens of a block, the start token included.

    Returns:
        Token ids (n, length).

    Raises:
        UserError: A block has no token to predict, or the text has fewer tokens than one block.
    """
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if length < 2:
        raise UserError(f"a block of {length} token has none to predict; it needs at least 2")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    own = length - len(start)
    if len(ids) < own:
        raise UserError(f"the text has {len(ids)} tokens, which is less than one block of {own}; give more text")
    blocks = torch.tensor(ids[: len(ids) // own * own]).view(-1, own)
    return torch.cat([torch.tensor([start] * len(blocks), dtype=torch.long).view(len(blocks), len(start)), blocks], 1)


def _refuse_classifier(name: str, saved: Any) -> None:
    """Refuse what was saved as a classifier of the library, or as an image network of this package."""
    if any(CLASSIFIER in str(each) or is_vision_architecture(each) for each in saved):
        raise UserError(
            f"checkpoint {name!r} was saved as {saved[0]}, and a classifier is given labelled examples, with --task or "
            "--data"
        )


@torch.inference_mode()
def _reads_ahead(model: Any, name: str) -> bool:
    """Whether the answer to a token depends on later ones."""
    ids = torch.arange(TRIED)[None].repeat(2, 1)
    ids[1, -1] = 0
    try:
        one, other = (model(row[None], use_cache=False).logits[0, :-1] for row in ids)
    except Exception as error:  # the code of an architecture may fail in any way
        raise UserError(f"checkpoint {name!r} fails on a text of {TRIED} tokens ({first_line(error)})") from None
    return bool((one - other).abs().max() > CHANGE * one.abs().max())
