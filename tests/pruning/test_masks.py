from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prunecast.errors import UserError
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import (
    AXES,
    SCOPES,
    Axis,
    Pruner,
    Scope,
    cut,
    masks,
    pruned_by_layer,
    pruned_counts,
    rank,
    sparsity,
)
from torch import Tensor

Shapes = list[tuple[int, int]]
SHAPES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4)
THRESHOLDS = st.floats(0, 10)


def _weights(shapes: Shapes, levels: int | None = None) -> dict[str, Tensor]:
    choice = np.random.default_rng(0)
    values = (choice.integers(-levels, levels, size=shape) if levels else choice.normal(size=shape) for shape in shapes)
    return {f"layer{index}": torch.tensor(value, dtype=torch.float32) for index, value in enumerate(values)}


def _kept(weights: dict[str, Tensor], scope: Scope, axis: Axis, threshold: float) -> dict[str, Tensor]:
    ranking = rank(weights, magnitude, scope)
    cuts = cut(ranking, pruned_counts(ranking, axis, threshold))
    kept: dict[str, Tensor] = masks(weights, magnitude, ranking.groups, cuts)
    return kept


@given(SHAPES, st.integers(0, 100), st.sampled_from(SCOPES))
def test_a_percentile_prunes_exactly_its_share_even_among_equal_weights(
    shapes: Shapes, per_cent: int, scope: Scope
) -> None:
    weights = _weights(shapes, levels=2)
    kept = _kept(weights, scope, "percentile", per_cent / 10)
    sizes = [weight.numel() for weight in weights.values()]
    pruned = [int((~mask).sum()) for mask in kept.values()]
    if scope == "layer":
        assert pruned == [round(Fraction(per_cent * size, 100)) for size in sizes]
    else:
        assert sum(pruned) == round(Fraction(per_cent * sum(sizes), 100))


@given(SHAPES, st.lists(THRESHOLDS, min_size=1, max_size=4), st.sampled_from(SCOPES), st.sampled_from([None, 1, 2]))
def test_the_weights_counted_by_layer_are_those_that_the_masks_prune(
    shapes: Shapes, thresholds: list[float], scope: Scope, levels: int | None
) -> None:
    """Also where weights of equal magnitude lie at the cut, some of them zero: the first ones are pruned."""
    weights = _weights(shapes, levels)
    ordered = {name: np.sort(weight.abs().flatten().numpy()) for name, weight in weights.items()}
    expected = [
        [int((~mask).sum()) for mask in _kept(weights, scope, "percentile", threshold).values()]
        for threshold in thresholds
    ]
    assert pruned_by_layer(ordered, scope, thresholds).tolist() == expected


@given(SHAPES, st.sampled_from(SCOPES), st.sampled_from(AXES), THRESHOLDS, THRESHOLDS)
def test_a_higher_threshold_prunes_all_that_a_lower_one_does(
    shapes: Shapes, scope: Scope, axis: Axis, one: float, two: float
) -> None:
    weights = _weights(shapes)
    low, high = (_kept(weights, scope, axis, threshold) for threshold in sorted((one, two)))
    assert all((low[name] >= high[name]).all() for name in weights)


@given(SHAPES, st.sampled_from(SCOPES), st.sampled_from(AXES), THRESHOLDS)
def test_what_is_pruned_is_never_larger_than_what_stays(
    shapes: Shapes, scope: Scope, axis: Axis, threshold: float
) -> None:
    weights = _weights(shapes)
    kept = _kept(weights, scope, axis, threshold)
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    for names in groups:
        stays = torch.cat([weights[name].abs()[kept[name]] for name in names])
        pruned = torch.cat([weights[name].abs()[~kept[name]] for name in names])
        assert not len(stays) or not len(pruned) or pruned.max() <= stays.min()


def test_sigma_and_absolute_thresholds_mean_what_they_say() -> None:
    weights = {"a": torch.randn(200, 50), "b": 3 * torch.randn(100, 30)}
    spread = torch.cat([weight.flatten() for weight in weights.values()]).std(correction=0)
    for name, weight in weights.items():
        assert torch.equal(_kept(weights, "layer", "sigma", 1.5)[name], weight.abs() >= 1.5 * weight.std(correction=0))
        assert torch.equal(_kept(weights, "global", "sigma", 1.5)[name], weight.abs() >= 1.5 * spread)
        for scope in SCOPES:
            assert torch.equal(_kept(weights, scope, "absolute", 4.0)[name], weight.abs() >= 0.04)


def test_normal_weights_follow_the_error_function() -> None:
    weights = {"a": torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))}
    ranking = rank(weights, magnitude, "global")
    for threshold, share in ((1.0, 0.683), (2.0, 0.954), (3.0, 0.997)):
        assert sparsity(ranking, pruned_counts(ranking, "sigma", threshold)) == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_pruner_prunes_more_and_less_and_restores_the_weights(scope: Scope, levels: int | None) -> None:
    weights: dict[str, Tensor] = {
        name: torch.nn.Parameter(weight) for name, weight in _weights([(8, 8), (4, 8)], levels).items()
    }
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    ranking = rank(weights, magnitude, scope)
    with pytest.raises(KeyboardInterrupt), Pruner(weights, magnitude, ranking.groups) as pruner:
        for threshold in (9.0, 2.0, 0.0, 5.0, 10.0, 3.3):
            cuts = cut(ranking, pruned_counts(ranking, "percentile", threshold))
            pruner.prune(cuts)
            for name, mask in masks(before, magnitude, ranking.groups, cuts).items():
                assert torch.equal(weights[name].detach(), before[name] * mask)
        raise KeyboardInterrupt
    assert all(torch.equal(weights[name], before[name]) for name in weights)


@pytest.mark.parametrize("threshold", [-0.1, 10.1, float("nan")])
def test_a_threshold_off_the_axis_is_refused(threshold: float) -> None:
    ranking = rank(_weights([(3, 3)]), magnitude, "global")
    with pytest.raises(UserError, match="outside 0 to 10"):
        pruned_counts(ranking, "percentile", threshold)
