import pytest
import torch
from prunecast.errors import UserError
from prunecast.models.kan import KanLayer, KanNetwork
from prunecast.pruning.gates import node_scores, nodes_off

WIDTHS = (6, 8, 5, 3)


@pytest.fixture
def network():
    torch.manual_seed(1)
    return KanNetwork(WIDTHS)


@pytest.fixture
def images():
    torch.manual_seed(2)
    return torch.rand(20, 1, 2, 3) * 2 - 1


def _without(network, keep):
    """A network that never had the nodes, from the rows and columns that stay."""
    kept = [torch.arange(WIDTHS[0]), *(torch.nonzero(stays)[:, 0] for stays in keep), torch.arange(WIDTHS[-1])]
    smaller = KanNetwork([len(nodes) for nodes in kept])
    with torch.no_grad():
        for layer, origin, columns, rows in zip(smaller.layers, network.layers, kept, kept[1:], strict=False):
            layer.base_weight.copy_(origin.base_weight[rows][:, columns])
            layer.spline_weight.copy_(origin.spline_weight[rows][:, columns])
    return smaller


@pytest.mark.parametrize(("grid", "order"), [(5, 3), (1, 1), (8, 2)])
def test_the_splines_sum_to_one_inside_the_grid_and_are_zero_far_outside(grid, order):
    layer = KanLayer(1, 1, grid, order, low=-2.0, high=3.0)
    inside = layer.basis(torch.linspace(-2, 3, 101, dtype=torch.float64))
    assert inside.shape == (101, grid + order)
    assert torch.allclose(inside.sum(-1), torch.ones(101, dtype=torch.float64), atol=1e-12)
    assert (inside >= 0).all()
    step = 5.0 / grid
    assert not layer.basis(torch.tensor([-2.01 - order * step, 3.01 + order * step, -1e6, 1e6])).any()


def test_the_cubic_spline_has_its_known_values():
    layer = KanLayer(1, 1, grid=4, order=3, low=0.0, high=4.0)
    at_knot, between = layer.basis(torch.tensor([2.0, 2.5], dtype=torch.float64))
    assert at_knot.tolist() == pytest.approx([0, 0, 1 / 6, 4 / 6, 1 / 6, 0, 0])
    assert between.tolist() == pytest.approx([0, 0, 1 / 48, 23 / 48, 23 / 48, 1 / 48, 0])


def test_the_splines_take_half_precision_and_answer_in_single():
    layer = KanLayer(1, 1)
    x = torch.tensor([0.3], dtype=torch.bfloat16)
    assert torch.equal(layer.basis(x), layer.basis(x.float()))


def test_a_layer_is_the_sum_of_its_edges(network, images):
    layer, x = network.layers[0], images.flatten(1)
    assert layer.edges(x).shape == (20, 8, 6)
    assert torch.allclose(layer.edges(x).sum(-1), layer(x), atol=1e-6)
    edge = layer.base_weight[4, 2] * x[7, 2].sigmoid() * x[7, 2] + layer.spline_weight[4, 2] @ layer.basis(x[7, 2])
    assert torch.allclose(layer.edges(x)[7, 4, 2], edge, atol=1e-6)


def test_one_edge_learns_a_sine():
    torch.manual_seed(0)
    layer = KanLayer(1, 1, grid=10)
    x = torch.linspace(-1, 1, 200)[:, None]
    y = torch.sin(torch.pi * x)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        error = ((layer(x) - y) ** 2).mean()
        error.backward()
        return error

    optimiser.step(loss)
    assert (layer(x) - y).abs().max() < 5e-3


def test_every_weight_and_the_image_have_a_gradient(network, images):
    images.requires_grad_(True)
    network(images).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in network.parameters())
    assert images.grad.any()


def test_nodes_that_are_off_are_as_good_as_deleted(network, images):
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


def test_off_within_off_comes_back_step_by_step_and_after_an_error(network, images):
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


def test_a_node_needs_an_edge_into_it_and_one_out_of_it(network, images, monkeypatch):
    with torch.no_grad():
        for weight in (network.layers[1].base_weight, network.layers[1].spline_weight):
            weight[:, 3] = 0
    scores = node_scores(network, images)
    assert {name: len(score) for name, score in scores.items()} == {"layers.0": 8, "layers.1": 5}
    assert torch.equal(scores["layers.0"] == 0, torch.arange(8) == 3)
    hidden = network.layers[0](images.flatten(1))
    into = network.layers[0].edges(images.flatten(1)).abs().mean(0).amax(1)
    out = network.layers[1].edges(hidden).abs().mean(0).amax(0)
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
def test_what_cannot_be_switched_off_is_refused_and_nothing_is(keep, sentence, network, images):
    before = network(images)
    good = {"layers.1": torch.zeros(5, dtype=torch.bool)}
    with pytest.raises(UserError, match=sentence), nodes_off(network, good | keep):
        pass
    assert torch.equal(network(images), before)


def test_no_images_are_refused(network, images):
    with pytest.raises(UserError, match="no images to score"):
        node_scores(network, images[:0])
