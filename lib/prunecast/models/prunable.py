"""Which weights of a model may be pruned."""

import torch
from torch import nn

from prunecast.errors import UserError


def prunable_weights(model: nn.Module, classes: int) -> dict[str, torch.Tensor]:
    """Collect the weights of every linear and convolution layer except the output layer.

    The output layer is the last linear layer with `classes` outputs. Embeddings, norms and biases are never prunable.

    Args:
        model: A classifier, or a language model.
        classes: Number of its classes, or the size of its vocabulary.

    Returns:
        The weights by name, in the model's order; changing one changes the model.

    Raises:
        UserError: The model has no such layer, or a weight is not a finite number.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    kinds = (nn.Linear, Conv1D, nn.modules.conv._ConvNd)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    outputs = [name for name, module in layers.items() if getattr(module, "out_features", None) == classes]
    weights = {f"{name}.weight": module.weight for name, module in layers.items() if name not in outputs[-1:]}
    if not weights:
        raise UserError(
            f"{type(model).__name__} has no prunable weights: no linear or convolution layer but the output"
        )
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise UserError(f"layer {name} holds weights that are not finite numbers: the checkpoint is damaged")
    return weights
