import itertools
from typing import Any

import numpy as np
import pytest
import small_texts
import torch
from prunecast.edge_surrogates.gate_scores import gate_hessian
from prunecast.errors import UserError
from prunecast.graph.blocks import ResidualChain, TransformerBlocks, removed
from prunecast.models.inputs import Examples, prepare
from prunecast.models.transformer_blocks import find_blocks, projections_of
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    projection: Any = projections_of(model, list(find_blocks(model)[2]))[1]
    columns = slice(projection.weight.shape[1] // 2, None)
    with torch.no_grad():
        if isinstance(projection, torch.nn.Linear):
            projection.weight[:, columns] = 0
        else:
            projection.weight[projection.weight.shape[0] // 2 :] = 0
    np.testing.assert_allclose(plain_losses(model, data).mean(), output[0], rtol=1e-5)


def test_masks_share_what_comes_before_the_first_block_in_which_they_differ(tokens):
    model = language_model("gpt2")
    network = TransformerBlocks(model, tokens)
    ran: list[int] = []
    for place, block in enumerate(model.transformer.h):
        block.mlp.register_forward_hook(lambda *_, place=place: ran.append(place))
    found = network.losses(np.vstack([ALL, ALL[::-1]]))
    assert [ran.count(place) for place in range(DEPTH)] == [1, 2, 4]  # of 16 masks, eight of them different
    np.testing.assert_array_equal(found[:8], found[:7:-1])


def test_what_is_stored_does_not_grow_with_the_masks(tokens):
    model = language_model("llama")
    network = TransformerBlocks(model, tokens.repeat(20, 1), tokens=18)
    largest = 0

    def count(*_: Any) -> None:
        nonlocal largest
        states = network._gates._states
        largest = max(largest, sum(state.numel() for state in states))
        assert all(state.shape[:2] == (2, 8) for state in states)  # blocks of tokens that are evaluated at once

    model.lm_head.register_forward_hook(count)
    network.losses(ALL)
    assert largest == DEPTH * 2 * 8 * 16


@pytest.mark.parametrize("part", ["blocks", "heads"])
def test_gradients_and_second_derivatives_are_those_of_finite_differences(part, tokens):
    network = TransformerBlocks(language_model("gpt2"), tokens, part, tokens=18)
    edges = len(network.graph.edges)
    expansion = gate_hessian(network)
    step = 3e-2

    def loss(first: float, last: float) -> float:
        gates = torch.ones(1, edges)
        gates[0, 0] += first
        gates[0, -1] += last
        with torch.no_grad():
            return float(network.gated_losses(gates).double())

    assert expansion.loss == pytest.approx(loss(0, 0), rel=1e-5)
    assert expansion.scores[0] == pytest.approx((loss(-step, 0) - loss(step, 0)) / (2 * step), rel=2e-2, abs=1e-3)
    assert expansion.scores[-1] == pytest.approx((loss(0, -step) - loss(0, step)) / (2 * step), rel=2e-2, abs=1e-3)
    mixed = loss(step, step) - loss(step, -step) - loss(-step, step) + loss(-step, -step)
    assert expansion.interactions is not None
    assert expansion.interactions[0, -1] == pytest.approx(mixed / (4 * step**2), rel=5e-2, abs=2e-2)


def test_the_first_examples_are_evaluated_alone(texts):
    network = TransformerBlocks(classifier("bert"), texts)
    whole = network.evaluate(ALL)
    assert (network.examples, network.on(5).examples, network.on(99).examples) == (12, 5, 12)
    first = network.on(5).evaluate(ALL)
    np.testing.assert_allclose(first.loss, whole.loss[:, :5], rtol=1e-5)
    np.testing.assert_array_equal(first.correct, whole.correct[:, :5])


def test_a_chain_is_connected_whatever_is_removed():
    chain = ResidualChain(("a", "b", "c"), ((0, 1), (0, 1), (1, 2)), ("x", "y", "z"))
    masks = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0]])
    assert chain.names == ("x", "y", "z")
    assert chain.connected(masks).all()
    np.testing.assert_array_equal(chain.carrying(masks), masks)
    np.testing.assert_allclose(chain.flow(masks), [6, 2, 1])
    np.testing.assert_allclose(chain.flow(masks, [0.5, 0.25, 2]), [1.75 * 3, 1.25, 1])


def test_what_has_no_chain_of_blocks_is_refused_in_one_sentence(texts, tokens):
    albert = transformers.AlbertConfig(**SIZES | {"embedding_size": 16})
    swin = transformers.SwinConfig(image_size=16, patch_size=2, depths=[1, 1], num_heads=[1, 2], embed_dim=8)
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": small_texts.TOKENS}
    bart = transformers.BartConfig(**sizes, encoder_attention_heads=2, decoder_attention_heads=2)
    pixels = Examples(torch.randn(2, 3, 16, 16), None, torch.zeros(2, dtype=torch.long))
    for model, data, sentence in (
        (transformers.AlbertForSequenceClassification(albert), texts, "the blocks of albert are not found"),
        (ImageClassifier("preresnet8_4", 3, (3, 8, 8)), images(), "the blocks of preresnet8_4 are not found"),
        (transformers.SwinForImageClassification(swin), pixels, "block 0 cannot be left out: input and output have"),
        (transformers.BartForSequenceClassification(bart), texts, "is an encoder with a decoder"),
    ):
        with pytest.raises(UserError, match=sentence):
            TransformerBlocks(model.eval(), data)
    model = language_model("gpt2")
    network = TransformerBlocks(model, tokens)
    with pytest.raises(UserError, match=r"the graph has 3 edges, but the masks have the shape \(1, 2\)"):
        network.losses([[True, False]])
    with pytest.raises(UserError, match=r"there are 3 blocks, but the gates have the shape \(1, 4\)"):
        network.gated_losses(torch.ones(1, 4))
    with pytest.raises(UserError, match="there is no block 3; there are blocks 0 to 2"):
        removed(model, [3])
    with pytest.raises(UserError, match="3 blocks cannot be removed from 3, of which one must stay"):
        removed(model, [0, 1, 2])
    for block in model.transformer.h:
        block.attn.register_module("joins_heads", block.attn.c_proj)
        del block.attn.c_proj
    with pytest.raises(UserError, match="the heads of gpt2 are not found"):
        TransformerBlocks(model, tokens, "heads")


def test_lists_of_one_entry_a_block_follow(tokens):
    smaller: Any = removed(language_model("gemma3_text"), [0])
    assert smaller.config.layer_types == KINDS[1:]
    assert smaller.config.num_hidden_layers == 2
    assert [block.self_attn.layer_idx for block in smaller.model.layers] == [0, 1]
    assert smaller.generate(tokens[:1, :4], max_new_tokens=2, do_sample=False).shape == (1, 6)
