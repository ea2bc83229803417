import numpy as np
import pytest
from prunecast.edge_surrogates.multilinear import Multilinear
from prunecast.graph.structure import Graph
from prunecast.seeding import generator

BRANCHES = Graph(
    ("in", "a", "b", "dead end", "c", "not reached", "out"),
    ((4, 6), (0, 1), (0, 2), (1, 4), (1, 4), (2, 4), (2, 3), (1, 6), (5, 6)),  # in any order, an edge doubled
)


def paths(graph: Graph, start: int) -> list[list[int]]:
    if start == len(graph.vertices) - 1:
        return [[]]
    leaving = [(edge, target) for edge, (source, target) in enumerate(graph.edges) if source == start]
    return [[edge, *rest] for edge, target in leaving for rest in paths(graph, target)]


def drawn(channels: int) -> tuple[np.ndarray, np.ndarray]:
    draws = generator(0, "multilinear")
    masks = draws.random((6, len(BRANCHES.edges))) < 0.7
    masks[0] = True
    return masks, draws.normal(size=(len(BRANCHES.edges), channels, channels)).astype(np.float32)


def sums_over_paths(masks: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    totals = np.zeros((matrices.shape[1], len(masks)))
    for path in paths(BRANCHES, 0):
        vector = np.ones(matrices.shape[1])
        for edge in path:
            vector = matrices[edge].astype(float) @ vector
        totals += vector[:, None] * masks[:, path].all(1)
    return totals


@pytest.mark.parametrize("channels", [1, 3])
def test_the_value_of_the_output_is_the_sum_over_paths_of_products(channels: int):
    masks, matrices = drawn(channels)
    model = Multilinear(BRANCHES)
    values = model.values(masks.T[:, None].astype(np.float32), matrices)
    assert len(paths(BRANCHES, 0)) == 4
    np.testing.assert_allclose(values[model.output], sums_over_paths(masks, matrices), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_is_that_of_finite_differences(channels: int):
    masks, matrices = drawn(channels)
    model = Multilinear(BRANCHES)
    numbers = masks.T[:, None].astype(np.float32)
    slopes = generator(1, "slopes").normal(size=(channels, len(masks))).astype(np.float32)
    found = model.gradient(numbers, matrices, model.values(numbers, matrices), slopes)
    exact, step = matrices.astype(float), 1e-6
    for place in np.ndindex(exact.shape):
        nudge = np.zeros_like(exact)
        nudge[place] = step
        change = sums_over_paths(masks, exact + nudge) - sums_over_paths(masks, exact - nudge)
        assert found[place] == pytest.approx((slopes * change).sum() / (2 * step), rel=1e-3, abs=1e-4)


def test_a_graph_without_edges_gives_nothing():
    model = Multilinear(Graph(("in", "out"), ()))
    values = model.values(np.zeros((0, 1, 2), np.float32), np.zeros((0, 1, 1), np.float32))
    np.testing.assert_array_equal(values[model.output], np.zeros((1, 2)))
