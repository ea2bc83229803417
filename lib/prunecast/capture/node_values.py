"""Values of the nodes of a traced module: which depend on the images, how large they are, how they are computed."""

from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from prunecast.capture.tracing import name_of
from prunecast.errors import UserError

FROM_SHAPE = {  # functions and methods whose result does not depend on the values of the tensor
    *("new_tensor", "new_zeros", "new_ones", "new_full", "new_empty"),
    *("zeros_like", "ones_like", "full_like", "empty_like"),
}


class NodeValues:
    """How the values of the nodes of a traced module are computed for several states of the network at a time.

    Args:
        module: The traced module.
        pair: Two images (2, …).

    Attributes:
        one: Value of each node for the first image.
        two: Value of each node for both.
        active: The nodes whose value is a tensor, or several, that depends on the values of the images.
        size: Bytes of the value of each active node for one image.

    Raises:
        UserError: The module makes a number of a tensor.
    """

    def __init__(self, module: fx.GraphModule, pair: Tensor):
        self._module, self._interpreter = module, fx.Interpreter(module)
        self._fixed: dict[int, dict[fx.Node, Any]] = {}  # what the values of images do not change, by their number
        self.one, self.two = self.of(pair[:1]), self.of(pair)
        self.active = self._depending()
        self.size = {node: _bytes(self.two[node]) - _bytes(self.one[node]) for node in self.active}
        self._by_example = {node for node in self.active if self._acts_by_example(node)}

    def of(self, images: Tensor, nodes: Container[fx.Node] | None = None) -> dict[fx.Node, Any]:
        """Values of some nodes, or of all, for images (n, …), without gradient."""
        recorder = _Recorder(self._module, nodes)
        with torch.no_grad():
            recorder.run(images)
        return recorder.values

    def fix(self, images: Tensor) -> None:
        """Compute, once for each number of images, the values that depend on nothing else."""
        if len(images) not in self._fixed:
            others = {node for node in self._module.graph.nodes if node not in self.active and node.op != "output"}
            self._fixed[len(images)] = self.of(images, others) if others else {}

    def computed(self, node: fx.Node, given: Mapping[fx.Node, Any], count: int) -> Any:
        """Value of an active node for several states.

        Args:
            node: The node.
            given: Values (states, n, …) of the active nodes that it is computed from.
            count: The number n of images, for which `fix` was called.

        Returns:
            The value (states, n, …).
        """
        fixed, sources = self._fixed[count], list(given)

        def value(*of_sources: Any) -> Any:
            known = fixed | dict(zip(sources, of_sources, strict=True))
            args, kwargs = (fx.node.map_arg(each, known.__getitem__) for each in (node.args, node.kwargs))
            return getattr(self._interpreter, node.op)(node.target, args, kwargs)

        states = len(tensors(next(iter(given.values())))[0])
        if node in self._by_example:
            result = value(*(each_of(lambda x: x.flatten(0, 1), part) for part in given.values()))
            return each_of(lambda x: x.reshape(states, count, *x.shape[1:]), result)
        if states == 1:
            return each_of(lambda x: x[None], value(*(each_of(lambda x: x[0], part) for part in given.values())))
        return torch.vmap(value)(*given.values())

    def zeros(self, node: fx.Node, states: int, count: int) -> Any:
        """Zeros of the type and shape of a node's value (states, n, …) for n images."""
        return _zeros(self.one[node], self.two[node], states, count)

    def _depending(self) -> set[fx.Node]:
        found: set[fx.Node] = set()
        for node in self._module.graph.nodes:
            name = getattr(node.target, "__name__", node.target)
            if node.op == "placeholder" or any(each in found for each in node.all_input_nodes):
                if name in ("item", "tolist"):
                    raise UserError(f"{name_of(node)} makes a number of a tensor, which differs from mask to mask")
                if node.op != "output" and name not in FROM_SHAPE and tensors(self.two[node]):
                    found.add(node)
        return found

    def _acts_by_example(self, node: fx.Node) -> bool:
        """Whether a node computes each row of its value from the same row of what it is given, of however many rows."""
        nodes = (node, *node.all_input_nodes)
        if any(each not in self.active and each.op != "get_attr" for each in nodes):
            return False
        values = [(self.one[each], self.two[each]) for each in nodes if each in self.active]
        pairs = [list(zip(tensors(one), tensors(two), strict=True)) for one, two in values]
        if any(one.shape[:1] != (1,) or two.shape[:1] != (2,) for of_node in pairs for one, two in of_node):
            return False
        return all(close(two[:1], one) for one, two in pairs[0])


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes, or of all."""

    def __init__(self, module: fx.GraphModule, nodes: Container[fx.Node] | None):
        super().__init__(module)
        self.nodes, self.values = nodes, dict[fx.Node, Any]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self.nodes is None or n in self.nodes:
            self.values[n] = value
        return value


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal but for rounding."""
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), 1e-3, 1e-5)


def tensors(value: Any) -> list[Tensor]:
    """The tensors of a value, which is a tensor or a tuple or list of values."""
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def each_of(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The value with the function of each of its tensors in their place."""
    if isinstance(value, tuple | list):
        return tuple(each_of(function, part) for part in value)
    return function(value) if isinstance(value, Tensor) else value


def _bytes(value: Any) -> int:
    return sum(each.numel() * each.element_size() for each in tensors(value))


def _zeros(one: Any, two: Any, states: int, count: int) -> Any:
    if isinstance(one, tuple | list):
        return tuple(_zeros(*parts, states, count) for parts in zip(one, two, strict=True))
    if not isinstance(one, Tensor):
        return one
    return one.new_zeros(states, *(a + (count - 1) * (b - a) for a, b in zip(one.shape, two.shape, strict=True)))
