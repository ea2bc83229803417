"""PreResNets beside a version of their own in plain functions, and several as one network."""

import pytest
import torch
from prunecast.errors import UserError
from prunecast.landscape.stacks import stacked
from prunecast.networks.preresnet import PreResNet
from torch.nn import functional

WIDTHS = (16, 16, 16, 32, 32, 32, 64, 64, 64)  # channels of the nine blocks of depth 20


def _expected_shapes(classes):
    """Names and shapes of the state of depth 20 and width 16 for colour images, as in checkpoints of `preresnet20`."""
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes, inputs = {"0.weight": (16, 3, 3, 3)}, 16
    for number, outputs in enumerate(WIDTHS, start=1):
        for part, channels in (("norm1", inputs), ("norm2", outputs)):
            shapes |= {f"{number}.{part}.{name}": (channels,) for name in norm}
            shapes[f"{number}.{part}.num_batches_tracked"] = ()
        shapes[f"{number}.convolution1.weight"] = (outputs, inputs, 3, 3)
        shapes[f"{number}.convolution2.weight"] = (outputs, outputs, 3, 3)
        if inputs != outputs:
            shapes[f"{number}.shortcut.weight"] = (outputs, inputs, 1, 1)
        inputs = outputs
    shapes |= {f"10.{name}": (64,) for name in norm} | {"10.num_batches_tracked": ()}
    return shapes | {"14.weight": (classes, 64), "14.bias": (classes,)}


def _he(state, x, blocks, training):
    """The logits of He et al. (2016): full pre-activation, where the shortcut of a new width starts at the ReLU."""

    def active(name, values):
        mean, variance = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.batch_norm(values, mean, variance, weight, bias, training).clamp(min=0)

    x = functional.conv2d(x, state["0.weight"], padding=1)
    for number in range(1, blocks + 1):
        before = active(f"{number}.norm1", x)
        first = state[f"{number}.convolution1.weight"]
        stride = 2 if first.shape[0] > first.shape[1] else 1
        residual = active(f"{number}.norm2", functional.conv2d(before, first, stride=stride, padding=1))
        residual = functional.conv2d(residual, state[f"{number}.convolution2.weight"], padding=1)
        if stride == 2:
            x = functional.conv2d(before, state[f"{number}.shortcut.weight"], stride=2)
        x = x + residual
    pooled = active(f"{blocks + 1}", x).mean((2, 3))
    return pooled @ state[f"{blocks + 5}.weight"].T + state[f"{blocks + 5}.bias"]


def _trained_statistics(network):
    """The network with batch norms that differ from channel to channel."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.dim() == 1:
                tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name else 0.0))
    return network


def test_depth_20_and_width_16_has_the_state_and_the_logits_of_the_paper():
    torch.manual_seed(0)
    network = _trained_statistics(PreResNet(7))
    state = network.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == _expected_shapes(7)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), _he(state, images, 9, training=False))
        torch.testing.assert_close(network.train()(images), _he(state, images, 9, training=True))


@pytest.mark.parametrize(
    ("depth", "width", "sentence"),
    [
        (9, 2, "a PreResNet has 8, 14, 20, … layers, 2 more than a multiple of 6, not 9"),
        (2, 2, "2 more than a multiple of 6, not 2"),
        (-4, 2, "2 more than a multiple of 6, not -4"),
        (8, 0, "the width of a PreResNet is a positive number of channels, not 0"),
        (8, -1, "positive number of channels, not -1"),
    ],
)
def test_a_depth_or_width_that_there_is_not_is_one_sentence(depth, width, sentence):
    with pytest.raises(UserError, match=sentence):
        PreResNet(10, depth, width)


def _three(classes=4, channels=2):
    torch.manual_seed(1)
    alone = [_trained_statistics(PreResNet(classes, 8, 3, channels)) for _ in range(3)]
    together = PreResNet(classes, 8, 3, channels, copies=3)
    together.load_state_dict(stacked([network.state_dict() for network in alone]))
    return alone, together


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_copies_give_the_logits_and_statistics_of_the_networks_alone(training, memory_format):
    alone, together = _three()
    together.to(memory_format=memory_format).train(training)
    images = torch.randn(5, 3, 2, 8, 8)  # each copy has images of its own
    logits = together(images.flatten(1, 2)).unflatten(1, (3, 4))
    for number, network in enumerate(alone):
        torch.testing.assert_close(logits[:, number], network.train(training)(images[:, number]), rtol=1e-4, atol=1e-5)
    after = stacked([network.state_dict() for network in alone])
    for name, tensor in together.state_dict().items():
        torch.testing.assert_close(tensor, after[name])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_copy_that_diverged_leaves_the_others_as_they_are(value):
    _, together = _three()
    images = torch.randn(5, 2, 8, 8).repeat(1, 3, 1, 1)

    def answers():
        together.zero_grad()
        logits = together.train()(images).unflatten(1, (3, 4))
        logits.sum().backward()
        return logits.detach(), together[0].weight.grad.unflatten(0, (3, -1)).clone()

    before = answers()
    with torch.no_grad():
        for parameter in together.parameters():
            parameter.unflatten(0, (3, -1))[1] = value
    for sound, diverged, dimension in zip(before, answers(), (1, 0), strict=True):
        others = torch.tensor([0, 2])
        torch.testing.assert_close(diverged.index_select(dimension, others), sound.index_select(dimension, others))
        assert diverged.select(dimension, 1).isnan().any()
