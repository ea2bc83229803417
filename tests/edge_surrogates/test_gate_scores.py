from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pytest
import torch
from prunecast.edge_surrogates import gate_scores
from prunecast.errors import UserError
from prunecast.graph.dag_losses import DagOnExamples
from prunecast.graph.random_dags import built, random_design
from prunecast.graph.structure import Graph
from prunecast.seeding import generator
from torch import Tensor

TRIANGLE = Graph(("in", "middle", "out"), ((0, 1), (0, 2), (1, 2)))


@dataclass(frozen=True)
class Smooth:
    """A network whose loss is a closed form of its gates."""

    graph: Graph = TRIANGLE
    examples: int = 1

    def gated_losses(self, gates: Tensor) -> Tensor:
        exact = gates.double()
        a, b, c = exact.T
        return torch.exp(-1.2 * a * c - 0.5 * b) + 0.1 * a**2

    def losses(self, masks) -> np.ndarray:
        return self.gated_losses(torch.from_numpy(self.graph.checked(masks).astype(float))).numpy()

    def on(self, count: int) -> Self:
        return replace(self, examples=count)


@pytest.fixture(scope="module")
def network() -> DagOnExamples:
    draws = generator(0, "gate scores")
    design = random_design(2, 6, 3, draws)
    examples = torch.from_numpy(draws.random((20, 6), np.float32))
    labels = torch.from_numpy(draws.integers(3, size=20))
    return DagOnExamples(built(design, 0, "gate scores"), examples, labels)


def slopes(network, step: float = 1e-4) -> np.ndarray:
    found = []
    for edge in range(len(network.graph.edges)):
        nudge = torch.zeros(1, len(network.graph.edges))
        nudge[0, edge] = step
        ahead, behind = (network.gated_losses(torch.ones_like(nudge) + sign * nudge) for sign in (1, -1))
        found.append((ahead - behind).item() / (2 * step))
    return np.array(found)


def test_the_gradient_of_the_gates_is_that_of_finite_differences():
    found = gate_scores.gate_gradient(Smooth())
    np.testing.assert_allclose(found.scores, -slopes(Smooth()), rtol=1e-3)
    assert found.predict(np.ones((1, 3), bool)) == pytest.approx(Smooth().losses(np.ones(3, bool)))
    assert found.predict([[1, 0, 1]])[0] == pytest.approx(found.loss + found.scores[1])


def test_the_gradient_of_a_network_over_a_graph_is_that_of_finite_differences(network: DagOnExamples):
    found = gate_scores.gate_gradient(network)
    np.testing.assert_allclose(found.scores, -slopes(network, 1e-2), atol=1e-3)
    assert found.loss == pytest.approx(network.losses(np.ones(len(network.graph.edges), bool))[0], rel=1e-5)


def test_integrated_gradients_add_up_to_the_whole_change_of_the_loss():
    found = gate_scores.integrated_gradients(Smooth(), steps=50)
    none, whole = Smooth().losses([[0, 0, 0], [1, 1, 1]])
    assert found.scores.sum() == pytest.approx(none - whole, rel=1e-3)
    np.testing.assert_allclose(found.predict([[0, 0, 0], [1, 1, 1]]), [none, whole], rtol=1e-3)


def test_integrated_gradients_of_ten_steps_are_the_mean_gradient_at_ten_midpoints():
    points = ((torch.arange(10) + 0.5) / 10)[:, None].expand(-1, 3).clone().requires_grad_()
    (expected,) = torch.autograd.grad(Smooth().gated_losses(points).sum(), points)
    np.testing.assert_allclose(gate_scores.integrated_gradients(Smooth()).scores, -expected.mean(0), rtol=1e-5)


def test_the_hessian_is_that_of_torch_and_gives_the_second_order_expansion():
    found = gate_scores.gate_hessian(Smooth())
    expected = torch.autograd.functional.hessian(lambda gates: Smooth().gated_losses(gates[None])[0], torch.ones(3))
    np.testing.assert_allclose(found.interactions, expected, atol=1e-5)
    removed = np.array([1.0, 0, 1])
    second = found.loss + found.scores @ removed + removed @ expected.numpy() @ removed / 2
    assert found.predict([[0, 1, 0]])[0] == pytest.approx(second, rel=1e-5)
    diagonal = gate_scores.gate_hessian(Smooth(), diagonal=True)
    np.testing.assert_allclose(diagonal.interactions, np.diag(np.diag(expected)), atol=1e-5)


def test_the_hessian_of_a_network_over_a_graph_is_that_of_torch(network: DagOnExamples):
    expected = torch.autograd.functional.hessian(
        lambda gates: network.gated_losses(gates[None])[0], torch.ones(len(network.graph.edges))
    )
    np.testing.assert_allclose(gate_scores.gate_hessian(network).interactions, expected, atol=1e-5)


def test_a_loss_that_is_linear_in_the_gates_has_no_second_derivatives():
    class Linear(Smooth):
        def gated_losses(self, gates: Tensor) -> Tensor:
            return 3 - gates @ torch.tensor([1.0, 0.5, 0.0])

    found = gate_scores.gate_hessian(Linear())
    np.testing.assert_array_equal(found.interactions, np.zeros((3, 3)))
    np.testing.assert_allclose(found.predict([[0, 1, 1], [1, 0, 0]]), [2.5, 2.0])


def test_taylor_scores_are_squared_and_grow_with_what_is_removed():
    found = gate_scores.taylor(Smooth())
    np.testing.assert_allclose(found.scores, slopes(Smooth()) ** 2, rtol=2e-3)
    few, many = found.predict([[1, 1, 0], [0, 1, 0]])
    assert many > few > 0


def test_what_edges_carry_orders_masks_by_the_share_that_is_removed(network: DagOnExamples):
    norms = network.edge_norms()
    masks = generator(1, "masks").random((7, len(norms))) < 0.5
    expected = (~masks * norms).sum(1) / norms.sum()
    np.testing.assert_allclose(gate_scores.activation_norm(network).predict(masks), expected)


def test_shares_of_what_leaves_a_vertex_add_up_to_one(network: DagOnExamples):
    shares, norms = gate_scores.leaving_shares(network), network.edge_norms()
    sources = np.array([source for source, _ in network.graph.edges])
    for source in set(sources.tolist()):
        own = sources == source
        np.testing.assert_allclose(shares[own], norms[own] / norms[own].sum())


def test_shares_are_equal_where_a_vertex_carries_nothing():
    class Silent(Smooth):
        def edge_norms(self) -> np.ndarray:
            return np.array([0.0, 0.0, 2.0])

    np.testing.assert_allclose(gate_scores.leaving_shares(Silent()), [0.5, 0.5, 1.0])


@pytest.mark.parametrize("score", [gate_scores.activation_norm, gate_scores.leaving_shares])
def test_a_network_that_does_not_measure_its_edges_is_reported(score):
    with pytest.raises(UserError, match=r"Smooth does not measure .* edge_norms"):
        score(Smooth())
