from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from prunecast.cost.flops import flops, size
from prunecast.networks.vision import ImageClassifier
from small_bert import BATCH, CLASSES, INNER, TOKENS, WIDTH, bert, bert_flops, masked, sparse, texts
from torch import Tensor, nn
from transformers import GPT2Config, GPT2ForSequenceClassification


class Tied(nn.Module):
    """Two linear layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("scratch", torch.ones(100), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.second(self.first(x))
        return output


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_operations_of_a_transformer_are_those_counted_by_hand_attention_included(attention: str) -> None:
    assert flops(bert(attention), texts()) == (BATCH * bert_flops(),) * 2


def test_operations_of_gpt2_with_transposed_weights_are_those_counted_by_hand() -> None:
    sizes: dict[str, Any] = {"n_embd": WIDTH, "n_layer": 1, "n_head": 2, "n_positions": 16, "num_labels": CLASSES}
    tokens: dict[str, Any] = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    model: Any = GPT2ForSequenceClassification(GPT2Config(**sizes, **tokens))
    by_hand = 2 * (TOKENS * 12 * WIDTH * WIDTH + 2 * TOKENS * TOKENS * WIDTH + TOKENS * WIDTH * CLASSES)
    assert flops(model.eval(), texts()) == (BATCH * by_hand,) * 2


def test_operations_of_a_convolutional_net_are_those_counted_by_hand() -> None:
    model = ImageClassifier("preresnet20", 10, (3, 32, 32)).eval()
    images = {"pixel_values": torch.zeros(BATCH, 3, 32, 32)}
    large = 32 * 32 * 9 * (3 * 16 + 6 * 16 * 16)
    medium = 16 * 16 * (9 * (16 * 32 + 5 * 32 * 32) + 16 * 32)
    small = 8 * 8 * (9 * (32 * 64 + 5 * 64 * 64) + 32 * 64)
    by_hand = 2 * BATCH * (large + medium + small + 64 * 10)
    assert flops(model, images) == (by_hand, by_hand)
    network: Any = model.network
    with torch.no_grad():
        network[0].weight[:8] = 0
    assert flops(model, images) == (by_hand, by_hand - BATCH * 32 * 32 * 9 * 3 * 16)


def test_operations_of_grouped_and_transposed_convolutions_are_those_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 6, 2, stride=2))
    by_hand = 2 * (6 * 6 * 8 * 2 * 9 + 6 * 6 * 8 * 6 * 4)
    assert flops(model, {"input": torch.zeros(1, 4, 8, 8)}) == (by_hand, by_hand)


@pytest.mark.parametrize("form", [masked, lambda model: sparse(masked(model))])
def test_a_pruned_model_takes_the_dense_operations_and_effectively_those_of_its_nonzero_weights(
    form: Callable[[Any], Any],
) -> None:
    dense = BATCH * bert_flops()
    saved = BATCH * 2 * 2 * TOKENS * (WIDTH * INNER * 3 // 4)
    assert flops(form(bert()), texts()) == (dense, dense - saved)


def test_counting_operations_leaves_no_hook_and_no_setting_behind() -> None:
    model, before = bert(), torch.backends.mha.get_fastpath_enabled()
    flops(model, texts())
    with pytest.raises(ValueError, match="input_ids"):
        flops(model, {})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_a_masked_model_is_as_large_as_the_dense_one_except_for_its_zeros() -> None:
    dense, with_zeros = size(bert()), size(masked(bert()))
    assert dense["parameters"] == dense["parameters_nonzero"] == sum(p.numel() for p in bert().parameters())
    assert dense["size_bytes"] == len(safetensors.torch.save(bert().state_dict()))
    assert with_zeros == dense | {"parameters_nonzero": dense["parameters"] - 2 * WIDTH * INNER * 3 // 4}


def test_tied_parameters_count_once_and_buffers_that_are_not_saved_take_no_bytes() -> None:
    alone, tied = size(nn.Linear(8, 8, bias=False)), size(Tied())
    assert tied["parameters"] == 64
    assert tied["size_bytes"] == pytest.approx(alone["size_bytes"], abs=16)  # the name is longer


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_bsr])
def test_a_sparse_model_has_the_parameters_of_the_masked_one_and_the_bytes_of_its_values_and_indices(
    layout: torch.layout,
) -> None:
    model = sparse(masked(bert()), layout)
    dense_layers, sparse_layers = size(masked(bert())), size(model)
    assert {**sparse_layers, "size_bytes": 0} == {**dense_layers, "size_bytes": 0}
    weight = model.bert.encoder.layer[0].intermediate.dense.weight
    parts = (weight.values(), weight.crow_indices(), weight.col_indices())
    change = 2 * (sum(part.nbytes for part in parts) - 4 * WIDTH * INNER)
    names = sparse_layers["size_bytes"] - dense_layers["size_bytes"] - change
    assert 0 < names < 1000  # of four more tensors, in the file's header


def test_layers_without_any_nonzero_weight_have_a_size() -> None:
    empty = size(sparse(masked(bert(), share=1)))
    assert empty["parameters_nonzero"] == empty["parameters"] - 2 * WIDTH * INNER
