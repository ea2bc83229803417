"""Random networks over graphs: their design, their masks against plain torch, and their losses many at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dags import network
from prunecast.errors import UserError
from prunecast.graph import edge_masks, random_dags
from prunecast.seeding import generator
from torch.nn import functional


def masks_of(subject, count, keep_rate=0.6):
    return edge_masks.at_random(len(subject.graph.edges), keep_rate, count, generator(1, "masks"))


@pytest.mark.parametrize(("iterations", "least", "most"), [(2, 10, 15), (5, 20, 40), (14, 50, 100), (30, 101, 150)])
def test_a_design_has_as_many_edges_as_in_the_source_study(iterations, least, most):
    for net in range(5):
        design = random_dags.random_design(iterations, 784, 10, generator(net, "design"))
        assert least <= len(design.graph.edges) <= most
        assert design.graph.connected(np.ones(len(design.graph.edges), bool)).all()
        assert design.graph.needed(np.ones(len(design.graph.edges), bool)).all()


def test_two_parents_differ_where_there_are_two():
    design = random_dags.random_design(8, 784, 10, generator(0, "design"))
    parents = [[source for _, source in design.graph.into[vertex]] for vertex in range(1, 25)]
    pairs = [(parents[first][0], parents[first + 1][0]) for first in range(3, 24, 3)]
    assert all(a != b for a, b in pairs)


def test_a_design_without_iterations_is_refused():
    with pytest.raises(UserError, match="1 iteration"):
        random_dags.random_design(0, 784, 10, generator(0, "design"))


def test_a_masked_network_is_the_network_with_what_its_edges_carry_multiplied():
    subject = network()
    layers, into, joint = subject.network.layers, subject.graph.into, len(subject.graph.vertices) - 2
    for mask in masks_of(subject, 10):
        values = [functional.relu(layers[0](subject.pixels))]
        for vertex in range(1, len(layers)):
            carried = [values[source] * float(mask[edge]) for edge, source in into[vertex]]
            value = layers[vertex](torch.cat(carried, 1) if vertex == joint else sum(carried))
            values.append(value if vertex == joint + 1 else functional.relu(value))
        found = subject.network(subject.pixels, torch.from_numpy(mask)[None].float())[0]
        torch.testing.assert_close(found, values[-1])


@pytest.mark.parametrize("keep_rate", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_losses_many_at_a_time_are_those_of_one_at_a_time(keep_rate):
    subject = network(iterations=6)
    masks = masks_of(subject, 60, keep_rate)
    with torch.no_grad():
        alone = [float(subject.gated_losses(torch.from_numpy(mask)[None].float())) for mask in masks]
    np.testing.assert_allclose(subject.losses(masks), alone, atol=1e-5)


def test_the_bound_on_memory_changes_no_loss():
    subject = network(iterations=6)
    masks = masks_of(subject, 60)
    np.testing.assert_allclose(replace(subject, memory=1).losses(masks), subject.losses(masks), atol=1e-6)


def test_activations_stay_within_the_bound_on_memory():
    subject = network(iterations=6, examples=500)
    masks = masks_of(subject, 60, 0.9)
    largest = 0

    class Watched(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel() * result.element_size())
            return result

    bound = 1 << 20
    with Watched():
        replace(subject, memory=bound).losses(masks)
    assert largest <= bound


def test_no_masks_have_no_losses():
    assert network().losses(np.zeros((0, len(network().graph.edges)), bool)).shape == (0,)


def test_a_disconnected_output_has_the_loss_of_constant_logits():
    subject = network()
    none = np.zeros(len(subject.graph.edges), bool)
    logits = subject.network.layers[-1].bias.detach().expand(subject.examples, -1)
    assert subject.losses(none)[0] == pytest.approx(float(functional.cross_entropy(logits, subject.labels)), abs=1e-6)


def test_a_network_on_its_first_examples_has_their_losses():
    subject = network()
    part = replace(subject, pixels=subject.pixels[:7], labels=subject.labels[:7])
    masks = masks_of(subject, 5)
    assert subject.on(7).examples == 7
    np.testing.assert_array_equal(subject.on(7).losses(masks), part.losses(masks))


def test_the_gradient_in_the_gates_is_that_of_finite_differences():
    subject = network()
    doubled = replace(subject, network=subject.network.double(), pixels=subject.pixels.double())
    gates = torch.rand(2, len(subject.graph.edges), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(doubled.gated_losses, gates)


def test_the_norm_of_an_edge_is_the_mean_absolute_value_of_its_source():
    subject = network()
    found = subject.edge_norms()
    first = functional.relu(subject.network.layers[0](subject.pixels)).abs().mean().item()
    assert found[0] == pytest.approx(first)
    assert found.shape == (len(subject.graph.edges),)


def test_a_network_learns_and_the_same_seed_gives_the_same_network():
    subject = network(examples=300)
    labels = subject.pixels[:, :3].argmax(1)
    before = float(functional.cross_entropy(subject.network(subject.pixels)[0], labels))
    random_dags.train(subject.network, subject.pixels, labels, 20, 0, "test")
    again = network(examples=300)
    random_dags.train(again.network, again.pixels, labels, 20, 0, "test")
    assert float(functional.cross_entropy(subject.network(subject.pixels)[0], labels)) < before / 2
    torch.testing.assert_close(again.network.state_dict(), subject.network.state_dict(), rtol=0, atol=0)
