"""PreResNets of any depth and width, and a small VGG, as image classifiers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from prunecast.datasets.tasks import Split, Task
from prunecast.errors import UserError
from prunecast.forecasting.subjects import open_subject
from prunecast.loading import storage
from prunecast.models import zoo
from prunecast.models.prunable import prunable_weights
from prunecast.networks.batch_norm import running_statistics
from prunecast.networks.preresnet import PreResNet
from prunecast.networks.vision import ImageClassifier, is_vision_architecture
from prunecast.pruning.structured import Removal, load_removed, remove


def _task(side: int = 8, channels: int = 1) -> Task:
    images = np.random.default_rng(0).integers(0, 256, (12, side, side, channels), dtype=np.uint8)
    split = Split(images, np.arange(12) % 3)
    return Task("squares", "image", "folder", ("a", "b", "c"), split, split)


def _saved(folder: Path, architecture: str = "preresnet8_2") -> str:
    model, _ = zoo.build(zoo.ModelSpec(task="squares", architecture=architecture, standardise=True), _task())
    storage.save(model, None, folder)
    return str(folder)


@pytest.mark.parametrize(("depth", "width", "side", "channels"), [(8, 2, 8, 1), (14, 3, 12, 2), (8, 1, 5, 3)])
def test_a_preresnet_of_any_size_answers_images_as_they_are(depth, width, side, channels, tmp_path):
    model = ImageClassifier(f"preresnet{depth}_{width}", 3, (channels, side, side), [0.1] * channels, [2.0] * channels)
    plain = PreResNet(3, depth, width, channels)
    plain.load_state_dict(model.network.state_dict())
    images = torch.rand(4, channels, side, side) * 2 - 1
    storage.save(model, None, tmp_path)
    again, processor = storage.load(tmp_path)
    assert processor is None
    assert torch.equal(again(images)["logits"], plain.eval()((images - 0.1) / 2.0))


def test_the_preresnet_of_the_registry_keeps_its_weights_and_its_images_of_32_pixels_in_colour():
    model = ImageClassifier("preresnet20", 10, (1, 8, 8)).eval()
    names = set(model.state_dict())
    assert {"network.0.weight", "network.4.shortcut.weight", "network.10.running_var", "network.14.bias"} <= names
    assert sum(weight.numel() for weight in model.parameters()) == 272_282
    images = torch.rand(2, 1, 8, 8)
    large = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear").repeat(1, 3, 1, 1)
    torch.testing.assert_close(model(images)["logits"], model.network(large))


def test_the_small_vgg_has_half_the_channels_of_vgg11_and_keeps_its_output_layer_whole():
    whole = torchvision.models.vgg11_bn(weights=None, init_weights=False)
    model = ImageClassifier("vgg11_32", 10, (1, 8, 8)).eval()
    convolutions = [[m for m in each.modules() if isinstance(m, torch.nn.Conv2d)] for each in (model, whole)]
    assert [m.out_channels for m in convolutions[0]] == [m.out_channels // 2 for m in convolutions[1]]
    assert len(running_statistics(model)) == 3 * len(convolutions[0])
    weights = prunable_weights(model, 10)
    assert sum(map(torch.numel, weights.values())) == sum(m.weight.numel() for m in convolutions[0])
    assert model(torch.rand(2, 1, 8, 8))["logits"].shape == (2, 10)


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ("preresnet9_4", "a PreResNet has 8, 14, 20, … layers, 2 more than a multiple of 6, not 9"),
        ("preresnet8_0", "'preresnet8_0' is not an image architecture; there are vgg16, .* as in preresnet8_16"),
        ("preresnet8", "is not an image architecture"),
        ("resnet8_4", "is not an image architecture"),
    ],
)
def test_a_size_that_does_not_exist_is_refused(architecture, sentence):
    with pytest.raises(UserError, match=sentence):
        zoo.build(zoo.ModelSpec(task="squares", architecture=architecture), _task())


@pytest.mark.parametrize("changed", [{"architecture": "preresnet9_2"}, {"shape": []}, {"architecture": "preresnet8_3"}])
def test_a_configuration_of_another_network_is_refused(changed, tmp_path):
    checkpoint = Path(_saved(tmp_path / "own"))
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(UserError, match=r"checkpoint own: its weights are not those that its config.json describes"):
        storage.load(checkpoint)


def test_what_is_no_name_of_an_architecture_is_none():
    assert not any(map(is_vision_architecture, (None, ["vgg16"], "preresnet٨_2", "preresnet8_2 ", "preresnet08_2")))


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (8, 3)])
def test_images_of_another_size_or_with_other_channels_are_refused(side, channels, tmp_path):
    checkpoint = _saved(tmp_path / "own")
    assert open_subject(checkpoint, _task()).notes[0] == "all 12 validation examples are evaluated"
    shown = f"{channels} by {side} by {side}"
    with pytest.raises(UserError, match=f"own takes images of 1 by 8 by 8, those of task 'squares' have {shown}"):
        open_subject(checkpoint, _task(side, channels))


def test_channels_of_a_preresnet_of_any_size_can_be_removed_and_loaded_again(tmp_path):
    model = ImageClassifier("preresnet8_4", 3, (1, 8, 8)).eval()
    inputs = {"pixel_values": torch.rand(3, 1, 8, 8)}
    smaller = remove(model, Removal(0.0, 0.5, 0, "magnitude"), inputs, None)
    storage.save(smaller, None, tmp_path)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    assert torch.equal(load_removed(tmp_path)(**inputs)["logits"], smaller(**inputs)["logits"])
