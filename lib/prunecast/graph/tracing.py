"""The computation graph of a module by torch.fx: junctions are vertices, what lies between two of them is an edge."""

import operator
import traceback
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from prunecast.errors import UserError
from prunecast.graph.structure import Graph

INSIDE = "network."  # where the module stands in the module that is traced
IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
PLAIN_REASONS = {
    "control flow": "a branch or a loop depends on the values or the shape of a tensor",
    "cannot be iterated": "a loop runs over a tensor",
    "'len' is not supported": "the length of a tensor is used as a number",
}


@dataclass(frozen=True)
class Branch:
    """An edge: what is computed from the value of its source, before the gate.

    Attributes:
        source: Number of the source vertex.
        target: Number of the target vertex.
        nodes: Nodes of the traced graph, each computed from the one before; none for an identity.
        end: The node whose value the edge carries.
    """

    source: int
    target: int
    nodes: tuple[fx.Node, ...]
    end: fx.Node


@dataclass(frozen=True)
class Junctions:
    """The junctions of a traced graph and the branches between them.

    Attributes:
        graph: The graph, with one vertex a junction and one edge a branch.
        bodies: For each vertex, the nodes computed from what its edges carry; none where that is its value already.
        values: For each vertex, the node whose value it has.
        branches: The edges.
        labels: For each edge the modules in it, as in `layer1.0.conv1…bn2`, or the place of a shortcut, as in
            `layer1.0.identity`; no two are equal.
    """

    graph: Graph
    bodies: tuple[tuple[fx.Node, ...], ...]
    values: tuple[fx.Node, ...]
    branches: tuple[Branch, ...]
    labels: tuple[str, ...]


def traced(module: nn.Module) -> fx.GraphModule:
    """A copy of a module as a graph of operations on images, with logits as its output and no operation in place.

    Args:
        module: The module, left unchanged; its output is a tensor, or a mapping with the tensor `logits`.

    Returns:
        The copy, in evaluation mode and on the same device, with the names of the module's parameters.

    Raises:
        UserError: It cannot be traced; the sentence says in which module, file and line.

    Source: Reed et al. (2022), "torch.fx: Practical Program Capture and Transformation for Deep Learning in Python".
    """
    copied = deepcopy(module).eval()
    root = _Logits(copied)
    tracer = _Tracer()
    try:
        graph = tracer.trace(root)
    except Exception as error:
        raise UserError(_why_not(module, tracer.failed, error)) from error
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix(INSIDE)
        if node.op == "get_attr" and "." not in node.target and not hasattr(copied, node.target):
            copied.register_buffer(node.target, getattr(root, node.target))  # a tensor made in the forward pass
    _out_of_place(graph, copied)
    whole = fx.GraphModule(copied, graph, type(module).__name__)
    whole.graph.eliminate_dead_code()
    return fx.GraphModule(whole, whole.graph, type(module).__name__)  # takes only what the graph uses


def junctions(module: fx.GraphModule, active: set[fx.Node]) -> Junctions:
    """Find the junctions: input, output, operations on several tensors, and tensors used more than once.

    Operations that follow a junction of several tensors, up to the tensor that is used more than once, belong to it.

    Args:
        module: A traced module.
        active: The nodes whose value is a tensor, or several, computed from the images.

    Returns:
        The junctions.

    Raises:
        UserError: The logits do not depend on the images.
    """
    output = next(node for node in module.graph.nodes if node.op == "output")
    logits = output.args[0]
    if not isinstance(logits, fx.Node) or logits not in active:
        raise UserError(f"the output of {type(module).__name__} is not one tensor of logits computed from the images")
    needed = {logits}
    for node in reversed(module.graph.nodes):
        if node in needed:
            needed.update(each for each in node.all_input_nodes if each in active)
    nodes = [node for node in module.graph.nodes if node in needed]

    def sources(node: fx.Node) -> list[fx.Node]:
        return [each for each in node.all_input_nodes if each in active]

    def uses(node: fx.Node) -> list[fx.Node]:
        return [each for each in node.users if each in needed or each is output]

    bodies: dict[fx.Node, tuple[fx.Node, ...]] = {nodes[0]: ()}  # by the node whose value the vertex has
    for node in nodes[1:]:
        if len(sources(node)) > 1:
            path = [node]
            while len(uses(path[-1])) == 1 and (after := uses(path[-1])[0]) is not output and len(sources(after)) == 1:
                path.append(after)
            body = path if len(uses(path[-1])) > 1 else path[:1]
            bodies[body[-1]] = tuple(body)
        elif len(uses(node)) > 1 and node not in bodies:
            bodies[node] = ()
    values = [*sorted(bodies, key=nodes.index), logits]
    number = {node: place for place, node in enumerate(values[:-1])}

    def branch(target: int, end: fx.Node, path: list[fx.Node]) -> Branch:
        first = sources(path[-1])[0] if path else end
        while first not in number:
            path.append(first)
            first = sources(first)[0]
        return Branch(number[first], target, tuple(reversed(path)), end)

    branches = []
    for target, value in enumerate(values[:-1]):
        if bodies[value]:
            branches += [branch(target, end, []) for end in sources(bodies[value][0])]
        elif target:
            branches.append(branch(target, value, [value]))
    branches.append(branch(len(values) - 1, logits, []))
    heads = [(*bodies[value], value)[0] for value in values[:-1]]
    names = _distinct(["input", *map(name_of, heads[1:]), "output"])
    labels = [_label(module, each, [*heads, output][each.target]) for each in branches]
    return Junctions(
        Graph(tuple(names), tuple((each.source, each.target) for each in branches)),
        (*(bodies[value] for value in values[:-1]), ()),
        tuple(values),
        tuple(branches),
        tuple(_distinct(labels)),
    )


def logits_of(answer: Any) -> Any:
    """The logits in the output of a module, which is a tensor or a mapping.

    Raises:
        UserError: The output is a mapping without `logits`.
    """
    if isinstance(answer, Mapping) and "logits" not in answer:
        raise UserError(f"the output has {', '.join(map(str, answer)) or 'nothing'}, but no logits")
    return answer["logits"] if isinstance(answer, Mapping) else answer


class _Logits(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Any:
        return logits_of(self.network(images))


class _Tracer(fx.Tracer):
    failed: str | None = None  # path of the innermost module that could not be traced

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name + "." != INSIDE and super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or f"{self.path_of_module(m)}.".removeprefix(INSIDE).rstrip(".") or "its forward"
            raise


def _why_not(module: nn.Module, failed: str | None, error: Exception) -> str:
    text = str(error).split("\n", 1)[0].rstrip(".")
    reason = next((plain for part, plain in PLAIN_REASONS.items() if part in text), text or type(error).__name__)
    library = Path(torch.__file__).parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if library not in Path(frame.filename).parents and frame.filename != __file__
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return f"{type(module).__name__} cannot be traced in {failed or 'its forward'}{where}: {reason}"


def _out_of_place(graph: fx.Graph, module: nn.Module) -> None:
    """Replace operations in place by their counterparts; what used the tensor afterwards uses the result."""
    inside = {name for name, part in module.named_modules(remove_duplicate=False) if getattr(part, "inplace", False)}
    for node in list(graph.nodes):
        name = getattr(node.target, "__name__", node.target)
        if node.op == "call_module" and node.target in inside:
            pass
        elif node.op == "call_function" and node.target in IN_PLACE:
            node.target = IN_PLACE[node.target]
        elif node.op == "call_method" and name.endswith("_") and not name.endswith("__"):
            node.target = name[:-1]
        elif node.op == "call_function" and name.endswith("_") and not name.endswith("__"):
            node.target = getattr(torch if hasattr(torch, name[:-1]) else nn.functional, name[:-1])
        elif node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        else:
            continue
        changed = node.all_input_nodes[0]
        for user in [each for each in changed.users if node < each]:
            user.replace_input_with(changed, node)
    for name in inside:
        part: Any = module.get_submodule(name)
        part.inplace = False


def _path(node: fx.Node) -> str:
    """Path of the module in which a node is computed, empty for the whole."""
    stack = node.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    return str(f"{path}.".removeprefix(INSIDE).rstrip("."))


def name_of(node: fx.Node) -> str:
    """Path of the module that a node is, or of the module in which it is computed and its function."""
    if node.op == "call_module":
        return str(node.target)
    return ".".join(filter(None, (_path(node), str(getattr(node.target, "__name__", node.target)))))


def _label(module: nn.Module, branch: Branch, target: fx.Node) -> str:
    if not branch.nodes:
        return ".".join(filter(None, (_path(target), "identity")))
    weighted = [
        node
        for node in branch.nodes
        if node.op == "call_module" and any(True for _ in module.get_submodule(str(node.target)).parameters())
    ]
    names = [name_of(node) for node in weighted or branch.nodes]
    if len(names) == 1:
        return names[0]
    first, last = names[0].split("."), names[-1].split(".")
    same = next((place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), 0)
    return f"{names[0]}…{'.'.join(last[same:])}"


def _distinct(names: list[str]) -> list[str]:
    """The names, those that came before with a number."""
    found: list[str] = []
    for name in names:
        number = 1 + sum(each == name for each in names[: len(found)])
        found.append(name if number == 1 else f"{name} ({number})")
    return found
