"""Sparse kernels on a processor: a masked model whose zeros are neither stored nor multiplied."""

import warnings
from copy import deepcopy

import torch
from torch import Tensor, nn

from prunecast.errors import UserError
from prunecast.models.prunable import prunable_weights


class SparseLinear(nn.Module):
    """A linear layer from its `weight` (out, in) and `bias` (out,) that keeps the nonzero weights alone.

    They are kept one by one (CSR), or with a `block` above 1 as all weights of the block × block squares in which
    one is not zero (BSR). Raises UserError where the weights cannot be cut into such squares.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, block: int = 1):
        super().__init__()
        self.out_features, self.in_features = weight.shape
        if self.out_features % block or self.in_features % block:
            raise UserError(f"{self.out_features} by {self.in_features} weights cannot be cut into blocks of {block}")
        dense = weight.detach()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse .* support is in beta")
            sparse = dense.to_sparse_csr() if block == 1 else dense.to_sparse_bsr((block, block))
        self.register_buffer("weight", sparse)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (…, out) of inputs (…, in)."""
        columns = x.reshape(-1, self.in_features).T  # the sparse matrix stands on the left in every kernel torch has
        outputs = self.weight @ columns if self.bias is None else torch.addmm(self.bias[:, None], self.weight, columns)
        return outputs.T.reshape(*x.shape[:-1], self.out_features)


def sparse_kernel(model: nn.Module, classes: int, block: int = 1) -> nn.Module:
    """A copy of a masked model whose prunable linear layers are `SparseLinear`; everything else stays as it is.

    Raises UserError for a model without prunable linear layers.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, whose weight is (in, out)

    sparse = deepcopy(model).eval()
    found = {name.removesuffix(".weight") for name in prunable_weights(sparse, classes)}
    layers = {
        name: layer for name, layer in sparse.named_modules() if name in found and type(layer) in (nn.Linear, Conv1D)
    }
    if not layers:
        raise UserError(f"{type(model).__name__} has no prunable linear layer, and only these have sparse kernels")
    for name, layer in layers.items():
        weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        parent, _, attribute = name.rpartition(".")
        setattr(sparse.get_submodule(parent), attribute, SparseLinear(weight, layer.bias, block))
    return sparse
