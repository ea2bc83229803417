from collections.abc import Callable
from typing import Any

import pytest
import torch
from prunecast.errors import UserError
from prunecast.models.prunable import left_out, prunable_weights, unused
from small_texts import SIZES, TOKENS, bert
from torch import nn
from torch.nn.utils import parametrizations, prune

import transformers  # isort: skip

MIXTURE = SIZES | {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "num_labels": 2}
XLNET = {"vocab_size": TOKENS, "d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 48, "num_labels": 2}
FUNNEL = {"vocab_size": TOKENS, "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        torch.nn.utils.weight_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    ],
    ids=["weight_norm", "spectral_norm", "weight_norm of old", "prune"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_is_computed_from_others_is_refused(wrap: Callable[[nn.Module], nn.Module]) -> None:
    net = nn.Sequential(wrap(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 2))
    with pytest.raises(UserError, match="layer 0 computes its weight from other parameters"):
        prunable_weights(net, 2)


def test_tied_layers_count_once_and_tied_embeddings_never() -> None:
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    net[1].weight = net[0].weight
    assert list(prunable_weights(net, 2)) == ["0.weight"]
    net[1].weight = nn.Parameter(net[0].weight.detach())  # another parameter over the same storage
    assert list(prunable_weights(net, 2)) == ["0.weight"]
    embedding = nn.Embedding(16, 16)
    net[1].weight = embedding.weight
    both = nn.Sequential(net, embedding)
    assert list(prunable_weights(both, 2)) == ["0.0.weight"]


@pytest.mark.parametrize(
    ("model", "pruned", "left"),
    [
        (
            lambda: transformers.MixtralForSequenceClassification(transformers.MixtralConfig(**MIXTURE)),
            "experts.gate_up_proj",
            "gate.weight",
        ),
        (lambda: transformers.XLNetForSequenceClassification(transformers.XLNetConfig(**XLNET)), "rel_attn.r", ""),
        (lambda: transformers.FunnelForSequenceClassification(transformers.FunnelConfig(**FUNNEL)), "r_kernel", ""),
        (
            lambda: transformers.IBertForSequenceClassification(transformers.IBertConfig(**SIZES, num_labels=2)),
            "attention.self.query.weight",
            "",
        ),
    ],
    ids=["experts", "relative attention", "relative kernels", "layers of its own"],
)
def test_matrices_outside_linear_layers_are_pruned_or_counted(model: Callable[[], Any], pruned: str, left: str) -> None:
    torch.manual_seed(0)
    built = model().eval()
    weights = prunable_weights(built, 2)
    assert any(name.endswith(pruned) for name in weights)
    assert not [name for name in weights if "embed" in name or "bias" in name or "norm" in name.lower()]
    absent, total, largest = left_out(built, weights, 2)
    assert total == absent + sum(weight.numel() for weight in weights.values())
    assert (absent == 0) == (left == "")
    assert largest.endswith(left)
    inputs = {"input_ids": torch.arange(10, 30).view(2, 10)}
    with torch.inference_mode():
        before = built(**inputs).logits
        for name, weight in weights.items():
            if name.endswith(pruned):
                weight.zero_()
        assert not torch.equal(before, built(**inputs).logits)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Reformer", {"axial_pos_shape": [4, 4], "axial_pos_embds_dim": [16, 16], "hidden_size": 32}),
        ("GPT2", {"n_embd": 32, "n_layer": 1, "n_head": 4}),
    ],
)
def test_tables_of_embeddings_are_neither_pruned_nor_counted(name: str, settings: dict[str, Any]) -> None:
    config = getattr(transformers, f"{name}Config")(vocab_size=TOKENS, num_labels=2, **settings)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    weights = prunable_weights(model, 2)
    assert not [key for key in weights if "embed" in key or "wte" in key or "wpe" in key]
    assert left_out(model, weights, 2)[0] == 0


def test_a_plain_transformer_leaves_nothing_out() -> None:
    model = bert()
    weights = prunable_weights(model, 3)
    assert left_out(model, weights, 3) == (0, sum(weight.numel() for weight in weights.values()), "")


def test_the_output_layer_is_found_wherever_it_is() -> None:
    wide = bert(32)  # as many classes as its layers have outputs
    assert [name for name in prunable_weights(wide, 32) if "bert." not in name] == []
    assert len(prunable_weights(wide, 32)) == 2 * 6 + 1
    images = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 7, 1), nn.Flatten())
    assert list(prunable_weights(images, 7)) == ["0.weight"]
    config = transformers.DeiTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    config.num_labels = 3
    teacher = transformers.DeiTForImageClassificationWithTeacher(config)
    assert not [name for name in prunable_weights(teacher, 3) if "classifier" in name]
    with pytest.raises(UserError, match="Sequential has no output layer of 6 classes"):
        prunable_weights(images, 6)
    assert list(prunable_weights(images, 0)) == ["0.weight", "2.weight"]


def test_weights_that_no_answer_depends_on_are_named() -> None:
    model = bert()
    model.bert.tower = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    inputs = {"input_ids": torch.arange(10, 20)[None]}
    weights = prunable_weights(model, 3)
    assert unused(model, weights, inputs) == ["bert.tower.0.weight", "bert.tower.1.weight"]
    del model.bert.tower
    assert unused(model, prunable_weights(model, 3), inputs) == []
    assert all(weight.grad is None for weight in model.parameters())
    for weight in model.parameters():
        weight.requires_grad_(False)
    assert unused(model, prunable_weights(model, 3), inputs) == []
