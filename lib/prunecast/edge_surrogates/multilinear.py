"""Sums over the paths of a graph of products along them, for many masks at once, and their gradients."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from prunecast.graph.structure import Graph

Arrays = NDArray[np.float32]


@dataclass(frozen=True)
class _Step:
    """Vertices of one level, and the edges over which a sum is taken for each of them.

    Attributes:
        edges: Places of these edges in the order of the sweep.
        starts: Where the edges of each vertex start.
        near: Places of the vertices that the sums are of.
        far: For each edge, the place of the vertex at its other end, whose value is already computed.
    """

    edges: slice
    starts: NDArray[np.int64]
    near: slice
    far: NDArray[np.int64]


@dataclass(frozen=True)
class _Sweep:
    """An order of the edges in which the vertices of one level are computed at once.

    Attributes:
        order: Numbers of the edges.
        steps: The levels.
    """

    order: NDArray[np.int64]
    steps: tuple[_Step, ...]

    @classmethod
    def over(cls, levels: NDArray[np.int64], near: NDArray[np.int64], far: NDArray[np.int64]) -> "_Sweep":
        """The sweep in the order of the levels of the vertices, from the near and far vertex of each edge."""
        order = np.lexsort((near, levels[near]))
        near, far = near[order], far[order]
        bounds = [*np.flatnonzero(np.diff(levels[near], prepend=-1)), len(order)]
        steps = []
        for low, high in pairwise(bounds):
            starts = np.flatnonzero(np.diff(near[low:high], prepend=-1))
            steps.append(_Step(slice(low, high), starts, slice(near[low], near[high - 1] + 1), far[low:high]))
        return cls(order, tuple(steps))

    def run(self, values: Arrays, masks: Arrays, matrices: Arrays | None) -> None:
        """Compute `values` (vertices, k, m) level by level, in place.

        Args:
            values: Values, those without a known sum already set.
            masks: Factors (edges, 1, m) of the edges, in the order of the sweep.
            matrices: Matrices (edges, k, k) in that order; none where the masks are multiplied by coefficients.
        """
        for step in self.steps:
            carried = values.take(step.far, 0)
            if matrices is not None:
                carried = matrices[step.edges] @ carried
            carried *= masks[step.edges]
            np.add.reduceat(carried, step.starts, 0, out=values[step.near])


class Multilinear:
    """Sums over the paths of a graph of products of matrices (k, k), one an edge, and their gradients.

    The value of the input is the vector of ones; that of another vertex is the sum, over the kept edges into it, of the
    edge's matrix times the value of the source.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph):
        self.vertices = len(graph.vertices)
        sources, targets = np.array(graph.edges, np.int64).reshape(-1, 2).T
        levels = np.zeros(self.vertices, np.int64)
        for vertex, edges in enumerate(graph.into):
            levels[vertex] = max((levels[source] + 1 for _, source in edges), default=0)
        without_edges = ~np.isin(np.arange(self.vertices), sources)
        order = np.lexsort((without_edges, levels))  # so that the vertices of a step are neighbours in both sweeps
        place = np.argsort(order)
        self.sources, self.targets, self.output = place[sources], place[targets], place[-1]
        self._forward = _Sweep.over(levels[order], self.targets, self.sources)
        self._backward = _Sweep.over(levels.max() - levels[order], self.sources, self.targets)

    def values(self, masks: Arrays, matrices: Arrays) -> Arrays:
        """Values (vertices, k, m) of all vertices, in an order of its own.

        Args:
            masks: Factors (edges, 1, m).
            matrices: Matrices (edges, k, k).

        Returns:
            The values; those of the output are at `output`.
        """
        values = np.zeros((self.vertices, matrices.shape[1], masks.shape[2]), np.float32)
        values[0] = 1
        self._forward.run(values, *_ordered(masks, matrices, self._forward.order))
        return values

    def gradient(self, masks: Arrays, matrices: Arrays, values: Arrays, of_output: Arrays) -> Arrays:
        """Gradient (edges, k, k) with respect to the matrices.

        Args:
            masks: Factors (edges, 1, m).
            matrices: Matrices (edges, k, k).
            values: Values of all vertices, as of `values`.
            of_output: Gradient with respect to the value of the output (k, m).

        Returns:
            The gradient, summed over the masks.
        """
        later = np.zeros_like(values)
        later[self.output] = of_output
        self._backward.run(later, *_ordered(masks, matrices.transpose(0, 2, 1), self._backward.order))
        arriving = later.take(self.targets, 0)
        arriving *= masks
        found: Arrays = arriving @ values.take(self.sources, 0).transpose(0, 2, 1)
        return found


def _ordered(masks: Arrays, matrices: Arrays, order: NDArray[np.int64]) -> tuple[Arrays, Arrays | None]:
    if matrices.shape[1] == 1:
        return (masks * matrices).take(order, 0), None
    return masks.take(order, 0), matrices[order]
