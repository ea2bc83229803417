from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from prunecast.errors import UserError
from prunecast.networks.kan import KanLayer, KanNetwork
from prunecast.pruning.gates import node_scores, nodes_off
from torch import Tensor

WIDTHS = (6, 8, 5, 3)


@pytest.fixture
def network() -> KanNetwork:
    torch.manual_seed(1)
    return KanNetwork(WIDTHS)


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(2)
    return torch.rand(20, 1, 2, 3) * 2 - 1


def _layer(network: KanNetwork, index: int) -> KanLayer:
    layer = network.layers[index]
    assert isinstance(layer, KanLayer)
    return layer


def _without(network: KanNetwork, keep: Sequence[Tensor]) -> KanNetwork:
    """A network that never had the nodes, from the rows and columns of the remaining ones."""
    nodes = [torch.arange(WIDTHS[0]), *(torch.nonzero(on)[:, 0] for on in keep), torch.arange(WIDTHS[-1])]
    smaller = KanNetwork([len(remaining) for remaining in nodes])
    with torch.no_grad():
        for index, (columns, rows) in enumerate(pairwise(nodes)):
            layer, origin = _layer(smaller, index), _layer(network, index)
            layer.base_weight.copy_(origin.base_weight[rows][:, columns])
            layer.spline_weight.copy_(origin.spline_weight[rows][:, columns])
    return smaller


@pytest.mark.parametrize(("grid", "order"), [(5, 3), (1, 1), (8, 2)])
def test_the_splines_sum_to_one_inside_the_grid_and_are_zero_far_outside(grid: int, order: int) -> None:
    layer = KanLayer(1, 1, grid, order, low=-2.0, high=3.0)
    inside = layer.basis(torch.linspace(-2, 3, 101, dtype=torch.float64))
    assert inside.shape == (101, grid + order)
    assert torch.allclose(inside.sum(-1), torch.ones(101, dtype=torch.float64), atol=1e-12)
    assert (inside >= 0).all()
    step = 5.0 / grid
    assert not layer.basis(torch.tensor([-2.01 - order * step, 3.01 + order * step, -1e6, 1e6])).any()


def test_the_cubic_spline_has_its_known_values() -> None:
    layer = KanLayer(1, 1, grid=4, order=3, low=0.0, high=4.0)
    at_knot, between = layer.basis(torch.tensor([2.0, 2.5], dtype=torch.float64))
    assert at_knot.tolist() == pytest.approx([0, 0, 1 / 6, 4 / 6, 1 / 6, 0, 0])
    assert between.tolist() == pytest.approx([0, 0, 1 / 48, 23 / 48, 23 / 48, 1 / 48, 0])


def test_splines_of_half_precision_inputs_are_computed_in_single_precision() -> None:
    layer = KanLayer(1, 1)
    x = torch.tensor([0.3], dtype=torch.bfloat16)
    assert torch.equal(layer.basis(x), layer.basis(x.float()))


def test_a_layer_is_the_sum_of_its_edges(network: KanNetwork, images: Tensor) -> None:
    layer, x = _layer(network, 0), images.flatten(1)
    assert layer.edges(x).shape == (20, 8, 6)
    assert torch.allclose(layer.edges(x).sum(-1), layer(x), atol=1e-6)
    edge = layer.base_weight[4, 2] * x[7, 2].sigmoid() * x[7, 2] + layer.spline_weight[4, 2] @ layer.basis(x[7, 2])
    assert torch.allclose(layer.edges(x)[7, 4, 2], edge, atol=1e-6)


def test_one_edge_learns_a_sine() -> None:
    torch.manual_seed(0)
    layer = KanLayer(1, 1, grid=10)
    x = torch.linspace(-1, 1, 200)[:, None]
    y = torch.sin(torch.pi * x)
    optimiser: Any = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error: Tensor = ((layer(x) - y) ** 2).mean()
        torch.autograd.backward(error)
        return error

    optimiser.step(loss)
    assert (layer(x) - y).abs().max() < 5e-3


def test_every_weight_and_the_image_have_a_gradient(network: KanNetwork, images: Tensor) -> None:
    images.requires_grad_(True)
    torch.autograd.backward(network(images).square().sum())
    for tensor in (*network.parameters(), images):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def test_nodes_that_are_off_are_as_good_as_deleted(network: KanNetwork, images: Tensor) -> None:
    keep = [torch.arange(8) % 3 > 0, torch.tensor([True, False, True, True, False])]
    before, weights = network(images), [weight.clone() for weight in network.parameters()]
    with nodes_off(network, {"layers.0": keep[0], "layers.1": keep[1]}):
        inside = network(images)
        assert not network.layers[0](images.flatten(1))[:, ~keep[0]].any()
        assert torch.equal(node_scores(network, images)["layers.0"] == 0, ~keep[0])
    assert torch.allclose(inside, _without(network, keep)(images), atol=1e-6)
    assert not torch.allclose(inside, before, atol=1e-3)
    assert torch.equal(network(images), before)
    assert all(torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True))


def test_nested_contexts_are_undone_one_by_one_and_after_an_error(network: KanNetwork, images: Tensor) -> None:
    first, second = torch.arange(8) > 1, torch.arange(8) < 6
    everything = torch.ones(5, dtype=torch.bool)
    before = network(images)
    with nodes_off(network, {"layers.0": first}):
        between = network(images)
        with pytest.raises(ZeroDivisionError), nodes_off(network, {"layers.0": second}):
            both = network(images)
            raise ZeroDivisionError
        assert torch.equal(network(images), between)
    assert torch.allclose(both, _without(network, [first & second, everything])(images), atol=1e-6)
    assert torch.equal(network(images), before)


def test_a_node_needs_an_edge_into_it_and_one_out_of_it(
    network: KanNetwork, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        for weight in (_layer(network, 1).base_weight, _layer(network, 1).spline_weight):
            weight[:, 3] = 0
    scores = node_scores(network, images)
    assert {name: len(score) for name, score in scores.items()} == {"layers.0": 8, "layers.1": 5}
    assert torch.equal(scores["layers.0"] == 0, torch.arange(8) == 3)
    hidden = network.layers[0](images.flatten(1))
    into = _layer(network, 0).edges(images.flatten(1)).abs().mean(0).amax(1)
    out = _layer(network, 1).edges(hidden).abs().mean(0).amax(0)
    assert torch.allclose(scores["layers.0"], torch.minimum(into, out), atol=1e-6)
    monkeypatch.setattr("prunecast.pruning.gates.EDGES", 100)
    assert torch.allclose(scores["layers.1"], node_scores(network, images)["layers.1"], atol=1e-6)


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        ({"layers.2": torch.ones(3, dtype=torch.bool)}, r"'layers\.2' is no hidden layer.*layers\.0, layers\.1"),
        ({"layers.0": torch.ones(7, dtype=torch.bool)}, r"layers\.0 has 8 nodes .* not a tensor \(7,\)"),
        ({"layers.0": torch.ones(8)}, r"one boolean for each, not a tensor \(8,\) of torch\.float32"),
    ],
)
def test_masks_of_unknown_layers_or_wrong_shape_are_refused_and_change_nothing(
    keep: dict[str, Tensor], sentence: str, network: KanNetwork, images: Tensor
) -> None:
    before = network(images)
    good = {"layers.1": torch.zeros(5, dtype=torch.bool)}
    with pytest.raises(UserError, match=sentence), nodes_off(network, good | keep):
        pass
    assert torch.equal(network(images), before)


def test_no_images_are_refused(network: KanNetwork, images: Tensor) -> None:
    with pytest.raises(UserError, match="no images to score"):
        node_scores(network, images[:0])
