"""Image networks with gates on the edges of their graph, beside plain torch code with the same gates."""

import weakref

import numpy as np
import pytest
import torch
from prunecast.capture.captured import capture
from prunecast.errors import UserError
from prunecast.networks.preresnet import PreResNet
from prunecast.networks.vision import ImageClassifier
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.resnet import BasicBlock, ResNet
from transformers.modeling_outputs import ImageClassifierOutput

CLASSES = 4


class Inception(nn.Module):
    """Branches that are concatenated, multiplied, split and reshaped, with functions, methods and a constant."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.narrow, self.wide = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=1)
        self.attend = nn.Conv2d(6, 6, 1)
        self.scale = nn.Parameter(torch.rand(6, 1, 1))
        self.head = nn.Linear(6 * 16, CLASSES)

    def forward(self, images):
        x = self.first(images)
        y = torch.cat([self.narrow(x), self.wide(x).relu_()], 1) * self.scale
        y = y * torch.sigmoid(self.attend(y))
        one, other = y.chunk(2, dim=1)
        one += torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
        y = torch.cat((functional.relu(one, inplace=True) - other, one), dim=1)
        return self.head(functional.adaptive_avg_pool2d(y, (4, 4)).view(y.size(0), -1))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Doubtful()

    def forward(self, images):
        return self.inner(images.flatten(1))


class Doubtful(nn.Module):
    def forward(self, x):
        if x.mean() > 0:
            x = -x
        return x


def seeded(module):
    """The module with batch norms and biases that differ from channel to channel."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.dim() == 1:
                tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name else 0.0))
    return module.eval()


def tiny_resnet():
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
    network.inplanes = 4
    network.conv1, network.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    for place, (width, stride) in enumerate(((4, 1), (6, 2), (8, 2), (8, 1)), start=1):
        setattr(network, f"layer{place}", network._make_layer(BasicBlock, width, 2, stride))
    network.fc = nn.Linear(8, CLASSES)
    return network


MODULES = {"preresnet": lambda: PreResNet(CLASSES, 8, 2), "resnet": tiny_resnet, "inception": Inception}


@pytest.fixture(scope="module")
def examples():
    torch.manual_seed(0)
    return torch.randn(10, 3, 8, 8), torch.randint(CLASSES, (10,))


@pytest.fixture(params=MODULES)
def module(request):
    torch.manual_seed(0)
    return seeded(MODULES[request.param]())


@pytest.fixture
def preresnet():
    torch.manual_seed(0)
    return seeded(PreResNet(CLASSES, 8, 2))


def drawn(network, count=40, keep=0.7, seed=0):
    masks = np.random.default_rng(seed).random((count, len(network.labels))) < keep
    masks[0], masks[1] = True, False
    return masks


def by_hand(state, images, gates, means=None):
    """Logits of a PreResNet of depth 8 with gates in the order of `labels`; what the edges carry, before the gates."""
    carried = []

    def active(name, x):
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts).clamp(min=0)

    def gate(x):
        edge = len(carried)
        carried.append(x)
        return gates[edge] * x + (0 if means is None else (1 - gates[edge]) * means[edge])

    x = gate(functional.conv2d(images, state["0.weight"], padding=1))
    for block, stride in ((1, 1), (2, 2), (3, 2)):
        before = active(f"{block}.norm1", x)
        if stride == 2:
            x = functional.conv2d(before, state[f"{block}.shortcut.weight"], stride=2)
        x = gate(x)
        inner = functional.conv2d(before, state[f"{block}.convolution1.weight"], stride=stride, padding=1)
        inner = functional.conv2d(active(f"{block}.norm2", inner), state[f"{block}.convolution2.weight"], padding=1)
        x = x + gate(inner)
    pooled = active("4", x).mean((2, 3))
    return gate(pooled @ state["8.weight"].T + state["8.bias"]), carried


def test_a_preresnet_has_two_edges_a_block_beside_stem_and_head(preresnet, examples):
    network = capture(preresnet, *examples)
    assert network.graph.vertices == ("input", "0", "1.add", "2.add", "3.add", "output")
    assert network.labels == (
        *("0", "1.identity", "1.norm1…convolution2", "2.shortcut", "2.convolution1…convolution2"),
        *("3.shortcut", "3.convolution1…convolution2", "4…8"),
    )
    assert network.graph.names[1] == network.graph.names[2] == "0 → 1.add"
    assert network.examples == 10


def test_branches_and_shortcuts_of_a_resnet_are_one_edge_each(examples):
    network = capture(tiny_resnet(), *examples)
    assert len(network.labels) == len(set(network.labels)) == 2 * 8 + 2
    assert network.labels[:3] == ("conv1…bn1", "layer1.0.conv1…bn2", "layer1.0.identity")
    assert {"layer2.0.downsample.0…1", "layer4.1.identity", "fc"} <= set(network.labels)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_losses_are_those_of_plain_torch_with_the_same_gates(preresnet, examples, ablation):
    images, classes = examples
    network = capture(preresnet, images, classes, ablation=ablation)
    state = preresnet.state_dict()
    _, carried = by_hand(state, images, torch.ones(8))
    means = [each.mean(0) for each in carried] if ablation == "mean" else None
    masks = drawn(network)
    logits = [by_hand(state, images, torch.tensor(mask).float(), means)[0] for mask in masks]
    expected = [functional.cross_entropy(each, classes).item() for each in logits]
    np.testing.assert_allclose(network.losses(masks), expected, atol=1e-5)
    gates = torch.rand(3, 8)
    logits = [by_hand(state, images, row, means)[0] for row in gates]
    expected = [functional.cross_entropy(each, classes).item() for each in logits]
    np.testing.assert_allclose(network.gated_losses(gates).numpy(), expected, atol=1e-5)


def test_the_means_are_over_the_examples_that_were_captured(preresnet, examples):
    images, classes = examples
    network = capture(preresnet, images, classes, ablation="mean")
    mask = np.ones(8, bool)
    mask[2] = False
    state = preresnet.state_dict()
    means = [each.mean(0) for each in by_hand(state, images, torch.ones(8))[1]]
    logits = by_hand(state, images[:3], torch.tensor(mask).float(), means)[0]
    expected = functional.cross_entropy(logits, classes[:3]).item()
    assert network.on(3).losses(mask) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_many_masks_at_once_are_one_at_a_time(module, examples, ablation):
    network = capture(module, *examples, ablation=ablation)
    masks = drawn(network)
    together = network.losses(masks)
    np.testing.assert_allclose(together, [network.losses(mask)[0] for mask in masks], atol=1e-5)
    np.testing.assert_allclose(together, network.gated_losses(torch.from_numpy(masks).float()).numpy(), atol=1e-5)
    with torch.no_grad():
        logits = module(examples[0])
    assert together[0] == pytest.approx(functional.cross_entropy(logits, examples[1]).item(), abs=1e-5)
    assert network.losses(masks[:0]).shape == (0,)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_gradients_of_the_gates_are_finite_differences(module, examples, ablation):
    images, classes = examples
    network = capture(module.double(), images[:3].double(), classes[:3], ablation=ablation)
    gates = torch.rand(2, len(network.labels), dtype=torch.double, requires_grad=True)
    torch.autograd.gradcheck(network.gated_losses, gates, atol=1e-6)
    (whole,) = torch.autograd.grad(network.gated_losses(gates).sum(), gates)
    network.memory = 1
    (in_parts,) = torch.autograd.grad(network.gated_losses(gates).sum(), gates)
    torch.testing.assert_close(in_parts, whole)


def test_second_derivatives_of_the_gates(preresnet, examples):
    images, classes = examples
    network = capture(preresnet.double(), images[:2].double(), classes[:2])
    gates = torch.full((8,), 0.7, dtype=torch.double)
    hessian = torch.autograd.functional.hessian(lambda row: network.gated_losses(row[None])[0], gates)
    state = preresnet.state_dict()
    expected = torch.autograd.functional.hessian(
        lambda row: functional.cross_entropy(by_hand(state, images[:2].double(), row)[0], classes[:2]), gates
    )
    torch.testing.assert_close(hessian, expected)


class _Held(TorchDispatchMode):
    """Counts the bytes of the tensors that operations made and that are still held."""

    def __init__(self):
        super().__init__()
        self.sizes, self.most = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor) and (key := id(storage := tensor.untyped_storage())) not in self.sizes:
                self.sizes[key] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, key, None)
        self.most = max(self.most, sum(self.sizes.values()))
        return result


def test_the_memory_bounds_what_is_held(preresnet, examples):
    images, classes = (each.repeat_interleave(20, 0) for each in examples)
    free, bounded = (capture(preresnet, images, classes, memory=memory) for memory in (1 << 30, 1 << 20))
    masks = drawn(free, 60)
    assert free.losses(masks) == pytest.approx(bounded.losses(masks), abs=1e-6)
    most = []
    for network in (free, bounded):
        with _Held() as held:
            network.losses(masks)
        most.append(held.most)
    assert most[0] > 2 << 20
    assert most[1] < 1.1 * (1 << 20)
    few = capture(preresnet, *examples, memory=1000)  # less than one example needs under all masks
    np.testing.assert_allclose(few.losses(masks), capture(preresnet, *examples).losses(masks), atol=1e-6)


def test_what_masks_share_is_computed_once(preresnet, examples):
    network = capture(preresnet, *examples)
    rows = []
    part = network._module.get_submodule("1.convolution1")
    part.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    masks = np.ones((5, 8), bool)
    masks[range(1, 5), range(4, 8)] = False  # all behind the first block
    network.losses(masks)
    assert rows == [10]


def test_a_disconnected_output_gives_the_loss_of_constant_logits(module, examples):
    images, classes = examples
    network = capture(module, images, classes)
    masks = drawn(network, 200, keep=0.5)
    cut = masks[~network.graph.connected(masks)]
    assert len(cut) > 50
    assert np.isfinite(network.losses(cut)).all()
    assert network.losses(masks[1]) == pytest.approx([np.log(CLASSES)])  # without its last edge
    smaller = network.without(cut[-1])(images)
    torch.testing.assert_close(smaller, smaller[:1].expand_as(smaller))


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_removed_edges_are_really_removed(module, examples, ablation):
    images, classes = examples
    network = capture(module, images, classes, ablation=ablation)
    masks = drawn(network, 12)
    for mask, loss in zip(masks, network.losses(masks), strict=True):
        smaller = network.without(mask)
        assert functional.cross_entropy(smaller(images), classes).item() == pytest.approx(loss, abs=1e-5)
        assert smaller(images[:3]).shape == (3, CLASSES)
        names = {name for name, _ in module.named_parameters()}
        assert {name for name, _ in smaller.named_parameters()} <= names
        assert all(each.requires_grad for each in smaller.parameters())


def test_a_removed_branch_takes_its_parameters_along(preresnet, examples, tmp_path):
    images, classes = examples
    network = capture(preresnet, images, classes)
    mask = np.ones(8, bool)
    mask[[2, 6]] = False
    smaller = network.without(mask)
    gone = set(preresnet.state_dict()) - set(smaller.state_dict())
    inside = ("norm1", "norm2", "convolution1", "convolution2")
    assert {name.rpartition(".")[0] for name in gone} == {
        *(f"1.{part}" for part in inside),
        *(f"3.{part}" for part in inside[1:]),
    }
    assert [node.name for node in smaller.graph.nodes if "add" in node.name or "zeros" in node.name] == ["add_1"]
    torch.save(smaller.state_dict(), tmp_path / "smaller.pt")
    again = network.without(mask)
    with torch.no_grad():
        for each in again.parameters():
            each.zero_()
    again.load_state_dict(torch.load(tmp_path / "smaller.pt", weights_only=True))
    torch.testing.assert_close(again(images), smaller(images))
    smaller(images).sum().backward()
    assert all(each.grad is None for each in preresnet.parameters())


def test_the_module_is_left_as_it_was(examples):
    module = tiny_resnet().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = capture(module, *examples)
    network.losses(np.ones(18))
    network.without(np.ones(18))
    assert module.training
    assert module.relu.inplace
    assert all(each.requires_grad for each in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_an_image_classifier_with_its_dictionary(examples):
    model = ImageClassifier("preresnet8_2", CLASSES, (3, 8, 8), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]).eval()
    network = capture(model, *examples)
    assert network.labels[0] == "network.0"
    assert len(network.labels) == 8
    expected = functional.cross_entropy(model(examples[0])["logits"], examples[1]).item()
    assert network.losses(np.ones(8)) == pytest.approx([expected], abs=1e-5)
    assert set(network.without(np.ones(8)).state_dict()) == set(model.state_dict())


@pytest.mark.parametrize("channels", [1, 3])
def test_branches_that_depend_on_a_shape_are_followed(channels):
    images, classes = torch.randn(3, channels, 8, 8), torch.arange(3)  # resized to 32 by 32 pixels, in three channels
    model = ImageClassifier("preresnet20", CLASSES, (channels, 8, 8)).eval()
    network = capture(model, images, classes)
    assert len(network.labels) == 2 * 9 + 2
    with torch.no_grad():
        expected = functional.cross_entropy(model(images)["logits"], classes).item()
    assert network.losses(np.ones(20)) == pytest.approx([expected], abs=1e-5)


def test_a_model_output_of_transformers(examples):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(3 * 64, CLASSES)

        def forward(self, images):
            return ImageClassifierOutput(logits=self.score(images.flatten(1)))

    network = capture(Model(), *examples)
    assert network.labels == ("score",)


def test_where_a_module_cannot_be_traced_is_said(examples):
    with pytest.raises(UserError) as caught:
        capture(Branching(), *examples)
    assert str(caught.value) == (
        "Branching cannot be traced in inner (test_captured.py, line "
        f"{Doubtful.forward.__code__.co_firstlineno + 1}: if x.mean() > 0:): "
        "a branch depends on the values of a tensor"
    )


class _Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.score = nn.Linear(3 * 64, CLASSES)

    def forward(self, images):
        return self.function(self, images.flatten(1))


BY_VALUE, OF_LOGITS = "a branch depends on the values of a tensor", r"not logits \(2, classes\)"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda net, x: net.score(x)[:, None], r"the output of _Of is of the shape \(2, 1, 4\), " + OF_LOGITS),
        (lambda net, x: {"scores": net.score(x)}, "the output has scores, but no logits"),
        (lambda net, x: (net.score(x), x), "for 2 images the output of _Of is a tuple, " + OF_LOGITS),
        (lambda net, x: net.score(x) / 0, "the logits of _Of are not finite numbers"),
        (lambda net, x: net.score(x[:, 1:]), r"_Of cannot be run on images of the shape \(3, 8, 8\): mat1 .*"),
        (lambda net, x: net.score(-x if x.amax().item() > 0 else x), BY_VALUE),
        (lambda net, x: net.score(-x if torch.equal(x, x + 0) else x), BY_VALUE),
        (lambda net, x: net.score(-x if len(x) > 1 else x), "the length of a tensor is used as a number"),
        (lambda net, x: net.score(-x if x.size(0) > 1 else x), "a branch depends on the number of images"),
        (lambda net, x: net.score(x - x.mean(0)), "that _Of gives for an image depend on the other images beside it"),
        (lambda net, x: net.score(x) * x.amax().item(), "item makes a number of a tensor, .*"),
        (
            lambda net, x: torch.zeros(2, CLASSES),
            "the output of _Of is not one tensor of logits computed from the images",
        ),
        (lambda net, x: torch.stack([net.score(row) for row in [*x]]), "a loop runs over a tensor"),
    ],
)
def test_what_cannot_be_captured(examples, function, message):
    with pytest.raises(UserError, match=f"{message}$"):
        capture(_Of(function), *examples)


def test_arguments_that_do_not_fit(preresnet, examples):
    images, classes = examples
    with pytest.raises(UserError, match="there is no ablation 'none'"):
        capture(preresnet, images, classes, ablation="none")
    with pytest.raises(UserError, match=r"10 images, but the classes have the shape \(3,\)"):
        capture(preresnet, images, classes[:3])
    with pytest.raises(UserError, match="4 logits, but the classes of the images are"):
        capture(preresnet, images, classes + 1)
    network = capture(preresnet, images, classes)
    for given in (network.losses, network.without):
        with pytest.raises(UserError, match=r"8 edges, but the masks have the shape \(1, 7\)"):
            given(np.ones(7))
    with pytest.raises(UserError, match=r"8 edges, but the gates have the shape \(2, 9\)"):
        network.gated_losses(torch.ones(2, 9))
    with pytest.raises(UserError, match="by one mask, not by 2"):
        network.without(np.ones((2, 8)))
    with pytest.raises(UserError, match="10 examples, of which 11"):
        network.on(11)


def test_a_loss_that_is_not_finite_names_the_mask(examples):
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.score = nn.Linear(192, 4), nn.Linear(192, 4), nn.Linear(4, CLASSES)

        def forward(self, images):
            x = images.flatten(1)
            y = self.one(x) + self.other(x)
            return self.score(y / y.norm(dim=1, keepdim=True))

    network = capture(Normed(), *examples)
    masks = np.ones((3, len(network.labels)))
    masks[2, [network.labels.index("one"), network.labels.index("other")]] = 0
    with pytest.raises(UserError, match="the loss under mask 2 is nan, which is not a finite number"):
        network.losses(masks)
