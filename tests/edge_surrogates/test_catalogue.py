from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pytest
import torch
from prunecast.edge_surrogates.catalogue import ENTRIES, unfitted
from prunecast.errors import UserError
from prunecast.graph.edge_masks import leave_one_out
from prunecast.graph.structure import Graph
from prunecast.seeding import generator
from torch import Tensor

DIAMOND = Graph(("in", "a", "b", "out"), ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3)))
ALL = np.array(list(np.ndindex((2,) * 5)), bool)
NORMS = np.array([2.0, 6.0, 1.0, 3.0, 5.0])


@dataclass(frozen=True)
class Flows:
    """A network whose loss falls with the sum over its paths, and that counts its forward passes."""

    counted: list[int]
    graph: Graph = DIAMOND
    examples: int = 1

    def gated_losses(self, gates: Tensor) -> Tensor:
        self.counted.append(len(gates))
        a, b, c, d, e = gates.T
        return torch.exp(-(0.8 * a * d + b * e + 0.4 * a * c * e))

    def losses(self, masks) -> np.ndarray:
        return self.gated_losses(torch.from_numpy(self.graph.checked(masks).astype(np.float32))).double().numpy()

    def edge_norms(self) -> np.ndarray:
        self.counted.append(1)
        return NORMS

    def on(self, count: int) -> Self:
        return replace(self, examples=count)


@pytest.fixture
def network() -> Flows:
    return Flows([])


def additive(masks: np.ndarray) -> np.ndarray:
    return 0.3 + ~masks.astype(bool) @ np.array([0.4, 0.1, 0.0, 0.7, -0.05])


@pytest.mark.parametrize("name", ENTRIES)
def test_every_surrogate_forecasts_a_finite_number_a_mask(name: str, network: Flows, monkeypatch):
    monkeypatch.setattr("prunecast.edge_surrogates.flow.EPOCHS", 20)
    masks = leave_one_out(5)
    model = unfitted(name, network, 0)
    assert model.fit(masks, network.losses(masks)) is model
    forecast = model.predict(ALL)
    assert forecast.shape == (32,)
    assert forecast.dtype == float
    assert np.isfinite(forecast).all()
    assert model.predict(ALL[3]).shape == (1,)
    with pytest.raises(UserError, match="5 edges"):
        model.predict(np.ones((2, 4), bool))


@pytest.mark.parametrize("name", sorted(set(ENTRIES) - {"constant", "reachability"}))
def test_forecasts_are_larger_where_losses_are(name: str, network: Flows):
    masks = leave_one_out(5)
    forecast = unfitted(name, network, 0).fit(masks, network.losses(masks)).predict(ALL)
    assert np.corrcoef(forecast, network.losses(ALL))[0, 1] > 0.3
    assert forecast[-1] < forecast[0]  # all edges, no edge


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.observes == "none"])
def test_what_observes_nothing_costs_no_masks_and_forecasts_without_them(name: str, network: Flows):
    model, entry = unfitted(name, network, 0), ENTRIES[name]
    before = model.predict(ALL)
    np.testing.assert_array_equal(model.fit(ALL[:3], [1.0, 2.0, 3.0]).predict(ALL), before)
    assert entry.cost(5, 100) == entry.cost(5) >= sum(network.counted)


def test_costs_are_evaluations_of_the_network():
    costs = {name: entry.cost(100, 500) for name, entry in ENTRIES.items()}
    assert costs["reachability"] == costs["path_count"] == costs["keep_rate"] == costs["constant"] == 0
    assert costs["path_products"] == costs["activation_norm"] == 1
    assert costs["gate_gradient"] == costs["taylor"] == 3
    assert costs["gate_integrated_gradients"] == 31
    assert costs["gate_hessian"] == costs["gate_hessian_diagonal"] == 603
    assert costs["leave_one_out"] == costs["flow"] == 102
    assert {costs[name] for name, entry in ENTRIES.items() if entry.observes == "masks"} == {500}


def test_integrated_gradients_take_as_many_passes_as_they_cost(network: Flows):
    unfitted("gate_integrated_gradients", network, 0)
    assert sum(network.counted) == 11  # ten of them with a gradient, 3 each, and one without


def test_leave_one_out_is_exact_on_an_additive_loss(network: Flows):
    masks = leave_one_out(5)[::-1]
    model = unfitted("leave_one_out", network, 0).fit(masks, additive(masks))
    np.testing.assert_allclose(model.predict(ALL), additive(ALL))


@pytest.mark.parametrize("name", ["least_squares", "ridge"])
def test_linear_models_are_exact_on_an_additive_loss(name: str, network: Flows):
    masks = ALL[generator(0, "masks").permutation(32)[:20]]
    model = unfitted(name, network, 0).fit(masks, additive(masks))
    np.testing.assert_allclose(model.predict(ALL), additive(ALL), atol=2e-3)


@pytest.mark.parametrize(("row", "words"), [(0, "all edges kept"), (4, "the removal of a → b alone|in → a|a → b")])
def test_leave_one_out_says_which_mask_is_absent(row: int, words: str, network: Flows):
    masks = np.delete(leave_one_out(5), row, 0)
    with pytest.raises(UserError, match=words):
        unfitted("leave_one_out", network, 0).fit(masks, additive(masks))


def test_numbers_that_a_mask_alone_gives(network: Flows):
    masks = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)

    def forecast(name: str) -> np.ndarray:
        return unfitted(name, network, 0).predict(masks)

    np.testing.assert_allclose(forecast("keep_rate"), [0, 0.4, 0.6, 1])
    np.testing.assert_allclose(forecast("reachability"), [0, 0, 1, 1])
    np.testing.assert_allclose(forecast("path_count"), [0, 2 / 3, 1, 1])
    np.testing.assert_allclose(forecast("path_products"), [0, 1 - 0.25 * 0.25, 1, 1], atol=1e-12)
    np.testing.assert_allclose(forecast("constant"), np.zeros(4))


def test_a_graph_without_a_path_has_no_flow_to_lose():
    apart = Flows([], Graph(("in", "a", "out"), ((0, 1),)))
    np.testing.assert_allclose(unfitted("path_count", apart, 0).predict([[0], [1]]), [1, 1])


def test_a_name_that_does_not_exist_is_reported(network: Flows):
    with pytest.raises(UserError, match="no edge surrogate 'flows'; there are constant, keep_rate"):
        unfitted("flows", network, 0)
