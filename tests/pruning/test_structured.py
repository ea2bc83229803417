import json
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from prunecast.errors import UserError
from prunecast.loading import storage
from prunecast.models import zoo
from prunecast.networks import vision
from prunecast.networks.vision import ImageClassifier
from prunecast.pruning.structured import ATTENTION, FAMILIES, FEED_FORWARD, Importance, Removal, load_removed, remove
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg
from transformers import AutoConfig, AutoModelForSequenceClassification

Inputs = dict[str, Tensor]
Parts = tuple[float, float, int, Importance]
TEXT = {
    "input_ids": torch.arange(60).view(4, 15) % 23 + 4,
    "attention_mask": (torch.arange(15) < torch.tensor([[15], [9], [12], [4]])).long(),
}
LABELS = torch.tensor([0, 1, 2, 0])
VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
HEADED = [family for family in FAMILIES if family != "mpnet"]
NARROWER = 8  # times than a VGG16 is the one of most tests, with the same layers
TEXT_MODELS: Any = AutoModelForSequenceClassification  # has no types


@pytest.fixture
def narrow_vgg16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architectures vgg16 and vgg16_bn with an eighth of the channels of every layer."""

    def narrow(norm: bool, classes: int, _: Sequence[int]) -> nn.Module:
        plan = [width if width == "M" else int(width) // NARROWER for width in vgg.cfgs["D"]]
        classifier = nn.Linear(VGG16[-1] // NARROWER, classes)
        return nn.Sequential(vgg.make_layers(plan, norm), nn.Flatten(), classifier)

    for name, norm in (("vgg16", False), ("vgg16_bn", True)):
        monkeypatch.setitem(vision.VISION_ARCHITECTURES, name, partial(narrow, norm))


def _text_model(architecture: str, layers: int = 2) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=40,
        num_labels=3,
        max_position_embeddings=32,
        pad_token_id=0,
        initializer_range=0.2,
        **zoo._sizes(zoo.ModelSpec(task="colours", architecture=architecture, layers=layers, hidden=32, heads=4)),
    )
    return TEXT_MODELS.from_config(config)


def _image_model(architecture: str) -> tuple[ImageClassifier, Inputs]:
    torch.manual_seed(0)
    model = ImageClassifier(architecture, 3, (3, 32, 32))
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 1 and not name.endswith("var"):
            tensor.uniform_(0.5, 1.5)  # as after training no two biases or means are the same
    return model.eval(), {"pixel_values": torch.randn(4, 3, 32, 32)}


def _logits(model: nn.Module, inputs: Inputs = TEXT) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(**inputs)["logits"]
    return logits


def _shapes(model: nn.Module, ending: str | Sequence[str]) -> list[tuple[int, ...]]:
    endings = (ending,) if isinstance(ending, str) else tuple(ending)
    layers = [module for name, module in model.named_modules() if name.endswith(endings)]
    return [tuple(layer.weight.shape) for layer in layers if isinstance(layer.weight, Tensor)]


def _without_the_least(model: nn.Module, importance: Importance, heads: int, neurons: int) -> nn.Module:
    """A dense copy of a text model in which nothing reads the least important heads and neurons, scored by hand."""
    copy = deepcopy(model).eval()
    torch.autograd.backward(functional.cross_entropy(copy(**TEXT)["logits"], LABELS))

    def parts(linear: nn.Linear) -> Tensor:
        weight, gradient = linear.weight.detach(), linear.weight.grad
        assert gradient is not None
        return weight**2 if importance == "magnitude" else (weight * gradient).abs()

    for layer in next(module for module in copy.modules() if isinstance(module, nn.ModuleList)):
        linear = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        *attention, out, up, down = linear.values()
        assert not heads or all(f".{name}".endswith(ATTENTION) for name in list(linear)[:3])
        by_row = torch.stack([parts(module).sum(1) for module in attention]).sum(0) + parts(out).sum(0)
        least = by_row.view(4, 8).sum(1).argsort()[:heads]
        by_neuron = parts(up).sum(1) + parts(down).sum(0)
        with torch.no_grad():
            out.weight.view(32, 4, 8)[:, least] = 0
            down.weight[:, by_neuron.argsort()[:neurons]] = 0
    return copy


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("architecture", HEADED)
def test_the_least_important_heads_and_neurons_are_removed_and_nothing_else(
    architecture: str, importance: Importance
) -> None:
    model = _text_model(architecture)
    before = deepcopy(model.state_dict())
    smaller = remove(model, Removal(0.5, 0.25, 0, importance), TEXT, LABELS)
    assert _shapes(smaller, ATTENTION) == [(16, 32)] * 6
    assert _shapes(smaller, FEED_FORWARD) == [(96, 32)] * 2
    expected = _without_the_least(model, importance, heads=2, neurons=32)
    torch.testing.assert_close(_logits(smaller), _logits(expected), atol=1e-5, rtol=0)
    assert not torch.allclose(_logits(smaller), _logits(model.eval()), atol=1e-3)
    assert not smaller.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(weight.grad is None for weight in (*model.parameters(), *smaller.parameters()))


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_an_mpnet_loses_neurons_and_no_heads(importance: Importance) -> None:
    model = _text_model("mpnet")
    smaller = remove(model, Removal(0, 0.25, 0, importance), TEXT, LABELS)
    assert _shapes(smaller, FEED_FORWARD) == [(96, 32)] * 2
    expected = _without_the_least(model, importance, heads=0, neurons=32)
    torch.testing.assert_close(_logits(smaller), _logits(expected), atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="no heads can be removed from an mpnet"):
        remove(model, Removal(0.5, 0.25, 0, importance), TEXT, LABELS)


@pytest.mark.parametrize(
    ("heads", "neurons", "remaining"), [(0, 0.1, (4, 115)), (0.3, 0, (3, 128)), (0.99, 0.999, (1, 1))]
)
def test_shares_are_rounded_and_one_always_stays(heads: float, neurons: float, remaining: tuple[int, int]) -> None:
    smaller = remove(_text_model("bert", layers=1), Removal(heads, neurons, 0, "magnitude"), TEXT, None)
    assert _shapes(smaller, ATTENTION) == [(8 * remaining[0], 32)] * 3
    assert _shapes(smaller, FEED_FORWARD) == [(remaining[1], 32)]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_layer_that_changes_nothing_is_removed_first(architecture: str) -> None:
    model = _text_model(architecture, layers=3).eval()
    layers = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    *_, out, _, down = (module for module in layers[1].modules() if isinstance(module, nn.Linear))
    for linear in (out, down):  # the rest of the layer is the norm of values that are normed already
        linear.weight.data.zero_()
        linear.bias.data.zero_()
    smaller: Any = remove(model, Removal(0, 0, 1, "magnitude"), TEXT, None)
    torch.testing.assert_close(_logits(smaller), _logits(model), atol=1e-4, rtol=0)
    assert smaller.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == len(layers) == 3


def test_layers_are_removed_one_by_one_each_time_the_least_important() -> None:
    model = _text_model("bert", layers=4).eval()
    dense, remaining = _logits(model).log_softmax(-1), list(range(4))

    def without(removed: int | None) -> Any:
        copy = deepcopy(model)
        layers = copy.bert.encoder.layer
        copy.bert.encoder.layer = nn.ModuleList(layers[index] for index in remaining if index != removed)
        return copy

    def change(removed: int) -> float:
        shallower = _logits(without(removed)).log_softmax(-1)
        return float((dense.exp() * (dense - shallower)).sum(-1).mean())

    for _ in range(2):
        remaining.remove(min(remaining, key=change))
    smaller: Any = remove(model, Removal(0, 0, 2, "magnitude"), TEXT, None)
    assert torch.equal(_logits(smaller), _logits(without(None)))
    assert [layer.attention.self.layer_idx for layer in smaller.bert.encoder.layer] == [0, 1]


def _without_the_removed(dense: nn.Module, smaller: nn.Module) -> nn.Module:
    """A copy of an image model with zeros for the channels whose mean or bias the smaller model does not have."""
    copy = deepcopy(dense)
    layer: Any
    with torch.no_grad():
        for layer, remaining in zip(copy.modules(), smaller.modules(), strict=True):
            mark = "running_mean" if isinstance(layer, nn.BatchNorm2d) else "bias"
            if isinstance(getattr(layer, mark, None), Tensor):
                removed = ~torch.isin(getattr(layer, mark), getattr(remaining, mark))
                layer.weight[removed] = 0
                layer.bias[removed] = 0
    return copy


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("architecture", ["vgg16", "vgg16_bn", "preresnet20", "fc5"])
def test_an_image_network_loses_channels_and_the_weights_that_belong_to_them(
    architecture: str, importance: Importance
) -> None:
    model, inputs = _image_model(architecture)
    smaller = remove(model, Removal(0, 0.25, 0, importance), inputs, LABELS)
    remaining: Any
    for module, remaining in zip(model.modules(), smaller.modules(), strict=True):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            rows = len(module.weight)
            assert len(remaining.weight) == (rows if rows == 3 else 3 * rows // 4)
    expected = _logits(_without_the_removed(model, smaller), inputs)
    torch.testing.assert_close(_logits(smaller, inputs), expected, atol=1e-5, rtol=1e-4)


def test_the_channels_of_a_vgg16_are_counted_exactly() -> None:
    model, inputs = _image_model("vgg16_bn")
    smaller: Any = remove(model, Removal(0, 0.3, 0, "magnitude"), inputs, None)
    left = [width - round(0.3 * width) for width in VGG16]
    convolutions = [module for module in smaller.modules() if isinstance(module, nn.Conv2d)]
    assert [(module.out_channels, module.in_channels) for module in convolutions] == list(
        zip(left, [3, *left], strict=False)
    )
    assert [m.num_features for m in smaller.modules() if isinstance(m, nn.BatchNorm2d)] == left
    assert smaller.network.classifier.weight.shape == (3, left[-1])


@pytest.mark.parametrize("architecture", HEADED)
def test_a_smaller_text_model_is_loaded_with_the_same_logits(architecture: str, tmp_path: Path) -> None:
    model = _text_model(architecture)
    smaller = remove(model, Removal(0.5, 0.25, 1, "magnitude"), TEXT, None)
    storage.save(smaller, None, tmp_path / "removed")
    again = load_removed(tmp_path / "removed")
    assert torch.equal(_logits(again), _logits(smaller))
    assert not again.training
    assert [module.out_features for module in again.modules() if isinstance(module, nn.Linear)] == [
        len(module.weight) for module in smaller.modules() if isinstance(module, nn.Linear)
    ]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_model_with_all_its_heads_is_read_by_transformers_alone(architecture: str, tmp_path: Path) -> None:
    smaller = remove(_text_model(architecture), Removal(0, 0.25, 1, "magnitude"), TEXT, None)
    storage.save(smaller, None, tmp_path / "removed")
    again = TEXT_MODELS.from_pretrained(tmp_path / "removed").eval()
    assert torch.equal(_logits(again), _logits(smaller))


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize("architecture", ["vgg16_bn", "preresnet20", "fc5"])
def test_a_smaller_image_model_is_loaded_with_the_same_logits(architecture: str, tmp_path: Path) -> None:
    model, inputs = _image_model(architecture)
    smaller = remove(model, Removal(0, 0.25, 0, "magnitude"), inputs, None)
    storage.save(smaller, None, tmp_path / "removed")
    again = load_removed(tmp_path / "removed")
    assert torch.equal(_logits(again, inputs), _logits(smaller, inputs))
    assert not again.training


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((1, 0, 0, "magnitude"), "heads is 1, but the share to remove is at least 0 and below 1"),
        ((0, -0.1, 0, "magnitude"), "neurons is -0.1"),
        ((0, float("nan"), 0, "magnitude"), "neurons is nan"),
        ((0, 0, -1, "magnitude"), "layers is -1"),
        ((0, 0, 0, "luck"), "there is no importance 'luck'; there are magnitude, taylor"),
        ((0, 0.5, 0, "magnitude", 0), "multiple is 0, but widths are multiples of 1 or more"),
    ],
)
def test_an_invalid_removal_is_refused(parts: Parts, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Removal(*parts)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "deberta-v2", "albert", "convbert"])
def test_a_family_whose_parts_are_not_known_is_refused_by_its_name(architecture: str) -> None:
    with pytest.raises(UserError, match=f"no parts can be removed from a {architecture}, only from bert"):
        remove(_text_model(architecture), Removal(0, 0.5, 0, "magnitude"), TEXT, None)


def test_more_than_there_is_cannot_be_removed() -> None:
    model, (image, inputs) = _text_model("bert"), _image_model("fc5")
    with pytest.raises(UserError, match="2 layers cannot be removed from 2, of which one must stay"):
        remove(model, Removal(0, 0, 2, "magnitude"), TEXT, None)
    with pytest.raises(UserError, match="taylor needs the labels"):
        remove(model, Removal(0.5, 0, 0, "taylor"), TEXT, None)
    for removal in (Removal(0.5, 0, 0, "magnitude"), Removal(0, 0, 1, "magnitude")):
        with pytest.raises(UserError, match="fc5 has no attention"):
            remove(image, removal, inputs, None)
    splines, images = _image_model("kan")
    with pytest.raises(UserError, match="kan has neither linear nor convolution layers"):
        remove(splines, Removal(0, 0.5, 0, "magnitude"), images, None)


def test_a_folder_that_is_no_smaller_model_is_refused(tmp_path: Path) -> None:
    model, _ = _image_model("fc5")
    storage.save(model, None, tmp_path / "removed")
    config = tmp_path / "removed" / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"architecture": "fc2"}))
    with pytest.raises(UserError, match="its weights are not those that its config.json describes"):
        load_removed(tmp_path / "removed")
    config.unlink()
    with pytest.raises(UserError, match="no config.json"):
        load_removed(tmp_path / "removed")
    (tmp_path / "removed" / "model.safetensors").rename(tmp_path / "removed" / "model.pt")
    with pytest.raises(UserError, match="which is a pickle"):
        load_removed(tmp_path / "removed")


@pytest.mark.parametrize(
    ("neurons", "multiple", "left"), [(0.3, 16, 96), (0.3, 8, 96), (0.25, 16, 96), (0.99, 8, 8), (0.01, 48, 128)]
)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_neurons_that_stay_are_rounded_up_to_a_multiple_and_heads_are_not(
    architecture: str, neurons: float, multiple: int, left: int
) -> None:
    """Of 128 neurons; the model computes what the dense one does with as many neurons zero."""
    model = _text_model(architecture)
    heads = 0.0 if architecture == "mpnet" else 0.5
    smaller: Any = remove(model, Removal(heads, neurons, 0, "magnitude", multiple), TEXT, None)
    assert _shapes(smaller, FEED_FORWARD) == [(left, 32)] * 2
    assert _shapes(smaller, ATTENTION) == [(16, 32)] * 6 or architecture == "mpnet"
    expected = _without_the_least(model, "magnitude", 2 if heads else 0, 128 - left)
    torch.testing.assert_close(_logits(smaller), _logits(expected), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize("architecture", ["vgg16_bn", "preresnet20"])
def test_channels_that_stay_are_rounded_up_to_a_multiple(architecture: str) -> None:
    model, inputs = _image_model(architecture)
    smaller = remove(model, Removal(0, 0.3, 0, "magnitude", 8), inputs, None)
    for module, remaining in zip(model.modules(), smaller.modules(), strict=True):
        if isinstance(module, nn.Conv2d) and isinstance(remaining, nn.Conv2d):
            rounded = -(-(module.out_channels - round(0.3 * module.out_channels)) // 8) * 8
            assert remaining.out_channels == min(rounded, module.out_channels)
    expected = _logits(_without_the_removed(model, smaller), inputs)
    torch.testing.assert_close(_logits(smaller, inputs), expected, atol=1e-5, rtol=1e-4)


def test_a_model_of_rounded_width_is_loaded_with_the_same_logits(tmp_path: Path) -> None:
    smaller = remove(_text_model("bert"), Removal(0, 0.3, 0, "magnitude", 16), TEXT, None)
    storage.save(smaller, None, tmp_path / "removed")
    again = TEXT_MODELS.from_pretrained(tmp_path / "removed").eval()
    assert again.config.intermediate_size == 96
    assert torch.equal(_logits(again), _logits(smaller))


def test_a_removal_without_a_multiple_is_named_as_before() -> None:
    assert str(Removal(0.5, 0.25, 1, "taylor")) == "heads 0.5, neurons 0.25, layers 1, by taylor"
    assert str(Removal(0, 0.25, 0, "taylor", 8)).endswith("neurons 0.25, layers 0, by taylor, in multiples of 8")
