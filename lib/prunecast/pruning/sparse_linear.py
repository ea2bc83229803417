"""Sparse linear layers on a processor: a masked model whose zeros are neither stored nor multiplied."""

import warnings
from copy import deepcopy

import torch
from torch import Tensor, nn

from prunecast.errors import UserError
from prunecast.models.prunable import prunable_weights


class SparseLinear(nn.Module):
    """A linear layer that stores and multiplies the nonzero weights alone.

    They are stored one by one (CSR), or as all weights of the square blocks in which one is not zero (BSR).

    Attributes:
        weight: Sparse weights (out, in).
        bias: Bias (out,), or None.
        in_features: Number of inputs.
        out_features: Number of outputs.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, block: int = 1):
        """Copy the weights of a dense layer.

        Args:
            weight: Dense weights (out, in).
            bias: Bias (out,), or None.
            block: Side of the blocks in weights; 1 for weights that are stored one by one.

        Raises:
            UserError: The weights cannot be divided into such blocks.
        """
        super().__init__()
        self.out_features, self.in_features = weight.shape
        if self.out_features % block or self.in_features % block:
            raise UserError(
                f"{self.out_features} by {self.in_features} weights cannot be cut into blocks of {block}, which must "
                "divide both"
            )
        dense = weight.detach()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse .* support is in beta")
            sparse = dense.to_sparse_csr() if block == 1 else dense.to_sparse_bsr((block, block))
        self.register_buffer("weight", sparse)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (…, out) of inputs (…, in)."""
        columns = x.reshape(-1, self.in_features).T  # every kernel of torch takes the sparse matrix on the left
        outputs = self.weight @ columns if self.bias is None else torch.addmm(self.bias[:, None], self.weight, columns)
        return outputs.T.reshape(*x.shape[:-1], self.out_features)


def sparse_kernel(model: nn.Module, classes: int, block: int = 1) -> nn.Module:
    """A copy of a masked model with sparse layers in place of its prunable linear ones; all else is unchanged.

    Args:
        model: The masked model.
        classes: Number of outputs of the output layer, which stays dense.
        block: Side of the blocks in weights; 1 for weights that are stored one by one.

    Returns:
        The copy, in evaluation mode.

    Raises:
        UserError: The model has no prunable linear layers, or one that cannot be divided into such blocks.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, whose weight is (in, out)

    sparse = deepcopy(model).eval()
    prunable = {name.removesuffix(".weight") for name in prunable_weights(sparse, classes)}
    layers = {
        name: layer for name, layer in sparse.named_modules() if name in prunable and type(layer) in (nn.Linear, Conv1D)
    }
    if not layers:
        raise UserError(f"{type(model).__name__} has no prunable linear layer, and only these have sparse kernels")
    for name, layer in layers.items():
        weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        parent, _, attribute = name.rpartition(".")
        setattr(sparse.get_submodule(parent), attribute, SparseLinear(weight, layer.bias, block))
    return sparse
