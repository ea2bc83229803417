import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from prunecast.errors import UserError
from prunecast.pruning import effective_number, masks
from prunecast.pruning.criteria import magnitude
from torch import Tensor

POSITIVE = st.floats(1e-3, 1e3)
VECTORS = st.lists(POSITIVE, min_size=2, max_size=60)
BETAS = st.floats(0.05, 3)


def _tensor(values: list[float] | np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _by_sorting(scores: Tensor, beta: float) -> Tensor:
    """The rule as the paper states it, with a stable sort of everything: of equal scores the first are pruned."""
    flat = scores.double().flatten().numpy()
    flat = flat - min(flat.min(), 0.0)
    n_eff = flat.sum() ** 2 / (flat**2).sum()
    count = max(1, min(math.floor(beta * n_eff * (1 + 1e-9)), len(flat)))
    kept = np.zeros(len(flat), bool)
    kept[np.argsort(flat, kind="stable")[len(flat) - count :]] = True
    return torch.from_numpy(kept).view(scores.shape)


@given(st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=80).filter(lambda s: len(set(s)) > 1), BETAS)
@example([0.0] * 50 + [1.0] * 2, 0.5)
def test_the_mask_is_that_of_a_stable_sort_even_where_many_scores_are_equal(values: list[float], beta: float) -> None:
    scores = _tensor(values)
    assert torch.equal(effective_number.mask(scores, beta), _by_sorting(scores, beta))


@pytest.mark.parametrize("shape", ["normal", "mostly zero", "two values", "ascending", "periodic"])
@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0, 1.5])
def test_on_many_scores_too_in_whatever_order_they_come(shape: str, beta: float) -> None:
    choice, n = np.random.default_rng(0), 300_000
    place = np.arange(n)
    values = {
        "normal": np.abs(choice.normal(size=n)),
        "mostly zero": np.abs(choice.normal(size=n)) * (choice.random(n) < 0.05),
        "two values": choice.integers(1, 3, n),
        "ascending": place,
        "periodic": np.where(place % effective_number.EVERY == 0, 10.0, choice.random(n)),  # the sample is biased
    }[shape]
    scores = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(effective_number.mask(scores, beta), _by_sorting(scores, beta))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_narrow_and_wide_numbers_are_cut_exactly(kind: torch.dtype) -> None:
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(0)).to(kind)
    assert torch.equal(effective_number.mask(scores), _by_sorting(scores, 1.0))


@given(VECTORS, BETAS)
def test_exactly_the_scaled_effective_number_is_kept(values: list[float], beta: float) -> None:
    scores = _tensor(values)
    result = effective_number.effective(lambda: [scores], beta)
    n_eff = float(scores.sum() ** 2 / (scores**2).sum())
    assert result.n_eff == pytest.approx(n_eff)
    assert int(effective_number.mask(scores, beta).sum()) == result.kept
    nearly = (beta * n_eff * (1 - 1e-9), beta * n_eff * (1 + 2e-9))
    assert result.kept in {max(1, min(math.floor(count), len(values))) for count in nearly}


@given(VECTORS, st.integers(1, 7))
def test_scores_in_parts_are_cut_like_the_whole(values: list[float], parts: int) -> None:
    scores = _tensor(values)
    pieces, whole = (
        effective_number.effective(lambda: scores.chunk(parts)),
        effective_number.effective(lambda: [scores]),
    )
    assert pieces.n_eff == pytest.approx(whole.n_eff)
    assert (pieces.entries, pieces.kept, pieces.cut) == (whole.entries, whole.kept, whole.cut)


@given(VECTORS, st.floats(0.01, 100))
def test_the_scale_of_the_scores_does_not_matter(values: list[float], factor: float) -> None:
    assert effective_number.effective(lambda: [_tensor(values) * factor]).n_eff == pytest.approx(
        effective_number.effective(lambda: [_tensor(values)]).n_eff
    )


@given(st.integers(1, 500), st.floats(1e-3, 1e3))
def test_of_equal_scores_all_are_kept(count: int, value: float) -> None:
    assert effective_number.mask(torch.full((count,), value)).all()


def test_known_distributions_have_their_known_share() -> None:
    choice = np.random.default_rng(0)
    for values, share, preserved in (
        (choice.normal(size=1_000_000), 2 / math.pi, 0.894),
        (choice.random(1_000_000), 0.75, 0.937),
        (choice.laplace(size=1_000_000), 0.5, 0.847),
    ):
        scores = torch.tensor(np.abs(values))
        result = effective_number.effective(partial(list, [scores]))
        assert result.n_eff / result.entries == pytest.approx(share, abs=2e-3)
        assert effective_number.preserved(scores, effective_number.mask(scores)) == pytest.approx(preserved, abs=1e-3)


def test_signed_scores_count_from_the_lowest_one() -> None:
    signed = torch.tensor([-3.0, -1.0, 0.0, 2.0])
    assert effective_number.effective(lambda: [signed]).n_eff == effective_number.effective(lambda: [signed + 3]).n_eff
    assert effective_number.mask(signed).tolist() == [False, False, True, True]


def test_rows_are_groups_of_their_own() -> None:
    scores = torch.tensor([[1.0, 1, 1, 1], [9, 0, 0, 0], [0, 0, 5, 5]])
    assert effective_number.row_masks(scores).sum(1).tolist() == [4, 1, 2]
    assert effective_number.row_masks(scores)[2].tolist() == [False, False, True, True]


def test_cuts_prune_a_model_by_layer_or_as_a_whole() -> None:
    weights = {"a": torch.tensor([[4.0, -4.0], [4.0, 4.0]]), "b": torch.tensor([[0.1, 0.0], [0.0, 0.0]])}
    results, cuts = effective_number.cuts(weights, magnitude, "layer")
    kept = masks.masks(weights, magnitude, masks.groups_of(weights, "layer"), cuts)
    assert {name: int(mask.sum()) for name, mask in kept.items()} == {"a": 4, "b": 1}
    assert results["b"].n_eff == pytest.approx(1)
    results, cuts = effective_number.cuts(weights, magnitude, "global")
    kept = masks.masks(weights, magnitude, masks.groups_of(weights, "global"), cuts)
    assert int(kept["a"].sum()) == results["all"].kept == 4
    assert not kept["b"].any()


# The bound (theorem 4.2)


def _worst(entries: int, kept: int) -> Tensor:
    """The score vector that attains the bound: one large entry beside equal ones, with N_eff just short of kept + 1."""
    ratio = math.sqrt((1 / (kept + 1) - 1 / entries) / (1 - 1 / entries)) * (1 + 1e-6)
    scores = np.full(entries, (1 - ratio) / entries)
    scores[0] += ratio
    return _tensor(scores)


@given(st.lists(POSITIVE, min_size=3, max_size=100))
@example([1.0, 1.0, 1.0])
def test_at_least_the_promised_share_is_preserved(values: list[float]) -> None:
    scores = _tensor(values)
    kept = effective_number.mask(scores)
    if kept.sum() >= 2:
        assert (
            effective_number.preserved(scores, kept)
            >= effective_number.preserved_at_least(int(kept.sum()), len(values)) - 1e-9
        )


@given(st.integers(4, 100), st.data())
def test_adversarial_scores_come_down_to_the_bound_and_not_below(entries: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(2, entries - 2))
    scores = _worst(entries, kept)
    mask = effective_number.mask(scores)
    bound = effective_number.preserved_at_least(kept, entries)
    assert int(mask.sum()) == kept
    assert bound <= effective_number.preserved(scores, mask) <= bound + 1e-4


def test_for_one_kept_entry_the_formula_is_false_and_refused() -> None:
    scores = _tensor([0.5 + 1e-4, 0.5 - 1e-4, 1e-12])  # two nearly equal ones
    kept = effective_number.mask(scores)
    formula = 1 / 3 + 2 / 3 * math.sqrt((3 - 1 - 1) / ((1 + 1) * (3 - 1)))
    assert int(kept.sum()) == 1
    assert effective_number.preserved(scores, kept) < 0.51 < formula
    with pytest.raises(UserError, match="^the bound holds for 2 to 3 kept entries of 3, not for 1$"):
        effective_number.preserved_at_least(1, 3)


@given(st.floats(0.05, 0.95))
def test_for_many_entries_the_bound_is_the_share_of_kept_entries(share: float) -> None:
    entries = 10**12
    kept = round(share * entries)
    assert effective_number.preserved_at_least(kept, entries) == pytest.approx(kept / entries, abs=1e-5)


# Bad input


@pytest.mark.parametrize(
    ("scores", "beta", "sentence"),
    [
        ([torch.zeros(5)], 1.0, "all scores are equal to zero, so that none matters more than another"),
        ([torch.full((5,), -2.0)], 1.0, "all scores are equal to zero, so that none matters more than another"),
        ([], 1.0, "there are no scores: the scope is empty"),
        ([torch.empty(0)], 1.0, "there are no scores: the scope is empty"),
        ([torch.tensor([1.0, float("nan")])], 1.0, "some scores are not finite numbers"),
        ([torch.tensor([1.0, float("inf")])], 1.0, "some scores are not finite numbers"),
        ([torch.tensor([1.0, -float("inf")])], 1.0, "some scores are not finite numbers"),
        ([_tensor([1e300, 1.0])], 1.0, "or too large to be squared"),
        ([torch.tensor([1, 2, 3])], 1.0, "the scores are of type torch.int64; the rule needs floating-point ones"),
        ([torch.ones(3)], 0.0, "beta is 0; it scales the effective number and must be positive"),
        ([torch.ones(3)], -1.0, "beta is -1; it scales the effective number and must be positive"),
        ([torch.ones(3)], float("nan"), "beta is nan; it scales the effective number and must be positive"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_sentence(scores: list[Tensor], beta: float, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        effective_number.effective(lambda: scores, beta)


def test_the_limits_one_entry_is_kept_and_a_large_beta_keeps_all() -> None:
    assert effective_number.mask(torch.tensor([7.0]), 0.1).tolist() == [True]
    assert int(effective_number.mask(torch.tensor([100.0, 1.0, 1.0]), 0.1).sum()) == 1
    assert effective_number.mask(torch.tensor([100.0, 1.0, 1.0]), 50.0).all()
