"""Which weights are pruned together, against units named by hand."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from prunecast.experiments import small_models
from prunecast.models.prunable import prunable_weights
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning.structured import Removal, remove
from prunecast.pruning.units import Unit, units_of
from torch import nn

import transformers  # isort: skip  # after prunecast, which lets torchvision load

TEXT = {"input_ids": torch.arange(8).view(1, 8) + 4}
BLOCKS = {  # modules of one block by unit: an attention, and a feed-forward network
    "BertForSequenceClassification": [
        ("attention", ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]),
        ("", ["intermediate.dense", "output.dense"]),
    ],
    "GPT2ForSequenceClassification": [("attn", ["attn.c_attn", "attn.c_proj"]), ("", ["mlp.c_fc", "mlp.c_proj"])],
    "LlamaForSequenceClassification": [
        ("self_attn", [f"self_attn.{part}_proj" for part in "qkvo"]),
        ("", ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
    ],
    "AlbertForSequenceClassification": [
        ("attention", [f"attention.{part}" for part in ("query", "key", "value", "dense")]),
        ("", ["ffn", "ffn_output"]),
    ],
}
PATHS = {"Bert": "bert.encoder.layer.", "GPT2": "transformer.h.", "Llama": "model.layers."}


def _text_units(classifier: str) -> list[Unit]:
    model = small_models.small_model(classifier, small_models.architectures("text")[classifier])
    return units_of(model, prunable_weights(model, model.config.num_labels), TEXT)


@pytest.mark.parametrize("classifier", BLOCKS)
def test_an_attention_is_a_unit_and_so_is_a_feed_forward_network(classifier: str) -> None:
    found = {unit.name: unit for unit in _text_units(classifier) if unit.kind != "layer"}
    path = PATHS.get(classifier.removesuffix("ForSequenceClassification"))
    blocks = (
        [f"{path}{place}" for place in (0, 1)] if path else ["albert.encoder.albert_layer_groups.0.albert_layers.0"]
    )
    expected = {}
    for block in blocks:
        for (inside, layers), kind in zip(BLOCKS[classifier], ("attention", "feed-forward"), strict=True):
            weights = {f"{block}.{layer}.weight" for layer in layers}
            expected[f"{block}.{inside}".removesuffix(".")] = (kind, weights)
    assert {name: (unit.kind, set(unit.weights)) for name, unit in found.items()} == expected


@pytest.mark.parametrize("kind", ["text", "image"])
def test_each_weight_is_in_one_unit(kind: Any) -> None:
    """Of architectures that differ in how their blocks are written."""
    some = ("T5", "XLNet", "Perceiver", "Mixtral", "FNet", "Funnel", "Reformer", "ViT", "Levit", "ResNet", "FocalNet")
    for classifier, architecture in small_models.architectures(kind).items():
        if not classifier.startswith(some) or "Teacher" in classifier:
            continue
        model = small_models.small_model(classifier, architecture)
        weights = prunable_weights(model, model.config.num_labels)
        side = getattr(model.config, "image_size", 32)
        units = units_of(model, weights, TEXT if kind == "text" else {"pixel_values": torch.randn(1, 3, side, side)})
        assert sorted(name for unit in units for name in unit.weights) == sorted(weights), classifier
        assert len({unit.name for unit in units}) == len(units), classifier
        for unit in units:
            assert unit.parameters == sum(weights[name].numel() for name in unit.weights)


def _image_units(architecture: str) -> tuple[ImageClassifier, dict[str, Unit]]:
    torch.manual_seed(0)
    model = ImageClassifier(architecture, 3, (3, 32, 32)).eval()
    units = units_of(model, prunable_weights(model, 3), {"pixel_values": torch.randn(1, 3, 32, 32)})
    return model, {unit.name: unit for unit in units}


def test_layers_joined_by_a_shortcut_are_a_unit() -> None:
    _, units = _image_units("preresnet8_16")
    joined = {name: unit.weights for name, unit in units.items() if unit.kind == "layers"}
    assert joined == {
        "network.0": ("network.0.weight", "network.1.convolution2.weight"),
        "network.2.convolution2": ("network.2.convolution2.weight", "network.2.shortcut.weight"),
        "network.3.convolution2": ("network.3.convolution2.weight", "network.3.shortcut.weight"),
    }
    assert {unit.weights for unit in units.values() if unit.kind == "layer"} == {
        (f"network.{block}.convolution1.weight",) for block in (1, 2, 3)
    }


def test_a_removal_of_channels_takes_away_as_many_weights_as_is_said() -> None:
    """Channels of one layer of a fully connected network removed by hand: its rows and the next layer's columns."""
    model, units = _image_units("fc5")
    layers: list[Any] = [module for module in model.network.modules() if isinstance(module, nn.Linear)]
    for unit, (layer, following) in zip(units.values(), pairwise(layers), strict=True):
        assert unit.parts == layer.out_features
        for ratio in (0.1, 0.5, 0.9):
            zeros = ratio * layer.weight.numel()
            removed = [count * (layer.in_features + following.out_features) for count in range(unit.parts)]
            differences = [abs(each - zeros) for each in removed]
            assert unit.parts_removed(ratio) == differences.index(min(differences))


def test_a_removal_of_heads_and_neurons_takes_the_same_share_of_the_weights() -> None:
    model = small_models.small_model("BertForSequenceClassification", "bert").eval()
    weights = prunable_weights(model, model.config.num_labels)
    units = units_of(model, weights, TEXT)
    smaller = remove(model, Removal(0.5, 0.5, 0, "magnitude"), TEXT, None)
    left = prunable_weights(smaller, model.config.num_labels)
    for unit in units:
        if unit.parts:
            assert unit.parts_removed(0.5) == unit.parts // 2
            assert sum(left[name].numel() for name in unit.weights) == unit.parameters // 2
    assert {unit.kind for unit in units if unit.parts} == {"attention", "feed-forward"}
    assert {unit.parts for unit in units if unit.kind == "attention"} == {model.config.num_attention_heads}


def test_units_that_share_a_weight_are_one() -> None:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_labels=3
    )
    model: Any = transformers.BertForSequenceClassification(config)
    layers = model.bert.encoder.layer
    layers[2].intermediate = layers[0].intermediate
    units = {unit.name: unit.weights for unit in units_of(model, prunable_weights(model, 3), TEXT)}
    assert units["bert.encoder.layer.0"] == tuple(
        f"bert.encoder.layer.{part}.dense.weight" for part in ("0.intermediate", "0.output", "2.output")
    )
    assert "bert.encoder.layer.2" not in units
    assert len(units["bert.encoder.layer.1"]) == 2
