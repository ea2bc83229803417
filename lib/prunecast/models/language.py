"""Causal language models, trained from scratch or pretrained, evaluated by perplexity."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from re import finditer
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from prunecast import paths
from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.cache import alone, file_hash, kept_folder, key_of
from prunecast.datasets.corpora import load_corpus
from prunecast.errors import UserError, validated
from prunecast.loading.folders import weights_hash
from prunecast.loading.language import language_model, token_blocks
from prunecast.models.prunable import prunable_weights
from prunecast.progress import note, track
from prunecast.seeding import seed_everything

from transformers import GPT2Config, GPT2LMHeadModel, get_scheduler  # isort: skip

CALIBRATION_BLOCKS = 64  # blocks of the train text that are saved to score heads
CHARACTERS = 16  # of the train text that are read for each token of these, where the tokenizer is a checkpoint's
TOKENS = 1024  # of a batch outside training
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ATTENTION = "eager"  # on blocks this short faster on a processor than fused kernels, above all in the backward pass


class LanguageSpec(BaseModel):
    """One entry of `data/language_models.yml`: a GPT-2, its sizes, and how it is trained from scratch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    layers: PositiveInt = 2
    hidden: PositiveInt = 128
    heads: PositiveInt = 4
    context: int = Field(default=64, ge=2, description="tokens of a block")
    vocabulary: int = Field(default=4000, ge=256, description="largest number of tokens, the 256 bytes included")
    epochs: PositiveFloat = 2
    batch_size: PositiveInt = Field(default=32, description="blocks of a step")
    learning_rate: PositiveFloat = 1e-3
    bfloat16: bool = Field(default=False, description="train in bfloat16; evaluation is float32")
    train_words: PositiveInt | None = Field(
        default=None, description="number of words of the train text that are used; all by default"
    )


class PretrainedSpec(BaseModel):
    """One entry of `data/language_models.yml` that names a pretrained checkpoint, which is not trained further."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    checkpoint: str = Field(description="a folder, a sub-folder of PRUNECAST_MODELS, a GGUF file, or an id of the hub")
    context: int = Field(default=128, ge=2, description="tokens of a block, its start token included")


@dataclass(frozen=True)
class LanguageModel:
    """A trained language model with what is needed to evaluate it.

    Attributes:
        name: Name in the registry.
        spec: Entry of the registry.
        model: The model, in evaluation mode, on the GPU where there is one.
        blocks: Token ids (n, context) of the validation text.
        calibration: Token ids (at most `CALIBRATION_BLOCKS`, context) of the start of the train text.
        folder: Folder of its products, and of its checkpoint where it was trained here.
        fingerprint: Hash of its weights, which also follow from its text, or, of a pretrained one, of weights and text.
        seed: Seed of its training.
    """

    name: str
    spec: LanguageSpec | PretrainedSpec
    model: Any
    blocks: Tensor
    calibration: Tensor
    folder: Path
    fingerprint: str
    seed: int


def registry() -> dict[str, LanguageSpec | PretrainedSpec]:
    """Read `data/language_models.yml`.

    Returns:
        Its entries by name.

    Raises:
        UserError: An entry has an unknown, missing or invalid field.
    """
    entries = yaml.safe_load((paths.DATA / "language_models.yml").read_text(encoding="utf-8"))
    try:
        return {
            name: validated(PretrainedSpec, **entry) if "checkpoint" in entry else validated(LanguageSpec, **entry)
            for name, entry in entries.items()
        }
    except UserError as error:
        raise UserError(f"data/language_models.yml: {error}") from None


def spec_of(name: str) -> LanguageSpec | PretrainedSpec:
    """Find a model in the registry.

    Args:
        name: Name in the registry.

    Returns:
        Its entry.

    Raises:
        UserError: The name is unknown, or the hidden size is no multiple of the number of heads.
    """
    if name not in (known := registry()):
        raise UserError(f"there is no model {name!r} in data/language_models.yml; there are {', '.join(known)}")
    spec = known[name]
    if isinstance(spec, LanguageSpec) and spec.hidden % spec.heads:
        raise UserError(f"model {name!r}: hidden {spec.hidden} cannot be shared out evenly among {spec.heads} heads")
    return spec


def trained_language_model(name: str, run: str, seed: int) -> LanguageModel:
    """Train a language model of the registry, or reuse its checkpoint if nothing that it depends on has changed.

    A pretrained one is loaded as it is.

    Args:
        name: Name in the registry.
        run: Name of the run in whose folder the checkpoint is saved.
        seed: Seed of initialisation and of the order of blocks.

    Returns:
        The trained model.

    Raises:
        UserError: The name or its corpus is unknown, its sizes do not fit, a text is shorter than one block, or a
            pretrained checkpoint cannot be loaded.
    """
    spec = spec_of(name)
    texts = load_corpus(spec.corpus)
    fingerprint = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    folder = paths.run(run) / "language_models" / name
    if isinstance(spec, PretrainedSpec):
        return _pretrained(folder, spec, texts, fingerprint, seed)
    key = key_of(["language_training"], spec.model_dump_json(), fingerprint, seed)
    with alone(folder):
        kept_folder(folder, key, lambda new: _train_into(new, spec, texts, fingerprint, seed), "trained.json")
        model: Any = GPT2LMHeadModel.from_pretrained(folder, attn_implementation=ATTENTION)
        blocks = load_file(folder / "blocks.safetensors")
    model.to(DEVICE).eval()
    weights = file_hash(folder / "model.safetensors")
    return LanguageModel(name, spec, model, blocks["validation"], blocks["train"], folder, weights, seed)


@torch.inference_mode()
def perplexity(model: Any, blocks: Tensor) -> float:
    """Compute the perplexity: exp of the mean cross-entropy in nats over all tokens but the first of each block.

    It is a perplexity per token of the model's tokenizer: only models that share a tokenizer can be compared.

    Args:
        model: A language model.
        blocks: Token ids (n, context).

    Returns:
        The perplexity, 1 or more.
    """
    losses = torch.cat([token_losses(model, batch).double() for batch in batches_of(blocks)])
    return float(losses.mean().exp())


def prunable(model: Any) -> dict[str, Tensor]:
    """Collect the weights of the linear layers in the transformer's blocks.

    Args:
        model: A language model.

    Returns:
        The weights by name, in the model's order: (inputs, outputs) of GPT-2's own layers, else (outputs, inputs).

    Raises:
        UserError: A weight is not a finite number.
    """
    return prunable_weights(model, model.config.vocab_size)


def token_losses(model: Any, blocks: Tensor) -> Tensor:
    """Compute the cross-entropy of every predicted token.

    Args:
        model: A language model.
        blocks: Token ids (n, context).

    Returns:
        Losses (n, context - 1) in nats.
    """
    blocks = blocks.to(model.device)
    logits = model(blocks[:, :-1], use_cache=False).logits.float()
    losses = functional.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten(), reduction="none")
    return losses.view(len(blocks), -1)


def batches_of(blocks: Tensor) -> tuple[Tensor, ...]:
    """Divide blocks into batches.

    Args:
        blocks: Token ids (n, context).

    Returns:
        Batches of at most `TOKENS` tokens each, but of one block at least.
    """
    return torch.split(blocks, max(1, TOKENS // blocks.shape[1]))


def _pretrained(folder: Path, spec: PretrainedSpec, texts: dict[str, str], digest: str, seed: int) -> LanguageModel:
    model, tokenizer, _ = language_model(spec.checkpoint)
    start = texts["train"][: CHARACTERS * CALIBRATION_BLOCKS * spec.context]
    calibration = token_blocks(start, tokenizer, spec.context)[:CALIBRATION_BLOCKS]
    blocks = token_blocks(texts["validation"], tokenizer, spec.context)
    inputs = {spec.corpus: digest, spec.checkpoint: weights_hash(spec.checkpoint)}
    key = key_of([], spec.model_dump_json(), inputs)
    with alone(folder):
        kept_folder(folder, key, lambda _: {"inputs": inputs}, "trained.json")
    model.to(DEVICE)
    return LanguageModel(folder.name, spec, model, blocks, calibration, folder, key["inputs"], seed)


def _train_into(folder: Path, spec: LanguageSpec, texts: dict[str, str], fingerprint: str, seed: int) -> dict[str, Any]:
    name = folder.name
    ends = [word.end() for word in finditer(r"\S+", texts["train"])][: spec.train_words]
    texts = texts | {"train": texts["train"][: ends[-1]]}
    tokenizer = _train_tokenizer(texts["train"], spec.vocabulary)
    blocks = {split: _blocks(tokenizer, text, spec, split) for split, text in texts.items()}
    model = _built(spec, tokenizer.get_vocab_size(), seed, name).to(DEVICE)
    _train(model, blocks["train"], spec, seed, name)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(blocks | {"train": blocks["train"][:CALIBRATION_BLOCKS].clone()}, folder / "blocks.safetensors")
    note(f"{name}: trained")
    return {"inputs": {spec.corpus: fingerprint}}


def _train_tokenizer(text: str, vocabulary: int) -> Tokenizer:
    """Byte-level pair encoding learnt from the lines of a text; every byte is a token, so no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def _blocks(tokenizer: Tokenizer, text: str, spec: LanguageSpec, split: str) -> Tensor:
    """The text as blocks of token ids (n, context); the last, incomplete one is dropped."""
    ids = [token for line in text.splitlines(keepends=True) for token in tokenizer.encode(line).ids]
    count = len(ids) // spec.context
    if not count:
        size = f"{len(ids)} tokens are less than one block of {spec.context}"
        raise UserError(f"corpus {spec.corpus!r}, split {split}: its {size}")
    return torch.tensor(ids[: count * spec.context]).view(count, spec.context)


def _built(spec: LanguageSpec, vocabulary: int, seed: int, name: str) -> Any:
    seed_everything(seed, "build", name)
    sizes = {"n_layer": spec.layers, "n_embd": spec.hidden, "n_head": spec.heads, "n_positions": spec.context}
    no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0, "bos_token_id": None, "eos_token_id": None}
    kernels = {"activation_function": "gelu_pytorch_tanh", "attn_implementation": ATTENTION}  # GPT-2's, in one kernel
    settings: dict[str, Any] = {**sizes, **no_dropout, **kernels}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **settings))


def _train(model: Any, blocks: Tensor, spec: LanguageSpec, seed: int, name: str) -> None:
    """Train in place with AdamW, a linear schedule, a tenth of warm-up, and gradients clipped to norm 1."""
    generator = seed_everything(seed, "train", name)
    passes = np.concatenate([generator.permutation(len(blocks)) for _ in range(math.ceil(spec.epochs))])
    order = torch.from_numpy(passes[: max(1, round(spec.epochs * len(blocks)))])
    steps = torch.split(order, spec.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), spec.learning_rate)
    schedule = get_scheduler("linear", optimizer, len(steps) // 10, len(steps))
    for rows in track(steps, f"training {name}"):
        with torch.autocast(model.device.type, torch.bfloat16, enabled=spec.bfloat16):
            loss = token_losses(model, blocks[rows]).mean()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
