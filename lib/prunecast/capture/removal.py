"""Branches physically removed from a traced graph."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from prunecast.capture.junctions import Branch, Junctions

SUMS, DIFFERENCES, PRODUCTS = ("add",), ("sub", "subtract"), ("mul", "multiply")


@dataclass(frozen=True)
class Removed:
    """A branch that is removed, and what takes its place.

    Attributes:
        branch: The branch.
        mean: What its target is given for each example; None for zeros.
    """

    branch: Branch
    mean: Tensor | None


def without_branches(
    module: fx.GraphModule,
    junctions: Junctions,
    removed: Sequence[Removed],
    one: Mapping[fx.Node, Any],
    two: Mapping[fx.Node, Any],
) -> fx.GraphModule:
    """A traced module without some branches.

    Sums lose their terms, products with a removed factor are zero, and what nothing needs any more is dropped.

    Args:
        module: The traced module, left unchanged.
        junctions: Its junctions.
        removed: The branches to remove.
        one: Value of each node for one example.
        two: Value of each node for two examples.

    Returns:
        The smaller module, whose parameters require gradients and have the names that they have in `module`.
    """
    root, graph = deepcopy(module), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    logits = graph.graph_copy(module.graph, copies)
    output = graph.output(logits)
    images = next(iter(graph.nodes))
    originals = {copied: node for node, copied in copies.items()}
    zeros: dict[fx.Node, fx.Node] = {}  # for each zero, the original node that has its shape

    def zero(node: fx.Node) -> fx.Node:
        with graph.inserting_after(images):
            made: fx.Node = _zeros_node(graph, images, one[node], two[node])
        zeros[made] = node
        return made

    for place, each in enumerate(removed):
        body, end = junctions.bodies[each.branch.target], copies[each.branch.end]
        if each.mean is None:
            made = zero(each.branch.end)
        else:
            root.register_buffer(f"mean{place}", each.mean)
            with graph.inserting_after(images):
                mean = graph.create_node("get_attr", f"mean{place}")
            with graph.inserting_after(mean):
                made = graph.call_function(repeated, (images, mean))
        if body:
            copies[body[0]].replace_input_with(end, made)
        elif each.branch.target == len(junctions.bodies) - 1:
            output.replace_input_with(end, made)
        else:
            end.replace_all_uses_with(made)
    for node in list(graph.nodes):
        name = getattr(node.target, "__name__", node.target)
        absent = [isinstance(each, fx.Node) and each in zeros for each in node.args]
        if not any(absent) or len(absent) != 2 or node.kwargs:
            continue
        if name in PRODUCTS:
            node.replace_all_uses_with(zero(originals[node]))
        elif (name in SUMS and absent[0]) or (name in SUMS + DIFFERENCES and absent[1]):
            rest = node.args[0] if absent[1] else node.args[1]
            if isinstance(rest, fx.Node) and _alike(two[zeros.get(rest) or originals[rest]], two[originals[node]]):
                node.replace_all_uses_with(rest)
    whole = fx.GraphModule(root, graph, type(module).__name__)
    whole.graph.eliminate_dead_code()
    smaller = fx.GraphModule(whole, whole.graph, type(module).__name__)  # takes only what the graph uses
    return smaller.requires_grad_(True).eval()


def zeros_for(images: Tensor, one: Sequence[int], two: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros of a shape that depends on the number of images.

    Args:
        images: The images (n, …).
        one: The shape for one image.
        two: The shape for two images.
        dtype: Type of the zeros.

    Returns:
        The zeros.
    """
    shape = [a + (len(images) - 1) * (b - a) for a, b in zip(one, two, strict=True)]
    return images.new_zeros(shape, dtype=dtype)


def repeated(images: Tensor, mean: Tensor) -> Tensor:
    """A value (…) for each of n images, (n, …)."""
    return mean.expand(len(images), *mean.shape)


def together(*parts: Any) -> tuple[Any, ...]:
    """The parts as a tuple."""
    return parts


def _zeros_node(graph: fx.Graph, images: fx.Node, one: Any, two: Any) -> Any:
    if isinstance(one, Tensor):
        return graph.call_function(zeros_for, (images, tuple(one.shape), tuple(two.shape), one.dtype))
    if not isinstance(one, tuple | list):
        return one
    parts = tuple(_zeros_node(graph, images, *each) for each in zip(one, two, strict=True))
    return graph.call_function(together, parts)


def _alike(one: Any, other: Any) -> bool:
    return (
        isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype
    )
