import numpy as np
import pytest
import torch
from ckatorch.hsic import hsic0, hsic1
from prunecast.errors import UserError
from prunecast.landscape.similarity import linear_cka, unbiased_linear_cka

RNG = np.random.default_rng(0)
A = RNG.normal(size=(30, 4))
B = A @ RNG.normal(size=(4, 3)) + 0.5 * RNG.normal(size=(30, 3))


def test_biased_cka_is_that_of_centred_kernels() -> None:
    n = len(A)
    centre = np.eye(n) - 1 / n
    k, m = (centre @ each @ each.T @ centre for each in (A, B))
    assert linear_cka(A, B) == pytest.approx(np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m)))


def test_unbiased_cka_is_that_of_sums_over_distinct_examples() -> None:
    a, b = A[:8], B[:8]
    k, m = a @ a.T, b @ b.T

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        """The estimator as a U-statistic: means over pairs, quadruples and triples of distinct examples."""
        n = range(len(k))
        pairs = np.mean([k[i, j] * m[i, j] for i in n for j in n if i != j])
        four = np.mean([
            k[i, j] * m[q, r] for i in n for j in n for q in n for r in n if len({i, j, q, r}) == 4
        ])  # fmt: skip
        three = np.mean([k[i, j] * m[i, q] for i in n for j in n for q in n if len({i, j, q}) == 3])
        return float(pairs + four - 2 * three)

    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert unbiased_linear_cka(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("cka", [linear_cka, unbiased_linear_cka])
def test_rotation_scale_and_shift_change_nothing(cka) -> None:
    rotation, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
    assert cka(A, 3 * A @ rotation + 7) == pytest.approx(1)


def test_few_independent_outputs_seem_similar_only_with_bias() -> None:
    pairs = [(RNG.normal(size=(12, 10)), RNG.normal(size=(12, 10))) for _ in range(200)]
    assert np.mean([linear_cka(*pair) for pair in pairs]) > 0.3
    assert abs(np.mean([unbiased_linear_cka(*pair) for pair in pairs])) < 0.03


def test_both_agree_with_a_maintained_package() -> None:
    centred = [torch.tensor(each - each.mean(0)) for each in (A, B)]
    k, m = (each @ each.T for each in centred)
    assert linear_cka(A, B) == pytest.approx(float(hsic0(k, m) / (hsic0(k, k) * hsic0(m, m)) ** 0.5))
    assert unbiased_linear_cka(A, B) == pytest.approx(
        float(hsic1(k[None], m[None]) / (hsic1(k[None], k[None]) * hsic1(m[None], m[None])) ** 0.5)
    )


def test_outputs_without_a_similarity_are_refused() -> None:
    with pytest.raises(UserError, match="not for 30 and 20"):
        linear_cka(A, B[:20])
    with pytest.raises(UserError, match="all examples the same output"):
        linear_cka(A, np.full((30, 2), 0.1))  # of which the mean is rounded
    with pytest.raises(UserError, match="needs 4 examples or more, not 3"):
        unbiased_linear_cka(A[:3], B[:3])


def test_outputs_that_vary_in_one_example_have_no_unbiased_similarity() -> None:
    """Without the diagonals nothing of such kernels is left."""
    single = np.full((30, 3), 0.3)
    single[4] = [0.1, 0.7, 0.2]
    assert np.isnan(unbiased_linear_cka(single, single))
    assert np.isnan(unbiased_linear_cka(A, single.astype(np.float32)))
    assert linear_cka(single, single) == pytest.approx(1)


def test_similarity_is_at_most_one_as_the_table_demands() -> None:
    outputs = [RNG.dirichlet([0.1] * 10, size=20) for _ in range(200)]
    assert max(linear_cka(each, each) for each in outputs) <= 1
