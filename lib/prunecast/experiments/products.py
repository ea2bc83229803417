"""Which parameters of a model enter matrix products or convolutions, found out by running it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "convolution", "_grouped_mm", "mv", "addmv", "dot"}
COPIES = {"clone", "index", "index_select", "_to_copy", "copy", "_reshape_alias", "_unsafe_view", "contiguous"}


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows parameters through views and copies until they are an operand of a product."""

    def __init__(self, parameters: Mapping[str, Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.origin = {weight.untyped_storage().data_ptr(): {name} for name, weight in parameters.items()}
        self.alive: list[Tensor] = []  # storages that are reused would be taken for those of parameters
        self.found: set[str] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = operation(*arguments, **(options or {}))
        name = operation.overloadpacket.__name__
        if name in PRODUCTS | COPIES:
            tensors = [each for each in tree_leaves((arguments, options)) if isinstance(each, Tensor)]
            sources = [self.origin.get(tensor.untyped_storage().data_ptr(), set()) for tensor in tensors]
            if name in PRODUCTS:
                self.found |= set().union(*sources)
            elif any(sources):
                self.alive.append(result)
                self.origin[result.untyped_storage().data_ptr()] = set().union(*sources)
        return result


@torch.no_grad()
def multiplied(model: nn.Module, inputs: Mapping[str, Tensor]) -> set[str]:
    """Find the parameters that enter matrix products or convolutions in a forward pass.

    Args:
        model: The model.
        inputs: Its arguments.

    Returns:
        Names of the parameters that are matrices or stacks of them; a vector has one side alone that is longer than 1.
    """
    matrices = {name: weight for name, weight in model.named_parameters() if sum(side > 1 for side in weight.shape) > 1}
    products = _Products(matrices)
    with products:
        model(**inputs)
    return products.found
