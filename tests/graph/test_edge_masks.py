"""The masks that surrogates are fitted on and judged by."""

import numpy as np
import pytest
from prunecast.errors import UserError
from prunecast.graph import edge_masks
from prunecast.graph.structure import Graph
from prunecast.seeding import generator

CHAIN = Graph(("in", "a", "out"), ((0, 1), (1, 2)))


def test_the_masks_of_the_source_study_are_all_none_and_all_but_one():
    masks = edge_masks.leave_one_out(3)
    assert masks.sum(1).tolist() == [3, 0, 2, 2, 2]
    assert np.flatnonzero(~masks[2:])[:3].tolist() == [0, 4, 8]


def test_edges_stay_at_the_keep_rate():
    masks = edge_masks.at_random(50, 0.7, 400, generator(0, "masks"))
    assert masks.shape == (400, 50)
    assert masks.mean() == pytest.approx(0.7, abs=4 * (0.21 / masks.size) ** 0.5)


def test_only_masks_that_join_input_and_output_are_taken():
    masks = edge_masks.connected(CHAIN, 0.3, 500, generator(0, "masks"))
    assert masks.shape == (500, 2)
    assert masks.all()


def test_a_keep_rate_that_joins_hardly_anything_is_refused():
    with pytest.raises(UserError, match="larger"):
        edge_masks.connected(CHAIN, 0.0, 1, generator(0, "masks"))
