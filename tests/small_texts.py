"""Checkpoints of small text classifiers with random weights, and what plain torch answers to each text alone."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prunecast.datasets.tasks import Split, Task

import tokenizers  # isort: skip  # after prunecast, which lets torchvision load
import transformers  # isort: skip

WORDS = tuple(f"w{number}" for number in range(200))
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>")
PAD, CLS, SEP, EOS = 0, 2, 3, 4
TOKENS = len(MARKS) + len(WORDS)
SIZES: dict[str, Any] = {
    "vocab_size": TOKENS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 160,
    "pad_token_id": PAD,
    "initializer_range": 0.2,
}


def tokenizer(template: str = "[CLS] $A [SEP]", **settings: Any) -> Any:
    """A tokenizer of one token a word, in whose texts `template` adds marks; without `pad_token` it has none."""
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: at for at, word in enumerate(MARKS + WORDS)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    marks = [(mark, MARKS.index(mark)) for mark in ("[CLS]", "[SEP]", "</s>")]
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single=template, pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names | settings)


def texts(count: int, low: int = 3, high: int = 14, seed: int = 0) -> list[str]:
    """Texts of random words, `low` to `high` in each."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(low, high))) for _ in range(count)]


@torch.inference_mode()
def alone(model: Any, its_tokenizer: Any, lines: Sequence[Any], **options: Any) -> torch.Tensor:
    """Logits (n, classes) of each text, or pair of texts, by itself and without padding."""
    rows = []
    for line in lines:
        parts = line if isinstance(line, tuple) else (line,)
        encoded = its_tokenizer(*parts, return_tensors="pt", truncation=True, **options)
        encoded.pop("attention_mask")
        rows.append(model.eval()(**encoded)["logits"][0])
    return torch.stack(rows)


def spread(model: Any, head: Any, its_tokenizer: Any, lines: Sequence[Any], **options: Any) -> None:
    """Set the output layer so that all classes are answered, far apart from each other."""
    torch.manual_seed(1)
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2)[-1]))
    alone(model, its_tokenizer, lines, **options)
    hook.remove()
    inputs = torch.stack(seen)
    with torch.no_grad():
        centred = inputs - inputs.mean(0)
        directions = torch.linalg.svd(centred, full_matrices=False)[2][: head.weight.shape[0]]
        head.weight.copy_(directions * 5)
        if head.bias is not None:
            head.bias.copy_(-head.weight @ inputs.mean(0))


def task_of(lines: Sequence[Any], labels: Any, names: Sequence[str] = ("0", "1", "2"), name: str = "answers") -> Task:
    """A task of these texts and labels, with no examples to train on but the first."""
    split = Split(list(lines), np.asarray(labels, dtype=np.int64))
    return Task(name, "text", "folder", tuple(names), split.first(1), split)


def saved(folder: Path, model: Any, its_tokenizer: Any) -> str:
    """Save as a library does, and return the path."""
    model.save_pretrained(folder)
    its_tokenizer.save_pretrained(folder)
    return str(folder)


def bert(classes: int = 3, **settings: Any) -> Any:
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(**SIZES | {"num_labels": classes} | settings)
    ).eval()
