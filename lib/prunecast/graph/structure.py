"""The computation graph of a network, masks of its edges, and what can be said from a mask alone."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prunecast.errors import UserError

Masks = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph with one input and one output.

    Attributes:
        vertices: Names of the vertices; the first is the input, the last is the output.
        edges: Numbers of the source and of the target of each edge; a source comes before its target.

    Raises:
        UserError: An edge does not lead from a vertex to a later one.
    """

    vertices: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        for source, target in self.edges:
            if not 0 <= source < target < len(self.vertices):
                raise UserError(f"edge {source} → {target} does not lead from a vertex to a later one")

    @cached_property
    def into(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each vertex, the edges into it: pairs of the number of the edge and of its source."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.vertices]
        for edge, (source, target) in enumerate(self.edges):
            found[target].append((edge, source))
        return tuple(map(tuple, found))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the edges, of the form `source → target`."""
        return tuple(f"{self.vertices[source]} → {self.vertices[target]}" for source, target in self.edges)

    def checked(self, masks: ArrayLike) -> Masks:
        """Masks as a boolean array (m, edges).

        Args:
            masks: Booleans (m, edges), true for an edge that stays.

        Returns:
            The same.

        Raises:
            UserError: They are not one boolean an edge.
        """
        array = np.atleast_2d(np.asarray(masks))
        if array.ndim != 2 or array.shape[1] != len(self.edges):
            raise UserError(f"the graph has {len(self.edges)} edges, but the masks have the shape {array.shape}")
        if not np.isin(array, (0, 1)).all():
            raise UserError("a mask has values other than 0 (removed) and 1 (kept)")
        return array.astype(bool)

    def flow(self, masks: ArrayLike, coefficients: ArrayLike | None = None) -> Numbers:
        """Sum over the paths from input to output of the products of the coefficients of their edges.

        Args:
            masks: Booleans (m, edges), true for an edge that stays.
            coefficients: Coefficients (edges,); 1 for each, which counts paths, where absent.

        Returns:
            The sums (m,).
        """
        kept = self.checked(masks)
        weights = np.ones(len(self.edges)) if coefficients is None else np.asarray(coefficients, float)
        value = np.zeros((len(self.vertices), len(kept)))
        value[0] = 1
        for target, edges in enumerate(self.into):
            for edge, source in edges:
                value[target] += weights[edge] * kept[:, edge] * value[source]
        return np.asarray(value[-1])

    def connected(self, masks: ArrayLike) -> Masks:
        """Whether the output can be reached from the input, (m,)."""
        return self.reached(masks)[:, -1]

    def reached(self, masks: ArrayLike) -> Masks:
        """Which vertices can be reached from the input over kept edges, (m, vertices)."""
        kept = self.checked(masks)
        found = np.zeros((len(kept), len(self.vertices)), bool)
        found[:, 0] = True
        for edge, (source, target) in self._by_target:
            found[:, target] |= kept[:, edge] & found[:, source]
        return found

    def needed(self, masks: ArrayLike) -> Masks:
        """From which vertices the output can be reached over kept edges, (m, vertices)."""
        kept = self.checked(masks)
        found = np.zeros((len(kept), len(self.vertices)), bool)
        found[:, -1] = True
        for edge, (source, target) in reversed(self._by_target):
            found[:, source] |= kept[:, edge] & found[:, target]
        return found

    def live(self, masks: ArrayLike) -> Masks:
        """The kept edges whose target is needed: masks with the same live edges give the same network, (m, edges)."""
        targets = [target for _, target in self.edges]
        return self.checked(masks) & self.needed(masks)[:, targets]

    def carrying(self, masks: ArrayLike) -> Masks:
        """The live edges whose source is reached from the input, (m, edges); others carry constants."""
        sources = [source for source, _ in self.edges]
        return self.live(masks) & self.reached(masks)[:, sources]

    @cached_property
    def _by_target(self) -> list[tuple[int, tuple[int, int]]]:
        return sorted(enumerate(self.edges), key=lambda item: item[1][1])


class MaskedNetwork(Protocol):
    """A network whose edges have gates, with the examples that it is evaluated on."""

    @property
    def graph(self) -> Graph:
        """Its graph."""

    @property
    def examples(self) -> int:
        """Number of examples."""

    def gated_losses(self, gates: Tensor) -> Tensor:
        """Mean loss over the examples, differentiable in the gates.

        Args:
            gates: Factors (m, edges) of what the edges carry; 1 keeps an edge, 0 removes it.

        Returns:
            The losses (m,) in nats.
        """

    def losses(self, masks: ArrayLike) -> Numbers:
        """Mean loss over the examples for each mask, computed many at a time.

        Args:
            masks: Booleans (m, edges), true for an edge that stays.

        Returns:
            The losses (m,) in nats; where no kept path joins input and output, the loss of constant logits.

        Raises:
            UserError: They are not one boolean an edge.
        """

    def on(self, count: int) -> Self:
        """The same network on its first `count` examples."""
