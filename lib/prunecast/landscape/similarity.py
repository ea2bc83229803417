"""Linear centred kernel alignment: how similar are the outputs of two networks (Kornblith et al., 2019)."""

import numpy as np
from numpy.typing import NDArray

from prunecast.errors import UserError

FEWEST = 4  # examples; the unbiased estimator divides by n - 3
ROUNDING = 1e-12  # share of the biased estimate, up to which the unbiased one is zero


def linear_cka(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Linear CKA by the biased estimator, as in the paper of the three regimes.

    Args:
        first: Outputs (n, a) of one network for n examples.
        second: Outputs (n, b) of the other for the same examples.

    Returns:
        From 0 to 1, where the outputs are equal up to rotation, scale and shift. With few examples it is too high.

    Raises:
        UserError: The numbers of examples differ, or the outputs of one network are the same for all examples.
    """
    a, b = _centred(first, second)
    return min(1.0, float(np.square(a.T @ b).sum() / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))))


def unbiased_linear_cka(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Linear CKA from the unbiased estimator of HSIC (Song et al., 2012; Nguyen et al., 2021).

    Args:
        first: Outputs (n, a) of one network for n examples, at least 4.
        second: Outputs (n, b) of the other for the same examples.

    Returns:
        At most about 1; it may fall below 0 where the outputs are independent. NaN where the outputs of one network
        vary in a single example alone.

    Raises:
        UserError: The numbers of examples differ or are below 4, or the outputs of one network are the same for all.
    """
    a, b = _centred(first, second)
    if len(a) < FEWEST:
        raise UserError(f"CKA without bias needs {FEWEST} examples or more, not {len(a)}")
    if any(_hsic(x, x) <= ROUNDING * np.square(x.T @ x).sum() for x in (a, b)):
        return float("nan")
    return float(_hsic(a, b) / np.sqrt(_hsic(a, a) * _hsic(b, b)))


def _hsic(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """The estimator of Song et al., equation 5, for linear kernels and up to a factor, without an n by n matrix."""
    n = len(a)
    of_a, of_b = np.square(a).sum(1), np.square(b).sum(1)  # diagonals of the kernels, which count as zero
    rows_a, rows_b = a @ a.sum(0) - of_a, b @ b.sum(0) - of_b
    trace = np.square(a.T @ b).sum() - of_a @ of_b
    means = rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2))
    return float(trace + means - 2 / (n - 2) * rows_a @ rows_b)


def _centred(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    if len(first) != len(second):
        raise UserError(f"CKA compares outputs for the same examples, not for {len(first)} and {len(second)}")
    a, b = (np.asarray(outputs, np.float64) - np.mean(outputs, 0, np.float64) for outputs in (first, second))
    if any((outputs == outputs[:1]).all() for outputs in (first, second)):
        raise UserError("CKA is not defined where a network gives all examples the same output")
    return a, b
