import itertools
from typing import Any

import numpy as np
import pytest
import small_texts
import torch
from prunecast.errors import UserError
from prunecast.graph.blocks import TransformerBlocks, removed
from prunecast.models.inputs import Examples, prepare
from prunecast.networks.vision import ImageClassifier

import transformers  # isort: skip  # after prunecast, which lets torchvision load

DEPTH = 3
SIZES: dict[str, Any] = {
    "vocab_size": small_texts.TOKENS,
    "hidden_size": 16,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.5,
    "pad_token_id": small_texts.PAD,
}
GPT2 = {"vocab_size": small_texts.TOKENS, "n_embd": 16, "n_layer": DEPTH, "n_head": 2, "n_positions": 40}
DISTILBERT = {"vocab_size": small_texts.TOKENS, "dim": 16, "n_layers": DEPTH, "n_heads": 2, "hidden_dim": 24}
KINDS = ["sliding_attention", "full_attention", "sliding_attention"]
GROUPED = {"num_key_value_heads": 1, "head_dim": 8, "bos_token_id": None, "eos_token_id": None}
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "electra": SIZES | {"embedding_size": 16},
    "roberta": SIZES | {"max_position_embeddings": 42},
    "mpnet": SIZES,
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
    "distilbert": DISTILBERT | {"initializer_range": 0.5, "pad_token_id": small_texts.PAD},
    "gpt2": GPT2 | {"initializer_range": 0.5, "pad_token_id": small_texts.PAD},
}
LANGUAGE: dict[str, dict[str, Any]] = {
    "gpt2": GPT2 | {"initializer_range": 0.5, "bos_token_id": None, "eos_token_id": None},
    "gemma3_text": SIZES | GROUPED | {"layer_types": KINDS, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "llama": SIZES | GROUPED,
}
ALL = np.array(list(itertools.product((False, True), repeat=DEPTH)))


def classifier(kind: str) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **CLASSIFIERS[kind], num_labels=3)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def language_model(kind: str) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **LANGUAGE[kind])
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def vit() -> Any:
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if name not in ("vocab_size", "pad_token_id")}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes)
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture(scope="module")
def texts() -> Examples:
    task = small_texts.task_of(small_texts.texts(12), np.arange(12) % 3)
    return prepare(task.validation, small_texts.tokenizer(pad_token="[PAD]"), 20)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(5, small_texts.TOKENS, (5, 9)))


def images() -> Examples:
    torch.manual_seed(1)
    return Examples(torch.randn(6, 3, 8, 8), None, torch.arange(6) % 3)


@torch.no_grad()
def plain_losses(model: Any, data: Any) -> torch.Tensor:
    """Loss of each example by itself, without padding, in plain torch."""
    losses = []
    for row in range(len(data)):
        if isinstance(data, torch.Tensor):
            logits = model(data[row : row + 1, :-1]).logits[0]
            losses.append(torch.nn.functional.cross_entropy(logits, data[row, 1:]))
            continue
        inputs = data.inputs[row : row + 1]
        if data.lengths is None:
            logits = model(pixel_values=inputs).logits
        else:
            logits = model(input_ids=inputs[:, : data.lengths[row]]).logits
        losses.append(torch.nn.functional.cross_entropy(logits, data.labels[row : row + 1]))
    return torch.stack(losses)


def models() -> list[Any]:
    return [
        *(pytest.param(classifier, kind, id=kind) for kind in CLASSIFIERS),
        *(pytest.param(language_model, kind, id=f"{kind} of language") for kind in LANGUAGE),
        pytest.param(lambda _: vit(), "vit", id="vit"),
    ]


def data_of(make: Any, kind: str, texts: Examples, tokens: torch.Tensor) -> Any:
    return images() if kind == "vit" else tokens if make is language_model else texts


@pytest.mark.parametrize(("make", "kind"), models())
def test_every_mask_of_blocks_is_the_model_without_them(make, kind, texts, tokens):
    model, data = make(kind), data_of(make, kind, texts, tokens)
    network = TransformerBlocks(model, data, tokens=24)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = network.evaluate(ALL).loss
    expected = [plain_losses(removed(model, np.flatnonzero(~mask)), data) for mask in ALL[1:]]
    np.testing.assert_allclose(found[1:], torch.stack(expected), rtol=1e-5, atol=1e-5)
    assert len({round(loss, 6) for loss in found.mean(1)}) == len(ALL)  # no two masks are the same network
    np.testing.assert_allclose(plain_losses(model, data), found[-1], rtol=1e-5, atol=1e-5)  # it is left as it was
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    gates = torch.from_numpy(ALL.astype(np.float32))
    np.testing.assert_allclose(network.gated_losses(gates).detach(), found.mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("make", "kind"), models())
def test_a_head_without_its_gate_is_one_whose_output_is_zero(make, kind, texts, tokens):
    model, data = make(kind), data_of(make, kind, texts, tokens)
    network = TransformerBlocks(model, data, "heads", tokens=24)
    masks = np.random.default_rng(0).random((6, 2 * DEPTH)) < 0.6
    masks[0] = True
    found = network.losses(masks)
    np.testing.assert_allclose(network.gated_losses(torch.from_numpy(masks).float()).detach(), found, rtol=1e-5)
    single = np.ones((1, 2 * DEPTH), bool)
    single[0, 3] = False  # the second head of the second block
    output = network.losses(single)
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear | transformers.Conv1D)]
    projection = next(layer for layer in layers if layer is network._gates._projections[1])
    columns = slice(projection.weight.shape[1] // 2, None)
    with torch.no_grad():
        if isinstance(projection, torch.nn.Linear):
            projection.weight[:, columns] = 0
        else:
            projection.weight[projection.weight.shape[0] // 2 :] = 0
    np.testing.assert_allclose(plain_losses(model, data).mean(), output[0], rtol=1e-5)
