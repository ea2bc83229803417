"""Small causal language models trained from scratch, judged by perplexity, whose heads can be switched off."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor

from transformers import GPT2LMHeadModel  # isort: skip
import hashlib
import json
from re import finditer
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional

from transformers import GPT2Config  # isort: skip
import math

import numpy as np
from torch import nn

from transformers import get_linear_schedule_with_warmup  # isort: skip

from prunecast import paths
from prunecast.cache import alone, kept_folder, key_of
from prunecast.datasets.corpora import load_corpus
from prunecast.errors import UserError, first_complaint
from prunecast.models.prunable import prunable_weights
from prunecast.progress import note, track
from prunecast.seeding import seed_everything

CALIBRATION_BLOCKS = 64  # blocks of the train text that tell how important heads are
TOKENS = 1024  # of a batch outside training
ATTENTION = "eager"  # on blocks this short faster than the fused kernels of a processor, above all backwards


class LanguageSpec(BaseModel):
    """One entry of `data/language_models.yml`: a GPT-2, its sizes, and how it is trained from scratch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    layers: PositiveInt = 2
    hidden: PositiveInt = 128
    heads: PositiveInt = 4
    context: int = Field(default=64, ge=2, description="tokens of a block")
    vocabulary: int = Field(default=4000, ge=256, description="most pieces of the tokenizer, the 256 bytes included")
    epochs: PositiveFloat = 2
    batch_size: PositiveInt = Field(default=32, description="blocks of a step")
    learning_rate: PositiveFloat = 1e-3
    bfloat16: bool = Field(default=False, description="train in bfloat16; evaluation is float32")
    train_words: PositiveInt | None = Field(default=None, description="the first words alone of the train text")


@dataclass(frozen=True)
class LanguageModel:
    """A trained model, the token ids of its validation text (n, context), and of the start of its train text."""

    name: str
    spec: LanguageSpec
    model: GPT2LMHeadModel
    blocks: Tensor
    calibration: Tensor
    folder: Path
    seed: int


def registry() -> dict[str, LanguageSpec]:
    """All models of `data/language_models.yml` by name; raises UserError for an entry that is not one."""
    entries = yaml.safe_load((paths.DATA / "language_models.yml").read_text(encoding="utf-8"))
    try:
        return {name: LanguageSpec.model_validate(entry) for name, entry in entries.items()}
    except ValidationError as error:
        raise UserError(f"data/language_models.yml: {first_complaint(error, LanguageSpec)}") from None


def spec_of(name: str) -> LanguageSpec:
    """The registry's entry for a name; raises UserError for an unknown name, or sizes that do not fit."""
    known = registry()
    if name not in known:
        raise UserError(f"there is no model {name!r} in data/language_models.yml; there are {', '.join(known)}")
    if (spec := known[name]).hidden % spec.heads:
        raise UserError(f"model {name!r}: hidden {spec.hidden} cannot be shared out evenly among {spec.heads} heads")
    return spec


def trained_language_model(name: str, run: str, seed: int) -> LanguageModel:
    """Train the registry's model `name`, or reuse the checkpoint in `run` if nothing it depends on has changed."""
    spec = spec_of(name)
    texts = load_corpus(spec.corpus)
    fingerprint = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    folder = paths.run(run) / "language_models" / name
    key = key_of(["language_training"], spec.model_dump_json(), fingerprint, seed)
    with alone(folder):
        kept_folder(folder, key, lambda new: _train_into(new, spec, texts, fingerprint, seed), "trained.json")
        model: Any = GPT2LMHeadModel.from_pretrained(folder, attn_implementation=ATTENTION)
        blocks = load_file(folder / "blocks.safetensors")
    model.to(_device()).eval()
    return LanguageModel(name, spec, model, blocks["validation"], blocks["train"], folder, seed)


@torch.inference_mode()
def perplexity(model: GPT2LMHeadModel, blocks: Tensor) -> float:
    """exp of the mean cross-entropy in nats over all tokens of `blocks` (n, context) but the first of each.

    It is a perplexity per piece of the model's tokenizer: only models that share a tokenizer can be compared.
    """
    losses = torch.cat([token_losses(model, batch).double() for batch in batches_of(blocks)])
    return float(losses.mean().exp())


def prunable(model: GPT2LMHeadModel) -> dict[str, Tensor]:
    """Weights (inputs, outputs) of the linear layers in the transformer's blocks by name, in the model's order."""
    return prunable_weights(model, model.config.vocab_size)


def token_losses(model: Any, blocks: Tensor) -> Tensor:
    """Cross-entropy in nats of every predicted token, (n, context - 1)."""
    blocks = blocks.to(model.device)
    logits = model(blocks[:, :-1], use_cache=False).logits.float()
    found = functional.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten(), reduction="none")
    return found.view(len(blocks), -1)


def batches_of(blocks: Tensor) -> tuple[Tensor, ...]:
    """Blocks (n, context) in parts of at most `TOKENS` tokens each, one block at least."""
    return blocks.split(max(1, TOKENS // blocks.shape[1]))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _train_into(folder: Path, spec: LanguageSpec, texts: dict[str, str], fingerprint: str, seed: int) -> dict[str, Any]:
    name = folder.name
    ends = [word.end() for word in finditer(r"\S+", texts["train"])][: spec.train_words]
    texts = texts | {"train": texts["train"][: ends[-1]]}
    tokenizer = _train_tokenizer(texts["train"], spec.vocabulary)
    blocks = {split: _blocks(tokenizer, text, spec, split) for split, text in texts.items()}
    model = _built(spec, tokenizer.get_vocab_size(), seed, name).to(_device())
    _train(model, blocks["train"], spec, seed, name)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(blocks | {"train": blocks["train"][:CALIBRATION_BLOCKS].clone()}, folder / "blocks.safetensors")
    note(f"{name}: trained")
    return {"inputs": {spec.corpus: fingerprint}}


def _train_tokenizer(text: str, vocabulary: int) -> Tokenizer:
    """Byte-level pairs learnt from the lines of a text; every byte is a piece, so no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def _blocks(tokenizer: Tokenizer, text: str, spec: LanguageSpec, split: str) -> Tensor:
    """The text as blocks of token ids (n, context); the last, incomplete one is dropped."""
    pieces = [piece for line in text.splitlines(keepends=True) for piece in tokenizer.encode(line).ids]
    count = len(pieces) // spec.context
    if not count:
        size = f"{len(pieces)} tokens are less than one block of {spec.context}"
        raise UserError(f"corpus {spec.corpus!r}, split {split}: its {size}")
    return torch.tensor(pieces[: count * spec.context]).view(count, spec.context)


def _built(spec: LanguageSpec, vocabulary: int, seed: int, name: str) -> Any:
    seed_everything(seed, "build", name)
    sizes = {"n_layer": spec.layers, "n_embd": spec.hidden, "n_head": spec.heads, "n_positions": spec.context}
    without = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "bos_token_id": None, "eos_token_id": None}
    activation = "gelu_pytorch_tanh"  # GPT-2's own, in one kernel
    kernels = {"activation_function": activation, "attn_implementation": ATTENTION}
    settings: dict[str, Any] = {**sizes, **without, **kernels}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **settings))


def _train(model: Any, blocks: Tensor, spec: LanguageSpec, seed: int, name: str) -> None:
    """Train in place with AdamW, a linear schedule, a tenth of warm-up, and gradients clipped to norm 1."""
    choice = seed_everything(seed, "train", name)
    passes = np.concatenate([choice.permutation(len(blocks)) for _ in range(math.ceil(spec.epochs))])
    steps = torch.from_numpy(passes[: max(1, round(spec.epochs * len(blocks)))]).split(spec.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), spec.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, len(steps) // 10, len(steps))
    for rows in track(steps, f"training {name}"):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=spec.bfloat16):
            loss = token_losses(model, blocks[rows]).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
