"""What is said of a graph from masks of its edges, against networkx and by hand."""

from itertools import product

import networkx
import numpy as np
import pytest
from prunecast.errors import UserError
from prunecast.graph.structure import Graph

DIAMOND = Graph(("in", "a", "b", "out"), ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3)))
MASKS = np.array(list(product([False, True], repeat=5)))


def kept(mask):
    found = networkx.DiGraph()
    found.add_nodes_from(range(4))
    found.add_edges_from(edge for edge, stays in zip(DIAMOND.edges, mask, strict=True) if stays)
    return found


def test_reached_and_needed_vertices_are_those_of_networkx():
    reached, needed = DIAMOND.reached(MASKS), DIAMOND.needed(MASKS)
    for row, mask in enumerate(MASKS):
        graph = kept(mask)
        assert set(np.flatnonzero(reached[row])) == networkx.descendants(graph, 0) | {0}
        assert set(np.flatnonzero(needed[row])) == networkx.ancestors(graph, 3) | {3}
    assert (DIAMOND.connected(MASKS) == reached[:, 3]).all()


def test_the_flow_is_the_sum_over_all_paths():
    coefficients = np.array([0.5, 2.0, 3.0, 5.0, 7.0])
    number = {edge: place for place, edge in enumerate(DIAMOND.edges)}
    flows, counts = DIAMOND.flow(MASKS, coefficients), DIAMOND.flow(MASKS)
    for row, mask in enumerate(MASKS):
        paths = list(networkx.all_simple_edge_paths(kept(mask), 0, 3))
        assert counts[row] == len(paths)
        expected = sum(np.prod([coefficients[number[edge]] for edge in path]) for path in paths)
        assert flows[row] == pytest.approx(expected)


def test_an_edge_is_live_if_the_output_can_be_reached_from_its_target():
    live = DIAMOND.live([[True, True, True, True, False]])
    assert live.tolist() == [[True, False, False, True, False]]


def test_a_live_edge_that_the_input_does_not_reach_carries_no_input():
    mask = [[False, False, True, False, True]]
    assert DIAMOND.live(mask).tolist() == mask
    assert not DIAMOND.carrying(mask).any()


def test_edges_are_named_after_their_ends():
    assert DIAMOND.names[2] == "a → b"


@pytest.mark.parametrize("masks", [np.ones((2, 4), bool), np.ones((1, 2, 5), bool), np.ones(6, bool)])
def test_a_mask_of_the_wrong_length_is_refused_in_a_sentence(masks):
    with pytest.raises(UserError, match="5 edges"):
        DIAMOND.flow(masks)


def test_gates_are_no_masks():
    with pytest.raises(UserError, match="other than 0"):
        DIAMOND.connected([[0.5, 1, 1, 1, 1]])


def test_an_edge_that_leads_backwards_is_refused():
    with pytest.raises(UserError, match="later"):
        Graph(("in", "out"), ((1, 0),))
