"""The junctions of a traced graph of operations, and what lies between two of them as an edge."""

from dataclasses import dataclass

from torch import fx, nn

from prunecast.capture.tracing import name_of, path_of
from prunecast.errors import UserError
from prunecast.graph.structure import Graph


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


def _label(module: nn.Module, branch: Branch, target: fx.Node) -> str:
    if not branch.nodes:
        return ".".join(filter(None, (path_of(target), "identity")))
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
