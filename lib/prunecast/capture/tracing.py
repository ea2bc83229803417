"""A module of whatever origin as a graph of operations, by torch.fx."""

import operator
import traceback
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunecast.errors import UserError

INSIDE = "network."  # where the module stands in the module that is traced
IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
OF_SHAPES = {*("shape", "ndim", "dtype", "device", "is_cuda"), *("size", "dim", "numel", "is_floating_point")}
PLAIN_REASONS = {
    "cannot be iterated": "a loop runs over a tensor",
    "control flow": "a branch depends on the values of a tensor",
    "'len' is not supported": "the length of a tensor is used as a number",
}


def traced(module: nn.Module, pair: Tensor) -> fx.GraphModule:
    """A copy of a module as a graph of operations on images, with logits as its output and no operation in place.

    Args:
        module: The module, left unchanged; its output is a tensor, or a mapping with the tensor `logits`.
        pair: Two images (2, …), whose shape decides branches that depend on a shape.

    Returns:
        The copy, in evaluation mode and on the same device, with the names of the module's parameters.

    Raises:
        UserError: It cannot be traced; the sentence says in which module, file and line.

    Source: Reed et al. (2022), "torch.fx: Practical Program Capture and Transformation for Deep Learning in Python".
    """
    copied = deepcopy(module).eval()
    root = _Logits(copied)
    tracer = _Tracer(pair)
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


def logits_of(answer: Any) -> Any:
    """The logits in the output of a module, which is a tensor or a mapping.

    Raises:
        UserError: The output is a mapping without `logits`.
    """
    if isinstance(answer, Mapping) and "logits" not in answer:
        raise UserError(f"the output has {', '.join(map(str, answer)) or 'nothing'}, but no logits")
    return answer["logits"] if isinstance(answer, Mapping) else answer


def checked_logits(module: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The logits of a module in evaluation mode.

    Args:
        module: The module, left unchanged.
        images: Images (n, …).
        classes: Classes (m,) of these and of other images.

    Returns:
        The logits (n, classes), without gradient.

    Raises:
        UserError: The module cannot be run on the images; its output is neither finite logits nor a mapping with them;
            or a class has no logit.
    """
    name = type(module).__name__
    try:
        with torch.no_grad():
            answer = deepcopy(module).eval()(images)
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"{name} cannot be run on images of the shape {tuple(images.shape[1:])}: {reason}") from error
    logits = logits_of(answer)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        given = f"of the shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(
            f"for {len(images)} images the output of {name} is {given}, not logits ({len(images)}, classes)"
        )
    if not logits.isfinite().all():
        raise UserError(f"the logits of {name} are not finite numbers")
    if classes.min() < 0 or classes.max() >= logits.shape[1]:
        span = f"{int(classes.min())} to {int(classes.max())}"
        raise UserError(f"{name} has {logits.shape[1]} logits, but the classes of the images are {span}")
    return logits


def path_of(node: fx.Node) -> str:
    """Path of the module in which a node is computed, empty for the whole."""
    stack = node.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    return str(f"{path}.".removeprefix(INSIDE).rstrip("."))


def name_of(node: fx.Node) -> str:
    """Path of the module that a node is, or of the module in which it is computed and its function."""
    if node.op == "call_module":
        return str(node.target)
    return ".".join(filter(None, (path_of(node), str(getattr(node.target, "__name__", node.target)))))


class _Logits(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return logits_of(self.network(images))


class _Tracer(fx.Tracer):
    """Follows branches that depend on the shape of a tensor, which it learns from one image and from two.

    Attributes:
        failed: Path of the innermost module that could not be traced.
    """

    def __init__(self, pair: Tensor):
        super().__init__()
        self.failed: str | None = None
        self._batches, self._running = (pair[:1], pair), False
        self._values: tuple[dict[fx.Node, Any], ...] = ({}, {})

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name + "." != INSIDE and super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._running:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or f"{self.path_of_module(m)}.".removeprefix(INSIDE).rstrip(".") or "its forward"
            raise

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        self._running = True
        try:
            for batch, values in zip(self._batches, self._values, strict=True):
                self._run(batch, values)
        finally:
            self._running = False
        one, two = (values[obj.node] for values in self._values)
        if isinstance(one, Tensor) or not self._is_of_shapes(obj.node):
            return super().to_bool(obj)
        if one != two:
            raise UserError("a branch depends on the number of images")
        return bool(one)

    @torch.no_grad()
    def _run(self, images: Tensor, values: dict[fx.Node, Any]) -> None:
        """Compute the values of the nodes that were added since the last time."""
        interpreter = fx.Interpreter(self.root, graph=self.graph)
        for node in self.graph.nodes:
            if node not in values:
                args, kwargs = (fx.node.map_arg(each, values.__getitem__) for each in (node.args, node.kwargs))
                found = node.op == "placeholder"
                values[node] = images if found else getattr(interpreter, node.op)(node.target, args, kwargs)

    def _is_of_shapes(self, node: fx.Node) -> bool:
        """Whether a value that is no tensor was computed from the shapes and types of tensors alone."""
        values = self._values[0]
        name = node.args[1] if node.target is getattr else getattr(node.target, "__name__", node.target)
        of_tensor = any(isinstance(values[each], Tensor) for each in node.all_input_nodes)
        others = [each for each in node.all_input_nodes if not isinstance(values[each], Tensor)]
        return (name in OF_SHAPES or not of_tensor) and all(map(self._is_of_shapes, others))


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
