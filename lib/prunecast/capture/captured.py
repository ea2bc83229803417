"""Image networks of others with gates on the edges of their computation graph, many masks evaluated at once."""

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from prunecast.capture.junctions import junctions
from prunecast.capture.node_values import NodeValues, close, each_of
from prunecast.capture.removal import Removed, without_branches
from prunecast.capture.shared_states import Plan, filled, gated, plan_of_gates, plan_of_masks, selected
from prunecast.capture.tracing import checked_logits, traced
from prunecast.errors import UserError
from prunecast.graph.structure import Masks, Numbers

Ablation = Literal["zero", "mean"]
MEMORY = 1 << 26  # bytes of activations


def capture(
    module: nn.Module, images: Tensor, classes: Tensor, *, ablation: Ablation = "zero", memory: int = MEMORY
) -> "CapturedNetwork":
    """Give gates to the edges of the computation graph of an image network.

    Args:
        module: The network from images (n, …) to logits (n, classes), or to a mapping with `logits`; it is left
            unchanged, and is evaluated as in evaluation mode.
        images: The examples (n, …), of the type and on the device of the module's parameters.
        classes: Index (n,) of their classes.
        ablation: What a removed edge carries: 0 (`zero`), or the mean over the examples of its activation without
            removal (`mean`).
        memory: Bytes of activations that are held at a time, at most, but for one example under one mask.

    Returns:
        The network with gates.

    Raises:
        UserError: The module cannot be traced, the sentence says where; its output is not logits; it treats images
            according to the others beside them; or the classes are not those of its logits.
    """
    return CapturedNetwork(module, images, classes, ablation, memory)


class CapturedNetwork:
    """An image network whose edges have gates: a `MaskedNetwork`.

    The vertices are the input, the output, operations on several tensors (sums, products, concatenations) and tensors
    that are used more than once; an edge is all that lies between two of them. A gate multiplies what its edge carries
    at the end, after bias and batch norm. With the ablation `zero` a removed edge carries 0. With `mean` it carries
    the mean of its activation over the examples of the network that was captured, without removal. The loss is the mean
    cross-entropy. A network whose output is disconnected gives the same logits for all images: what the layers behind
    the removed edges make of 0, or of the means.

    Attributes:
        graph: The graph.
        labels: For each edge the modules in it, as in `layer1.0.conv1…bn2`, or the place of a shortcut, as in
            `layer1.0.identity`; unlike `graph.names`, no two are equal.
        ablation: What a removed edge carries.
        memory: Bytes of activations held at a time, at most, but for one example under one mask.

    Source: Shah, Ilyas and Madry (2024), "Decomposing and Editing Predictions by Modeling Model Computation", for the
    question; Miller, Chughtai and Saunders (2024), "Transformer Circuit Faithfulness Metrics are not Robust", for the
    kinds of ablation, between which the ranking of edges differs.
    """

    def __init__(self, module: nn.Module, images: Tensor, classes: Tensor, ablation: Ablation, memory: int):
        name, count = type(module).__name__, len(images)
        if ablation not in get_args(Ablation):
            raise UserError(f"there is no ablation {ablation!r}; there are {', '.join(get_args(Ablation))}")
        if not count or classes.shape != (count,):
            raise UserError(f"there are {count} images, but the classes have the shape {tuple(classes.shape)}")
        self.ablation, self.memory, self._images, self._classes = ablation, memory, images, classes.long()
        pair = images[:2] if count > 1 else images.repeat(2, *[1] * (images.dim() - 1))
        expected = checked_logits(module, pair, self._classes)
        self._module = traced(module, pair).requires_grad_(False)
        self._values = NodeValues(self._module, pair)
        self._junctions = junctions(self._module, self._values.active)
        self.graph, self.labels = self._junctions.graph, self._junctions.labels
        one, two = (values[self._junctions.values[-1]] for values in (self._values.one, self._values.two))
        if not close(two, expected):
            raise UserError(f"the graph that was captured of {name} gives other logits than {name} itself")
        if not close(two[:1], one):
            raise UserError(f"the logits that {name} gives for an image depend on the other images beside it")
        last = dict(sorted(self.graph.edges, key=lambda edge: edge[1]))  # target that needs the value of a vertex last
        self._last_used = [
            [source for source in last if last[source] == vertex] for vertex in range(len(self.graph.vertices))
        ]
        self._means = self._mean_activations() if ablation == "mean" else []

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self._images)

    def on(self, count: int) -> Self:
        """The same network on its first `count` examples; the means of the ablation `mean` stay."""
        if not 0 < count <= self.examples:
            raise UserError(f"the network has {self.examples} examples, of which {count} were asked for")
        part = copy.copy(self)
        part._images, part._classes = self._images[:count], self._classes[:count]
        return part

    def gated_losses(self, gates: Tensor) -> Tensor:
        """Mean loss over the examples, differentiable in the gates.

        Args:
            gates: Factors (m, edges) of what the edges carry; 1 keeps an edge, 0 removes it. With the ablation `mean`,
                a gate g gives g times the activation and 1 - g times its mean.

        Returns:
            The losses (m,) in nats, in double precision.

        Raises:
            UserError: They are not one number an edge.
        """
        if gates.dim() != 2 or gates.shape[1] != len(self.graph.edges):
            raise UserError(
                f"the graph has {len(self.graph.edges)} edges, but the gates have the shape {tuple(gates.shape)}"
            )
        graded = torch.is_grad_enabled() and gates.requires_grad
        fitting = max(1, self.memory // max(1, self._bytes(plan_of_gates(self.graph, 1), graded)))
        losses = [gates.new_zeros(0, dtype=torch.float64)]
        for part in torch.split(gates, fitting):
            plan = plan_of_gates(self.graph, len(part))
            losses.append(self._mean_losses(plan, part, graded))
        return torch.cat(losses)

    @torch.no_grad()
    def losses(self, masks: ArrayLike) -> Numbers:
        """Mean loss over the examples for each mask.

        What is the same under several masks is computed once for all of them.

        Args:
            masks: Booleans (m, edges), true for an edge that stays.

        Returns:
            The losses (m,) in nats.

        Raises:
            UserError: They are not one boolean an edge, or a loss is not finite.
        """
        live, inverse = np.unique(self.graph.live(masks), axis=0, return_inverse=True)
        parts = [self._mean_losses(plan)[plan.outcomes] for plan in self._plans(live)]
        found = np.concatenate([np.zeros(0), *(part.numpy(force=True) for part in parts)])[inverse.reshape(-1)]
        if wrong := np.flatnonzero(~np.isfinite(found)).tolist():
            raise UserError(f"the loss under mask {wrong[0]} is {found[wrong[0]]}, which is not a finite number")
        return found

    def without(self, mask: ArrayLike) -> nn.Module:
        """The network without the removed edges: a smaller module, whose logits are those of the mask.

        Sums lose the removed terms, and what nothing needs any more is neither computed nor stored. Where an edge must
        carry something, as in a concatenation, 0 or the mean takes its place.

        Args:
            mask: Booleans (edges,), true for an edge that stays.

        Returns:
            A module from images (n, …) to logits (n, classes) in evaluation mode, whose parameters and buffers have the
            names that they have in the original.

        Raises:
            UserError: It is not one boolean an edge.
        """
        live = self.graph.live(mask)
        if len(live) != 1:
            raise UserError(f"edges are removed by one mask, not by {len(live)}")
        removed = [
            Removed(branch, self._means[edge] if self._means else None)
            for edge, branch in enumerate(self._junctions.branches)
            if not live[0][edge]
        ]
        return without_branches(self._module, self._junctions, removed, self._values.one, self._values.two)

    def _mean_activations(self) -> list[Tensor]:
        """For each edge, the mean over the examples of what it carries without removal."""
        ends = [branch.end for branch in self._junctions.branches]
        for end, label in zip(ends, self.labels, strict=True):
            one, two = self._values.one[end], self._values.two[end]
            if not isinstance(one, Tensor) or not one.is_floating_point() or (len(one), len(two)) != (1, 2):
                raise UserError(f"the edge {label} does not carry one activation an example, which has no mean")
        size = max(1, self.memory // max(1, sum(self._values.size.values())))
        sums: list[Tensor] = [torch.zeros_like(self._values.one[end][0], dtype=torch.float64) for end in ends]
        for images in torch.split(self._images, size):
            values = self._values.of(images, set(ends))
            for total, end in zip(sums, ends, strict=True):
                total += values[end].sum(0, dtype=torch.float64)
        return [(total / self.examples).to(self._values.one[end]) for total, end in zip(sums, ends, strict=True)]

    def _plans(self, live: Masks) -> Iterator[Plan]:
        """The plan of all masks or, where the memory is too small for one example, those of both halves."""
        plan = plan_of_masks(self.graph, live)
        if len(live) > 1 and self._bytes(plan, False) > self.memory:
            for half in np.array_split(live, 2):
                yield from self._plans(half)
        elif len(live):
            yield plan

    def _bytes(self, plan: Plan, graded: bool) -> int:
        """Bytes of the activations of one example that are held at a time, or all where gradients are computed."""
        held = most = total = 0
        for vertex, into in enumerate(self.graph.into):
            states, work = len(plan.states[vertex]), 0
            for edge, source in into:
                branch = self._junctions.branches[edge]
                sizes = [self._values.size[each] for each in (self._junctions.values[source], *branch.nodes)]
                most = max(most, held + work + len(plan.taken[edge]) * max(map(sum, pairwise([0, *sizes]))))
                work += 2 * states * self._values.size[branch.end]
                total += len(plan.taken[edge]) * sum(sizes)
            body = [states * self._values.size[node] for node in self._junctions.bodies[vertex]]
            most = max(most, held + work + sum(sorted(body)[-2:]))
            total += work + sum(body)
            held += states * self._values.size[self._junctions.values[vertex]]
            held -= sum(
                len(plan.states[each]) * self._values.size[self._junctions.values[each]]
                for each in self._last_used[vertex]
            )
        return total if graded else most

    def _mean_losses(self, plan: Plan, gates: Tensor | None = None, graded: bool = False) -> Tensor:
        """Mean loss of each state of the output."""
        size = max(1, self.memory // max(1, self._bytes(plan, graded)))
        total = torch.zeros(len(plan.states[-1]), dtype=torch.float64, device=self._images.device)
        for images, classes in zip(torch.split(self._images, size), torch.split(self._classes, size), strict=True):
            if graded and size < self.examples:  # computed again for the gradient, so that one part is held at a time
                given = (plan, images, classes, gates)
                total = total + checkpoint(self._sums, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                total = total + self._sums(plan, images, classes, gates)
        return total / self.examples

    def _sums(self, plan: Plan, images: Tensor, classes: Tensor, gates: Tensor | None) -> Tensor:
        """Sum of the losses of some images, for each state of the output."""
        logits: Tensor = self._logits(plan, images, gates).double()
        losses = functional.cross_entropy(logits.flatten(0, 1), classes.repeat(len(logits)), reduction="none")
        return losses.view(len(logits), -1).sum(1)

    def _logits(self, plan: Plan, images: Tensor, gates: Tensor | None) -> Any:
        """Logits (states, n, classes)."""
        self._values.fix(images)
        values: dict[int, Any] = {0: images[None]}
        for vertex, into in list(enumerate(self.graph.into))[1:]:
            if len(plan.states[vertex]):
                given = {
                    self._junctions.branches[edge].end: self._carried(
                        edge, values.get(source), plan, len(images), gates
                    )
                    for edge, source in into
                }
                for node in self._junctions.bodies[vertex]:
                    given = {node: self._values.computed(node, given, len(images))}
                values[vertex] = given[self._junctions.values[vertex]]
            for each in self._last_used[vertex]:
                values.pop(each, None)
        return values[len(self.graph.vertices) - 1]

    def _carried(self, edge: int, value: Any, plan: Plan, count: int, gates: Tensor | None) -> Any:
        """What an edge carries for each state of its target, from the states of its source."""
        branch, taken, placed = self._junctions.branches[edge], plan.taken[edge], plan.placed[edge]
        kept = placed >= 0
        if not kept.any():
            return self._blank(edge, len(placed), count)
        given = {self._junctions.values[branch.source]: each_of(lambda x: selected(x, taken), value)}
        for node in branch.nodes:
            given = {node: self._values.computed(node, given, count)}
        end = given[branch.end]
        if gates is not None:
            factors = gates[:, edge][torch.as_tensor(plan.states[branch.target], device=gates.device)]
            blank = self._means[edge] if self._means else None
            return each_of(lambda x: gated(selected(x, placed), factors, blank), end)
        if kept.all():
            return each_of(lambda x: selected(x, placed), end)
        return filled(self._blank(edge, len(placed), count), kept, end, placed[kept])

    def _blank(self, edge: int, states: int, count: int) -> Any:
        """What an edge carries that is removed."""
        if self._means:
            return self._means[edge].expand(states, count, *self._means[edge].shape).clone()
        return self._values.zeros(self._junctions.branches[edge].end, states, count)
