"""A device that refuses to be mixed with the processor, on which it computes: for what has to run on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree

NAME = "cuda:7"
DEVICE = torch.device(NAME)
GETTERS = {getattr(torch.Tensor, name).__get__ for name in ("device", "is_cpu", "is_cuda")}


class Elsewhere(torch.Tensor):
    """A tensor on the device."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Elsewhere":
        with torch._C.DisableTorchFunction():
            twin = self.detach().clone().as_subclass(Elsewhere).requires_grad_(self.requires_grad)
        twin._is_param = getattr(self, "_is_param", False)  # type: ignore[attr-defined]  # a parameter stays one
        memo[id(self)] = twin
        return twin


def _is_here(tensor: torch.Tensor) -> bool:
    return not isinstance(tensor, Elsewhere)


class _Device(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in GETTERS and not _is_here(args[0]):
            return {"device": DEVICE, "is_cpu": False, "is_cuda": True}[function.__self__.__name__]
        name, target = getattr(function, "__name__", ""), self._target(function, args, kwargs)
        if target == DEVICE:
            args = tuple(torch.device("cpu") if isinstance(arg, torch.device) or arg is NAME else arg for arg in args)
            kwargs |= {"device": torch.device("cpu")} if "device" in kwargs else {}
        tensors = [each for each in tree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        tensors = tensors[:1] if name in ("to", "cpu", "copy_") else tensors
        large = {_is_here(tensor) for tensor in tensors if tensor.dim() > 0}
        indexed = name == "__getitem__" and not _is_here(args[0])  # as on a GPU, also by indices on the processor
        if len(large) > 1 and not indexed and name not in ("__set__", "_has_compatible_shallow_copy_type"):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, {NAME} or the processor")
        result = function(*args, **kwargs)
        there = any(not _is_here(tensor) for tensor in tensors) if target is None else target == DEVICE
        kind = Elsewhere if there else torch.Tensor
        return tree.tree_map_only(torch.Tensor, lambda made: _placed(made, kind), result)

    def _target(self, function: Any, args: Any, kwargs: Any) -> torch.device | None:
        if getattr(function, "__name__", "") == "cpu":
            return torch.device("cpu")
        given = kwargs.get("device")
        if given is None and getattr(function, "__name__", "") == "to":
            given = next((arg for arg in args[1:] if isinstance(arg, torch.device | str)), None)
        return None if given is None else torch.device(given)


def _placed(tensor: torch.Tensor, kind: type) -> torch.Tensor:
    with torch._C.DisableTorchFunction():
        if isinstance(tensor, kind) if kind is Elsewhere else _is_here(tensor):
            return tensor
        return tensor.detach().as_subclass(kind) if tensor.is_leaf else tensor.as_subclass(kind)


@contextmanager
def fake_device() -> Iterator[str]:
    """Inside the context there is a device of this name."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Device():
            yield NAME
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
