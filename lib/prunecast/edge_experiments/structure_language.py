"""Causal language models whose blocks are removed, evaluated by perplexity."""

import copy
import json
import math
import warnings
from typing import Any

import numpy as np
import torch
import torch_pruning
from torch import Tensor, nn

from prunecast import torchvision_compat as _before_transformers  # noqa: F401
from prunecast.cache import file_hash
from prunecast.datasets.corpora import load_corpus
from prunecast.edge_experiments.structure_cases import Case, Stage, local_checkpoint, with_blocks
from prunecast.errors import UserError
from prunecast.loading import folders
from prunecast.loading import language as loader
from prunecast.models import language, zoo
from prunecast.models.transformer_blocks import find_blocks
from prunecast.progress import track
from prunecast.pruning import structured
from prunecast.pruning.finetuning import Budget
from prunecast.seeding import seed_everything

from transformers import get_scheduler  # isort: skip

LANGUAGE_MODEL = ("ForCausalLM", "LMHeadModel")  # endings of the library's names of language models
FEED_FORWARD = (".up_proj", ".fc1", ".dense_h_to_4h")  # endings of the names of the layers whose outputs are neurons
AT_ONCE = 4  # blocks of tokens of a step of the training, whose gradients are added up
CHARACTERS = 12  # of a text that are read for each token, at most


def is_language_model(network: str) -> bool:
    """Whether a network is a checkpoint whose configuration names a causal language model."""
    folder = None if network in zoo.registry() else folders.local_folder(network)
    kinds = folders.config_of(folder).get("architectures") if folder else None
    return any(str(kind).endswith(LANGUAGE_MODEL) for kind in kinds or ())


def language_model(network: str, corpus: str, budget: Budget, calibration: int, evaluated: int, context: int) -> Case:
    """A causal language model to prune.

    Args:
        network: Folder of a checkpoint, or its name in `PRUNECAST_MODELS`.
        corpus: The text.
        budget: What it is trained on after pruning, where an example is a block of tokens, and in which precision.
        calibration: Number of blocks of the training text on which losses are measured and forecast.
        evaluated: Number of blocks of the validation text that give the perplexity.
        context: Tokens of a block, of which the first is the start token where the tokenizer has one.

    Returns:
        The case.

    Raises:
        UserError: There is no such checkpoint or text, the text is too short, or the blocks are not found.
    """
    dense, tokenizer, name = loader.language_model(network)
    dense.to(torch.bfloat16 if budget.bfloat16 else torch.float32)
    texts = load_corpus(corpus)
    train = _first_blocks(texts["train"], tokenizer, max(calibration, budget.examples), context)
    validation = _first_blocks(texts["validation"], tokenizer, evaluated, context)
    masked, labels, without = with_blocks(dense, train[:calibration])

    def perplexity(model: Any) -> float:
        return language.perplexity(model, validation)

    def thinner(share: float, importance: structured.Importance) -> nn.Module:
        return _narrower(dense, share, importance, train[:1])

    def trained(model: nn.Module, seed: int) -> nn.Module:
        return _train(model, train[: budget.examples], budget, seed)

    batch = {"input_ids": train[:1, :-1]}
    return Case(
        network=name.rpartition("/")[2],
        metric="perplexity",
        dense=dense,
        masked=masked,
        labels=labels,
        without=without,
        thinner=thinner,
        stages={
            "zero_shot": Stage(corpus, lambda model, _: model, perplexity),
            "fine_tuned": Stage(corpus, trained, perplexity),
        },
        one=batch,
        batch=batch,
        fingerprint=(
            *(file_hash(path) for path in sorted(local_checkpoint(network).glob("*.safetensors"))),
            json.dumps(texts),
            budget.model_dump_json(),
            f"{calibration} {evaluated} {context}",
        ),
    )


def _first_blocks(text: str, tokenizer: Any, count: int, context: int) -> Tensor:
    """The first blocks of token ids (count, context) of a text."""
    blocks = loader.token_blocks(text[: CHARACTERS * count * context], tokenizer, context)
    if len(blocks) < count:
        raise UserError(f"the text has {len(blocks)} blocks of {context} tokens, fewer than {count}; take fewer")
    return blocks[:count]


def _narrower(dense: nn.Module, share: float, importance: structured.Importance, tokens: Tensor) -> nn.Module:
    """A language model without a share of the feed-forward neurons of each block."""
    model: Any = copy.deepcopy(dense).requires_grad_(True)
    if importance == "taylor":
        torch.autograd.backward(language.token_losses(model, tokens).mean())
    score: Any = {
        "magnitude": torch_pruning.importance.GroupMagnitudeImportance,
        "taylor": torch_pruning.importance.GroupTaylorImportance,
    }[importance](normalizer=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it found parameters of norms, which are not pruned
        graph = torch_pruning.DependencyGraph().build_dependency(
            model, {"input_ids": tokens[:, :2], "use_cache": False}
        )
    roots = [module for name, module in model.named_modules() if name.endswith(FEED_FORWARD)]
    if not roots or not all(isinstance(root, nn.Linear) for root in roots):
        raise UserError(f"the feed-forward layers of a {model.config.model_type} are not found")
    for root in roots:
        group = graph.get_pruning_group(root, torch_pruning.prune_linear_out_channels, list(range(root.out_features)))
        order = score(group).argsort(stable=True)[: round(share * root.out_features)]
        graph.get_pruning_group(root, torch_pruning.prune_linear_out_channels, order.tolist()).prune()
    model.zero_grad()
    narrower: nn.Module = model.eval()
    return narrower


def _train(model: nn.Module, blocks: Tensor, budget: Budget, seed: int) -> nn.Module:
    """A copy whose blocks were trained with AdamW; the embeddings, and what is tied to them, stay."""
    tuned: Any = copy.deepcopy(model).float().requires_grad_(False)
    parameters = list(find_blocks(tuned)[2].requires_grad_(True).parameters())
    draws = seed_everything(seed, "train", "language model")
    order = np.concatenate([draws.permutation(len(blocks)) for _ in range(math.ceil(budget.epochs))])
    steps = torch.split(torch.from_numpy(order[: round(budget.epochs * len(blocks))]), budget.batch_size)
    optimizer = torch.optim.AdamW(parameters, budget.learning_rate)
    schedule = get_scheduler("linear", optimizer, len(steps) // 10, len(steps))
    for rows in track(steps, "training after pruning"):
        for part in rows.split(AT_ONCE):
            with torch.autocast("cpu", torch.bfloat16, enabled=budget.bfloat16):
                loss = language.token_losses(tuned, blocks[part]).sum() / blocks[rows, 1:].numel()
            torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    trained: nn.Module = tuned.to(next(model.parameters()).dtype).eval()
    return trained
