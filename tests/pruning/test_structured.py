import json
from copy import deepcopy

import pytest
import torch
from prunecast.errors import UserError
from prunecast.models import zoo
from prunecast.models.vision import ImageClassifier
from prunecast.pruning.structured import ATTENTION, FAMILIES, FEED_FORWARD, Removal, load_removed, remove
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForSequenceClassification

TEXT = {
    "input_ids": torch.arange(60).view(4, 15) % 23 + 4,
    "attention_mask": (torch.arange(15) < torch.tensor([[15], [9], [12], [4]])).long(),
}
LABELS = torch.tensor([0, 1, 2, 0])
VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def _text_model(architecture, layers=2):
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
    return AutoModelForSequenceClassification.from_config(config)


def _image_model(architecture):
    torch.manual_seed(0)
    model = ImageClassifier(architecture, 3, (3, 32, 32))
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 1 and not name.endswith("var"):
            tensor.uniform_(0.5, 1.5)  # as after training no two biases or means are the same
    return model.eval(), {"pixel_values": torch.randn(4, 3, 32, 32)}


def _logits(model, inputs=TEXT):
    with torch.inference_mode():
        return model(**inputs)["logits"]


def _shapes(model, ending):
    return [tuple(module.weight.shape) for name, module in model.named_modules() if name.endswith(ending)]


def _without_the_least(model, importance, heads, neurons):
    """A dense copy of a text model in which nothing reads the least important heads and neurons, found by hand."""
    copy = deepcopy(model).eval()
    functional.cross_entropy(copy(**TEXT)["logits"], LABELS).backward()

    def parts(linear):
        return (linear.weight**2 if importance == "magnitude" else (linear.weight * linear.weight.grad).abs()).detach()

    for layer in next(module for module in copy.modules() if isinstance(module, nn.ModuleList)):
        linear = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        *attention, out, up, down = linear.values()
        assert all(f".{name}".endswith(ATTENTION) for name in list(linear)[:3])
        by_row = sum(parts(module).sum(1) for module in attention) + parts(out).sum(0)
        gone = by_row.view(4, 8).sum(1).argsort()[:heads]
        by_neuron = parts(up).sum(1) + parts(down).sum(0)
        with torch.no_grad():
            out.weight.view(32, 4, 8)[:, gone] = 0
            down.weight[:, by_neuron.argsort()[:neurons]] = 0
    return copy


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_least_important_heads_and_neurons_are_gone_and_nothing_else(architecture, importance):
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


@pytest.mark.parametrize(("heads", "neurons", "left"), [(0, 0.1, (4, 115)), (0.3, 0, (3, 128)), (0.99, 0.999, (1, 1))])
def test_shares_are_rounded_and_one_always_stays(heads, neurons, left):
    smaller = remove(_text_model("bert", layers=1), Removal(heads, neurons, 0, "magnitude"), TEXT, None)
    assert _shapes(smaller, ATTENTION) == [(8 * left[0], 32)] * 3
    assert _shapes(smaller, FEED_FORWARD) == [(left[1], 32)]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_layer_that_does_nothing_is_the_first_to_go(architecture):
    model = _text_model(architecture, layers=3).eval()
    layers = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    *_, out, _, down = (module for module in layers[1].modules() if isinstance(module, nn.Linear))
    for linear in (out, down):  # what is left of the layer is the norm of what is normed already
        linear.weight.data.zero_(), linear.bias.data.zero_()
    smaller = remove(model, Removal(0, 0, 1, "magnitude"), TEXT, None)
    torch.testing.assert_close(_logits(smaller), _logits(model), atol=1e-4, rtol=0)
    assert smaller.config.num_hidden_layers == 2
    assert model.config.num_hidden_layers == len(layers) == 3


def test_layers_go_one_by_one_each_time_the_one_least_missed():
    model = _text_model("bert", layers=4).eval()
    dense, left = _logits(model).log_softmax(-1), list(range(4))

    def without(gone):
        copy = deepcopy(model)
        copy.bert.encoder.layer = nn.ModuleList(copy.bert.encoder.layer[index] for index in left if index != gone)
        return copy

    def change(gone):
        answers = _logits(without(gone)).log_softmax(-1)
        return float((dense.exp() * (dense - answers)).sum(-1).mean())

    for _ in range(2):
        left.remove(min(left, key=change))
    smaller = remove(model, Removal(0, 0, 2, "magnitude"), TEXT, None)
    assert torch.equal(_logits(smaller), _logits(without(None)))
    assert [layer.attention.self.layer_idx for layer in smaller.bert.encoder.layer] == [0, 1]


def _reads_only_what_is_left(dense, smaller):
    """A copy of an image model with zeros for every channel that the smaller one lacks, told by its mean or bias."""
    copy = deepcopy(dense)
    with torch.no_grad():
        for module, kept in zip(copy.modules(), smaller.modules(), strict=True):
            tell = "running_mean" if isinstance(module, nn.BatchNorm2d) else "bias"
            if isinstance(getattr(module, tell, None), torch.Tensor):
                gone = ~torch.isin(getattr(module, tell), getattr(kept, tell))
                module.weight[gone] = 0
                module.bias[gone] = 0
    return copy


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("architecture", ["vgg16", "vgg16_bn", "preresnet20", "fc5"])
def test_an_image_network_loses_channels_and_what_belongs_to_them(architecture, importance):
    model, inputs = _image_model(architecture)
    smaller = remove(model, Removal(0, 0.25, 0, importance), inputs, LABELS)
    for module, kept in zip(model.modules(), smaller.modules(), strict=True):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            rows, left = len(module.weight), len(kept.weight)
            assert left == (rows if rows == 3 else 3 * rows // 4)
    expected = _logits(_reads_only_what_is_left(model, smaller), inputs)
    torch.testing.assert_close(_logits(smaller, inputs), expected, atol=1e-5, rtol=1e-4)


def test_the_channels_of_a_vgg16_are_counted_exactly():
    model, inputs = _image_model("vgg16_bn")
    smaller = remove(model, Removal(0, 0.3, 0, "magnitude"), inputs, None)
    left = [width - round(0.3 * width) for width in VGG16]
    convolutions = [module for module in smaller.modules() if isinstance(module, nn.Conv2d)]
    assert [(module.out_channels, module.in_channels) for module in convolutions] == list(
        zip(left, [3, *left], strict=False)
    )
    assert [m.num_features for m in smaller.modules() if isinstance(m, nn.BatchNorm2d)] == left
    assert smaller.network.classifier.weight.shape == (3, left[-1])


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_smaller_text_model_is_loaded_with_the_same_answers(architecture, tmp_path):
    model = _text_model(architecture)
    smaller = remove(model, Removal(0.5, 0.25, 1, "magnitude"), TEXT, None)
    zoo.save(smaller, None, tmp_path / "kept")
    again = load_removed(tmp_path / "kept")
    assert torch.equal(_logits(again), _logits(smaller))
    assert not again.training
    assert [module.out_features for module in again.modules() if isinstance(module, nn.Linear)] == [
        len(module.weight) for module in smaller.modules() if isinstance(module, nn.Linear)
    ]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_model_with_all_its_heads_is_read_by_transformers_alone(architecture, tmp_path):
    smaller = remove(_text_model(architecture), Removal(0, 0.25, 1, "magnitude"), TEXT, None)
    zoo.save(smaller, None, tmp_path / "kept")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "kept").eval()
    assert torch.equal(_logits(again), _logits(smaller))


@pytest.mark.parametrize("architecture", ["vgg16_bn", "preresnet20", "fc5"])
def test_a_smaller_image_model_is_loaded_with_the_same_answers(architecture, tmp_path):
    model, inputs = _image_model(architecture)
    smaller = remove(model, Removal(0, 0.25, 0, "magnitude"), inputs, None)
    zoo.save(smaller, None, tmp_path / "kept")
    again = load_removed(tmp_path / "kept")
    assert torch.equal(_logits(again, inputs), _logits(smaller, inputs))
    assert not again.training


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((1, 0, 0, "magnitude"), "heads is 1, but the share to remove is at least 0 and below 1"),
        ((0, -0.1, 0, "magnitude"), "neurons is -0.1"),
        ((0, float("nan"), 0, "magnitude"), "neurons is nan"),
        ((0, 0, -1, "magnitude"), "layers is -1"),
        ((0, 0, 0, "luck"), "'luck' is no importance: there are magnitude, taylor"),
    ],
)
def test_a_removal_that_cannot_be_is_refused(parts, complaint):
    with pytest.raises(UserError, match=complaint):
        Removal(*parts)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "deberta-v2", "albert", "mpnet", "convbert"])
def test_a_family_whose_parts_are_not_known_is_refused_by_its_name(architecture):
    with pytest.raises(UserError, match=f"no parts can be removed from a {architecture}, only from bert"):
        remove(_text_model(architecture), Removal(0, 0.5, 0, "magnitude"), TEXT, None)


def test_more_than_there_is_cannot_be_removed():
    model, (image, inputs) = _text_model("bert"), _image_model("fc5")
    with pytest.raises(UserError, match="2 layers cannot be removed from 2"):
        remove(model, Removal(0, 0, 2, "magnitude"), TEXT, None)
    with pytest.raises(UserError, match="taylor needs the labels"):
        remove(model, Removal(0.5, 0, 0, "taylor"), TEXT, None)
    for parts in ((0.5, 0, 0), (0, 0, 1)):
        with pytest.raises(UserError, match="fc5 has no attention"):
            remove(image, Removal(*parts, "magnitude"), inputs, None)
    splines, pictures = _image_model("kan")
    with pytest.raises(UserError, match="kan has neither linear nor convolution layers"):
        remove(splines, Removal(0, 0.5, 0, "magnitude"), pictures, None)


def test_a_folder_that_is_no_smaller_model_is_refused(tmp_path):
    model, _ = _image_model("fc5")
    zoo.save(model, None, tmp_path / "kept")
    config = tmp_path / "kept" / "config.json"
    kept = json.loads(config.read_text())
    config.write_text(json.dumps(kept | {"architecture": "fc2"}))
    with pytest.raises(UserError, match="its weights are not those its config.json describes"):
        load_removed(tmp_path / "kept")
    config.unlink()
    with pytest.raises(UserError, match="no config.json"):
        load_removed(tmp_path / "kept")
    (tmp_path / "kept" / "model.safetensors").rename(tmp_path / "kept" / "model.pt")
    with pytest.raises(UserError, match="which is a pickle"):
        load_removed(tmp_path / "kept")
