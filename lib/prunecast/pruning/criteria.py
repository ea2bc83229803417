"""Pruning criteria: a score for each weight, the lowest pruned first; some need the data, some only the weights."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from prunecast.errors import UserError

Criterion = Callable[[str, Tensor], Tensor]
CriterionName = Literal["magnitude", "random"]
CRITERIA: tuple[CriterionName, ...] = get_args(CriterionName)


def criterion_called(name: CriterionName, seed: int) -> Criterion:
    """The function that scores a layer: from its name and weights to scores in the shape of the weights."""
    return magnitude if name == "magnitude" else partial(random, seed=seed)


def magnitude(layer: str, weight: Tensor) -> Tensor:
    """Absolute value of every weight (Han et al., 2015)."""
    return weight.detach().abs()


def random(layer: str, weight: Tensor, seed: int) -> Tensor:
    """Uniform scores that look at no weight, the same ones whenever layer, shape and `seed` are the same: a control."""
    number = int.from_bytes(hashlib.sha256(f"{seed}/{layer}".encode()).digest()[:4], "big")
    generator = torch.Generator().manual_seed(number)
    return torch.rand(weight.shape, generator=generator).to(weight.device)


DataDependentName = Literal["taylor", "saliency", "wanda"]
DATA_DEPENDENT: tuple[DataDependentName, ...] = get_args(DataDependentName)
Weights = Mapping[str, Tensor]
Batches = Iterable[Mapping[str, Tensor]]


def data_dependent_scores(
    name: DataDependentName, model: nn.Module, weights: Weights, batches: Batches
) -> dict[str, Tensor]:
    """Scores by layer, in the shape of its weights; a batch is what the model is called with, its `labels` included.

    taylor: |w · g|, the first-order change of the loss where the weight goes (Molchanov et al., 2017); saliency: |g|;
    wanda: |w| · ‖x‖₂ with the inputs x of the weight over all batches (Sun et al., 2024). g is the mean gradient.
    """
    if name not in DATA_DEPENDENT:
        raise UserError(f"there is no criterion {name!r} that looks at data; there are {', '.join(DATA_DEPENDENT)}")
    if name == "wanda":
        norms = input_norms(model, weights, batches)
        return {layer: weight.detach().abs() * norms[layer] for layer, weight in weights.items()}
    found = gradients(model, weights, batches)
    factors = {layer: weight.detach() if name == "taylor" else 1.0 for layer, weight in weights.items()}
    return {layer: (gradient * factors[layer]).abs() for layer, gradient in found.items()}


@torch.enable_grad()
def gradients(model: nn.Module, weights: Weights, batches: Batches) -> dict[str, Tensor]:
    """Mean gradient of the loss over the batches, by layer; the model stays in the mode it is in."""
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
    """L2 norm of every input of a layer over all batches and positions, shaped to multiply the layer's weights."""
    squares: dict[str, Tensor] = {}
    with _watched(model, weights, squares):
        for batch in batches:
            model(**batch)
    return {layer: total.sqrt() for layer, total in squares.items()}


@contextmanager
def _watched(model: nn.Module, weights: Weights, squares: dict[str, Tensor]) -> Iterator[None]:
    def watch(layer: str, module: nn.Module) -> Any:
        def add(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs = given[0].detach()
            if isinstance(module, nn.modules.conv._ConvNd):
                by_group = (inputs**2).transpose(0, 1).flatten(1).sum(1).view(module.groups, -1)
                found = by_group.repeat_interleave(module.out_channels // module.groups, 0)
                found = found[(..., *(None,) * (inputs.dim() - 2))]
            else:
                found = (inputs**2).flatten(0, -2).sum(0)
                found = found if isinstance(module, nn.Linear) else found[:, None]  # GPT-2's weight lies transposed
            squares[layer] = squares.get(layer, torch.zeros_like(found)) + found

        return module.register_forward_pre_hook(add)

    hooks = [watch(layer, model.get_submodule(layer.removesuffix(".weight"))) for layer in weights]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
