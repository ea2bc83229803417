"""Pruning criteria: a score for each weight, the lowest pruned first; some need the data, some only the weights."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from prunecast.errors import UserError

Weights = Mapping[str, Tensor]
Criterion = Callable[[str, Tensor], Tensor]
CriterionName = Literal["magnitude", "random"]
CRITERIA: tuple[CriterionName, ...] = get_args(CriterionName)


def criterion_called(name: CriterionName, seed: int) -> Criterion:
    """The function that scores the weights of a layer under a criterion.

    Args:
        name: One of `CRITERIA`.
        seed: Seed of the random scores; magnitude does not use it.

    Returns:
        A function from a layer's name and weights to scores in the shape of the weights, without a unit. Random
        scores are drawn once for each layer and kept as long as the function is.
    """
    if name == "magnitude":
        return magnitude
    drawn: dict[str, Tensor] = {}

    def scores(layer: str, weight: Tensor) -> Tensor:
        if layer not in drawn:
            drawn[layer] = random(layer, weight, seed)
        return drawn[layer]

    return scores


def magnitude(_layer: str, weight: Tensor) -> Tensor:
    """Absolute value of every weight.

    Args:
        weight: Weights of any shape.

    Returns:
        Scores in the shape of the weights, in their unit.

    Source: Han et al. (2015), "Learning both Weights and Connections for Efficient Neural Networks", section 3.
    """
    return weight.detach().abs()


def random(layer: str, weight: Tensor, seed: int) -> Tensor:
    """Uniform scores that do not depend on the values of the weights: a control.

    Args:
        layer: Name of the layer.
        weight: Weights of any shape.
        seed: Seed of the scores; layer, shape and seed determine them.

    Returns:
        Scores from 0 to 1 in the shape of the weights, on their device.
    """
    number = int.from_bytes(hashlib.sha256(f"{seed}/{layer}".encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(number)
    return torch.rand(weight.shape, generator=generator).to(weight.device)


DataDependentName = Literal["taylor", "saliency", "wanda"]
DATA_DEPENDENT: tuple[DataDependentName, ...] = get_args(DataDependentName)
Batches = Iterable[Mapping[str, Tensor]]


def data_dependent_scores(
    name: DataDependentName, model: nn.Module, weights: Weights, batches: Batches
) -> dict[str, Tensor]:
    """Scores of the weights under a data-dependent criterion, by layer.

    For a weight w, with the mean gradient g of the loss and all inputs x that the weight multiplies:

    - taylor: `|w · g|`, the first-order change of the loss when the weight is set to zero;
    - saliency: `|g|`;
    - wanda: `|w| · ‖x‖₂`.

    Args:
        name: One of `DATA_DEPENDENT`.
        model: The model, which is left unchanged and in the mode it is in.
        weights: Weights to score, by the name `layer.weight`.
        batches: Keyword arguments of the model, one mapping a batch, its `labels` included.

    Returns:
        Scores by name, each in the shape of its weights.

    Raises:
        UserError: The criterion is unknown.

    Source: taylor: Molchanov et al. (2017), "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    equation 7, on weights in place of activations. wanda: Sun et al. (2024), "A Simple and Effective Pruning Approach
    for Large Language Models", equation 1.
    """
    if name not in DATA_DEPENDENT:
        raise UserError(f"there is no data-dependent criterion {name!r}; there are {', '.join(DATA_DEPENDENT)}")
    if name == "wanda":
        norms = input_norms(model, weights, batches)
        return {layer: weight.detach().abs() * norms[layer] for layer, weight in weights.items()}
    factors = {layer: weight.detach() if name == "taylor" else 1.0 for layer, weight in weights.items()}
    return {layer: (slope * factors[layer]).abs() for layer, slope in gradients(model, weights, batches).items()}


@torch.enable_grad()
def gradients(model: nn.Module, weights: Weights, batches: Batches) -> dict[str, Tensor]:
    """Mean gradient of the loss over the batches, by layer.

    Args:
        model: The model, which is left in the mode it is in; no gradient is stored in it.
        weights: Weights by the name `layer.weight`.
        batches: Keyword arguments of the model, one mapping a batch, its `labels` included; each batch counts alike.

    Returns:
        Gradients by name, each in the shape of its weights, in nats per unit of weight.
    """
    total = {layer: torch.zeros_like(weight, requires_grad=False) for layer, weight in weights.items()}
    count = 0
    for batch in batches:
        loss = model(**batch)["loss"]
        for layer, gradient in zip(total, torch.autograd.grad(loss, list(weights.values())), strict=True):
            total[layer] += gradient
        count += 1
    return {layer: gradient / count for layer, gradient in total.items()}


@torch.no_grad()
def input_norms(model: nn.Module, weights: Weights, batches: Batches) -> dict[str, Tensor]:
    """L2 norm of every input of a layer over all batches and positions.

    Args:
        model: The model, which is left unchanged and in the mode it is in.
        weights: Weights by the name `layer.weight`.
        batches: Keyword arguments of the model, one mapping a batch.

    Returns:
        Norms by name, in a shape that broadcasts against the weights: (inputs,) of a linear layer, (inputs, 1) where
        the weights are stored transposed, (outputs, inputs, 1, …) of a convolution.
    """
    squares: dict[str, Tensor] = {}
    with _adding_squares(model, weights, squares):
        for batch in batches:
            model(**batch)
    return {layer: total.sqrt() for layer, total in squares.items()}


@contextmanager
def _adding_squares(model: nn.Module, weights: Weights, squares: dict[str, Tensor]) -> Iterator[None]:
    """Inside the context every forward pass adds the squares of the inputs of each layer to `squares`."""

    def add(layer: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs = arguments[0].detach()
        if isinstance(module, nn.modules.conv._ConvNd):
            by_group = (inputs**2).transpose(0, 1).flatten(1).sum(1).view(module.groups, -1)
            sums = by_group.repeat_interleave(module.out_channels // module.groups, 0)
            sums = sums[(..., *(None,) * (inputs.dim() - 2))]
        else:
            sums = (inputs**2).flatten(0, -2).sum(0)
            sums = sums if isinstance(module, nn.Linear) else sums[:, None]  # GPT-2's weights are stored transposed
        squares[layer] = squares.get(layer, torch.zeros_like(sums)) + sums

    with ExitStack() as hooks:
        for layer in weights:
            module = model.get_submodule(layer.removesuffix(".weight"))
            hooks.callback(module.register_forward_pre_hook(partial(add, layer)).remove)
        yield
