import numpy as np
import pytest
import torch
from prunecast.edge_surrogates.flow import Adam, ChannelFlow, Flow, Scale
from prunecast.errors import UserError
from prunecast.graph.edge_masks import leave_one_out
from prunecast.graph.random_dags import random_design
from prunecast.graph.structure import Graph
from prunecast.seeding import generator

DIAMOND = Graph(("in", "a", "b", "out"), ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3)))
CONSERVED = np.array([0.7, 0.3, 0.2, 0.8, 1.0])  # the edges leaving a vertex add up to 1
ALL = np.array(list(np.ndindex((2,) * 5)), bool)


def flow_of(masks: np.ndarray) -> np.ndarray:
    """By explicit paths: in-a-out, in-b-out, in-a-b-out."""
    kept = masks.astype(float)
    return (
        0.7 * 0.8 * kept[:, 0] * kept[:, 3]
        + 0.3 * kept[:, 1] * kept[:, 4]
        + 0.7 * 0.2 * kept[:, 0] * kept[:, 2] * kept[:, 4]
    )


def test_flow_finds_the_coefficients_of_a_conserved_flow_and_forecasts_in_nats():
    losses = 2.3 - 2.1 * flow_of(ALL)
    model = Flow(DIAMOND, 0).fit(ALL, losses)
    np.testing.assert_allclose(model.coefficients, CONSERVED, atol=0.01)
    np.testing.assert_allclose(model.predict(ALL), losses, atol=0.02)
    assert model.predict(np.ones(5, bool)) == pytest.approx(0.2)  # flow is conserved, so it is the smallest loss


def test_flow_with_channels_learns_any_sum_over_paths_and_a_constant():
    weights = (1.4, -0.5, 0.3, 0.8, 0.9)  # not conserved, and one of them below 0
    masks = np.repeat(ALL, 20, 0)  # enough for the prior to count for little
    losses = 1.1 - 0.6 * DIAMOND.flow(masks, weights)
    model = ChannelFlow(DIAMOND, 0).fit(masks, losses)
    np.testing.assert_allclose(model.predict(masks), losses, atol=0.02)


def test_two_channels_learn_that_each_edge_into_a_vertex_feeds_another_edge_out_of_it():
    chain = Graph(("in", "a", "b", "out"), ((0, 1), (0, 1), (1, 2), (1, 2), (2, 3)))
    masks = np.repeat(np.array(list(np.ndindex((2,) * 5)), bool), 20, 0)
    kept = masks.astype(float)
    losses = 1 - kept[:, 4] * (kept[:, 0] * kept[:, 2] + kept[:, 1] * kept[:, 3])
    scalar, two = (ChannelFlow(chain, 0, channels).fit(masks, losses) for channels in (1, 2))
    assert ((scalar.predict(masks) - losses) ** 2).mean() > 0.03
    assert ((two.predict(masks) - losses) ** 2).mean() < 0.001


def test_the_error_of_the_flow_with_channels_has_the_gradient_of_finite_differences():
    model = ChannelFlow(DIAMOND, 0)
    masks, targets = ALL.T[:, None].astype(np.float32), np.linspace(0, 1, len(ALL))
    point = generator(0, "point").normal(size=5 * 4 + 3)
    _, gradient = model._error(point, masks, targets)
    for place in range(len(point)):
        step = np.eye(len(point))[place] * 1e-2
        slope = (model._error(point + step, masks, targets)[0] - model._error(point - step, masks, targets)[0]) / 2e-2
        assert gradient[place] == pytest.approx(slope, rel=0.02, abs=0.02)


def test_adam_is_that_of_torch():
    expected = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    found = np.array([1.0, -2.0])
    theirs, ours = torch.optim.Adam([expected], 0.01), Adam(found, 0.01)
    for step in range(5):
        gradient = np.array([step - 1.5, 0.3])
        expected.grad = torch.from_numpy(gradient)
        theirs.step()
        ours.step(gradient)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind", [Flow, ChannelFlow])
def test_a_fit_depends_on_its_seed_alone(kind: type[Flow] | type[ChannelFlow], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prunecast.edge_surrogates.flow.EPOCHS", 20)
    graph = random_design(3, 20, 5, generator(0, "graph")).graph
    masks = np.concatenate([leave_one_out(len(graph.edges))] * 3)
    losses = generator(0, "losses").random(len(masks))
    first, again, other = (kind(graph, seed).fit(masks, losses).predict(masks) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("kind", [Flow, ChannelFlow])
def test_losses_that_are_all_the_same_are_forecast(kind: type[Flow] | type[ChannelFlow], monkeypatch):
    monkeypatch.setattr("prunecast.edge_surrogates.flow.EPOCHS", 20)
    model = kind(DIAMOND, 0).fit(np.ones((3, 5), bool), [0.4, 0.4, 0.4])
    np.testing.assert_allclose(model.predict(np.ones((1, 5), bool)), [0.4], atol=0.01)


def test_training_on_many_masks_ends_after_a_number_of_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prunecast.edge_surrogates.flow.MOST_STEPS", 7)
    steps: list[np.ndarray] = []
    monkeypatch.setattr(Adam, "step", lambda self, gradient: steps.append(gradient))
    Flow(DIAMOND, 0).fit(np.tile(ALL, (4, 1)), np.arange(128.0))
    assert len(steps) == 7


def test_targets_are_one_for_the_smallest_loss_and_zero_for_the_largest():
    scale = Scale.of([0.5, 2.5, 1.0])
    np.testing.assert_allclose(scale.targets([0.5, 1.0, 2.5]), [1, 0.75, 0])
    np.testing.assert_allclose(scale.losses([1, 0.75, 0]), [0.5, 1.0, 2.5])


@pytest.mark.parametrize(
    ("masks", "losses", "words"),
    [
        (np.ones((2, 5)), [1.0], "2 masks"),
        (np.ones((2, 5)), [[1.0], [2.0]], r"\(2, 1\)"),  # what the network of the source study was trained with
        (np.ones((0, 5)), [], "0 masks"),
        (np.ones((2, 5)), [1.0, np.nan], "1 of 2"),
        (np.ones((2, 4)), [1.0, 2.0], "5 edges"),
    ],
)
@pytest.mark.parametrize("kind", [Flow, ChannelFlow])
def test_wrong_observations_are_reported(kind: type[Flow] | type[ChannelFlow], masks, losses, words: str):
    with pytest.raises(UserError, match=words):
        kind(DIAMOND, 0).fit(masks, losses)
