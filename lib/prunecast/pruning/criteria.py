"""Criteria: one score per weight; the lowest scores are pruned first."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

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
