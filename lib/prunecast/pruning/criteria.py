"""Criteria: one score per weight; the lowest scores are pruned first."""

from collections.abc import Mapping

from torch import Tensor

Scores = Mapping[str, Tensor]


def magnitude(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Absolute value of every weight, by layer, in the shape of the weights (Han et al., 2015)."""
    return {name: weight.detach().abs() for name, weight in weights.items()}
