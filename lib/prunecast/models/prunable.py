"""Which weights of a model may be pruned."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from prunecast.errors import UserError

NO_MATRIX = re.compile(r"token|latent|probe|bias|norm|a_log|scale|pos_", re.IGNORECASE)  # in names of parameters


def prunable_weights(model: nn.Module, classes: int) -> dict[str, torch.Tensor]:
    """Collect the weights of every linear and convolution layer except the output layer.

    Stacked matrices that a module multiplies by itself, as the experts of a mixture or the kernels of relative
    attention, count as layers. The output layer is the last layer with `classes` outputs; outside the base model of a
    transformer all layers with as many are output layers. Embeddings, norms and biases are never prunable. Layers
    that share a weight count once.

    Args:
        model: A classifier, or a language model.
        classes: Number of its classes, or the size of its vocabulary; 0 for a model without an output layer.

    Returns:
        The weights by name, in the model's order; changing one changes the model.

    Raises:
        UserError: The model has no such layers, or a weight is computed from other parameters or not finite.
    """
    layers = _layers(model)
    kept = {_storage(layers[name].weight) for name in _outputs(model, layers, classes)}
    kept |= {_storage(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    found = {f"{name}.weight": module.weight for name, module in layers.items()}
    if layers:
        found |= _stacked(model, found)
    weights: dict[str, torch.Tensor] = {}
    for name, _ in model.named_parameters():
        if name in found and (place := _storage(found[name])) not in kept:
            weights[name] = found[name]
            kept.add(place)
    if not weights:
        raise UserError(
            f"{type(model).__name__} has no prunable weights: no linear or convolution layer but the output"
        )
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise UserError(f"layer {name} holds weights that are not finite numbers: the checkpoint is damaged")
    return weights


def left_out(model: nn.Module, weights: Mapping[str, torch.Tensor], classes: int) -> tuple[int, int, str]:
    """Count the weights in matrices that could be pruned by their shape, but are in no layer of a kind that is.

    Args:
        model: The model.
        weights: Its prunable weights, by name.
        classes: Number of its classes; the output layers are not counted.

    Returns:
        How many weights are left out, of how many in all matrices but those of embeddings and output layers, and the
        name of the largest matrix that is left out.
    """
    layers = _layers(model)
    known = {_storage(weight) for weight in weights.values()}
    known |= {_storage(layers[name].weight) for name in _outputs(model, layers, classes)}
    absent = {
        name: weight.numel()
        for name, weight in model.named_parameters()
        if _is_matrix(model, name, weight) and _storage(weight) not in known
    }
    total = sum(absent.values()) + sum(weight.numel() for weight in weights.values())
    return sum(absent.values()), total, max(absent, key=lambda name: absent[name], default="")


def unused(model: nn.Module, weights: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> list[str]:
    """Find the prunable weights on which the answer of a model does not depend, as those of a part for other inputs.

    Args:
        model: The classifier.
        weights: Its prunable weights, by name.
        inputs: One batch, by the names of the model's arguments.

    Returns:
        Names of the weights; none where torch does not say on which the answer depends.
    """
    try:
        with torch.enable_grad():
            answer = model(**inputs)["logits"]
        gradients = torch.autograd.grad(answer.sum(), list(weights.values()), allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return []
    names = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is None]
    before = {name: weights[name].detach().clone() for name in names}
    with torch.no_grad():  # an operation may hide its weights from the derivative, as the layers of Reformer do
        for name in names:
            weights[name].zero_()
        same = not names or torch.allclose(model(**inputs)["logits"], answer)
        for name in names:
            weights[name].copy_(before[name])
    return names if same else []


def _layers(model: nn.Module) -> dict[str, Any]:
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    kinds = (nn.Linear, Conv1D, nn.modules.conv._ConvNd)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds) or type(module).__name__ == "QuantLinear"  # of I-BERT
    }
    for name, module in layers.items():
        if "weight" not in module._parameters:
            raise UserError(
                f"layer {name} computes its weight from other parameters, so that pruning it would change nothing; "
                "make it plain first, with remove_parametrizations, remove_weight_norm or prune.remove of torch"
            )
    return layers


def _outputs(model: nn.Module, layers: Mapping[str, Any], classes: int) -> list[str]:
    if not (layers and classes):
        return []
    names = ("out_features", "out_channels", "nf")
    fitting = [
        name for name, layer in layers.items() if classes in [getattr(layer, attribute, None) for attribute in names]
    ]
    if not fitting:
        raise UserError(f"{type(model).__name__} has no output layer of {classes} classes")
    prefix = getattr(model, "base_model_prefix", "")
    inside = f"{prefix}." if prefix and hasattr(model, prefix) else ""
    return (inside and [name for name in fitting if not name.startswith(inside)]) or fitting[-1:]


def _stacked(model: nn.Module, of_layers: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices in parameters of three dimensions that belong to no layer of torch."""
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.ndim == 3 and name not in of_layers and _is_matrix(model, name, weight)
    }


def _is_matrix(model: nn.Module, name: str, weight: torch.Tensor) -> bool:
    path, _, own = name.rpartition(".")
    embeds = isinstance(model.get_submodule(path), nn.Embedding) or "embed" in name.lower()
    if embeds or NO_MATRIX.search(own):
        return False
    return min(weight.shape[1:]) > 1 if weight.ndim == 3 else sum(side > 1 for side in weight.shape) > 1


def _storage(weight: torch.Tensor) -> tuple[int, int]:
    """What two names of one weight have in common."""
    return (weight.data_ptr(), weight.numel()) if weight.data_ptr() else (id(weight), 0)
