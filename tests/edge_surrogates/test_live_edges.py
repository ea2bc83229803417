"""Our surrogates: what they may not distinguish, what they learn, and what they cost."""

import numpy as np
import pytest
from dags import network
from prunecast.edge_surrogates.gate_scores import integrated_gradients
from prunecast.edge_surrogates.live_edges import CarryingGradients, FewExamples, LiveEdgeProcess, chosen_masks, shares
from prunecast.graph import edge_masks
from prunecast.graph.structure import Graph
from prunecast.seeding import generator
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

DIAMOND = Graph(("in", "a", "b", "out"), ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3)))


@pytest.fixture(scope="module")
def subject():
    return network(iterations=5, examples=60)


def random_masks(graph, count, keep_rate=0.7):
    return edge_masks.at_random(len(graph.edges), keep_rate, count, generator(2, "masks"))


def test_shares_are_even_among_the_edges_into_a_vertex():
    np.testing.assert_allclose(shares(DIAMOND), [0.75, 0.25, 0.25, 0.5, 0.5])


def test_masks_of_the_same_network_have_the_same_forecast(subject):
    masks = random_masks(subject.graph, 40)
    process = LiveEdgeProcess(subject.graph).fit(masks, subject.losses(masks))
    np.testing.assert_allclose(process.predict(subject.graph.live(masks)), process.predict(masks))


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_forecasts_are_those_of_the_gaussian_process_of_scikit_learn(subject):
    masks, tested = random_masks(subject.graph, 30), random_masks(subject.graph, 80)[30:]
    losses = subject.losses(masks)
    process = LiveEdgeProcess(subject.graph).fit(masks, losses)
    length, linear, noise = process.setting
    kernel = ConstantKernel(1) + linear * DotProduct(0) + RBF((length / 2) ** 0.5) + WhiteKernel(noise)
    features = lambda those: np.c_[subject.graph.live(those), subject.graph.carrying(those)] * process.scale  # noqa: E731
    reference = GaussianProcessRegressor(kernel, alpha=0, optimizer=None, normalize_y=True)
    reference.fit(features(masks), losses)
    np.testing.assert_allclose(process.predict(tested), reference.predict(features(tested)), rtol=1e-6)


def test_it_orders_masks_better_than_by_their_number_of_edges(subject):
    edges = len(subject.graph.edges)
    masks = edge_masks.connected(subject.graph, 0.7, 2 * edges + 100, generator(0, "masks"))
    losses = subject.losses(masks)
    process = LiveEdgeProcess(subject.graph).fit(masks[: 2 * edges], losses[: 2 * edges])
    tested, true = masks[2 * edges :], losses[2 * edges :]
    by_number = abs(spearmanr(tested.sum(1), true).statistic)
    assert spearmanr(process.predict(tested), true).statistic > max(0.7, by_number)


def test_losses_that_are_all_the_same_are_forecast(subject):
    masks = random_masks(subject.graph, 5)
    np.testing.assert_allclose(LiveEdgeProcess(subject.graph).fit(masks, np.full(5, 2.0)).predict(masks), 2.0)


def test_gradients_count_an_edge_that_carries_nothing_as_removed(subject):
    masks = random_masks(subject.graph, 20)
    plain = integrated_gradients(subject).predict(subject.graph.carrying(masks))
    np.testing.assert_allclose(CarryingGradients(subject).predict(masks), plain)


def test_chosen_masks_are_different_networks_of_which_some_are_connected():
    graph = network(iterations=5).graph
    masks = chosen_masks(graph, 0.5, 30, generator(0, "chosen"))
    assert masks.shape == (30, len(graph.edges))
    assert len(np.unique(graph.live(masks), axis=0)) == 30
    assert graph.connected(masks).sum() == 9


def test_a_small_graph_gives_as_many_masks_as_it_has_networks():
    chain = Graph(("in", "a", "out"), ((0, 1), (1, 2)))
    assert len(chosen_masks(chain, 0.5, 30, generator(0, "chosen"))) == 3


def test_few_examples_keep_to_the_budget_and_are_exact_where_the_output_is_disconnected(subject):
    masks = random_masks(subject.graph, 40, 0.6)
    joined = subject.graph.connected(masks)
    assert 0 < joined.sum() < 40
    exact = subject.losses(masks)
    few = FewExamples(subject, 4).predict(masks)
    np.testing.assert_allclose(few[~joined], exact[~joined])
    count = (4 * subject.examples - int((~joined).sum())) // int(joined.sum())
    assert count < subject.examples
    np.testing.assert_allclose(few[joined], subject.on(count).losses(masks[joined]))


def test_a_large_budget_gives_the_losses_themselves(subject):
    masks = random_masks(subject.graph, 10)
    np.testing.assert_allclose(FewExamples(subject, 1000).predict(masks), subject.losses(masks))
