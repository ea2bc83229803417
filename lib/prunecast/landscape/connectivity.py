"""Linear mode connectivity: the error on the straight line between two networks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

POINTS = 11  # on the line, both ends included


def interpolated(first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The state at a point of the straight line from one network to another.

    Args:
        first: State at share 0.
        second: State at share 1, with the same names and shapes.
        share: From 0 to 1.

    Returns:
        The state; what is no floating-point number, such as a counter of batches, is that of `first`.
    """
    return {
        name: start + share * (second[name] - start) if start.is_floating_point() else start
        for name, start in first.items()
    }


def along(
    network: nn.Module,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    evaluate: Callable[[], Any],
    points: int = POINTS,
) -> Iterator[Any]:
    """Evaluate a network at points on the straight line between two states.

    The statistics of batch norms mean nothing between two networks: `evaluate` has to take them anew at every point
    (Jordan et al., 2023, REPAIR).

    Args:
        network: A network of the shape of both, whose state is overwritten.
        first: State at one end.
        second: State at the other end.
        evaluate: Called at every point, from `first` to `second`.
        points: Number of points, both ends included.

    Yields:
        What `evaluate` returns, by point.
    """
    for share in np.linspace(0, 1, points):
        network.load_state_dict(interpolated(first, second, float(share)))
        yield evaluate()


def connectivity(errors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear mode connectivity from the errors on the line.

    The largest deviation from the mean error of both ends, with its sign (Zhou et al., 2023, equation 3): 0 where the
    networks are connected, negative by the height of the barrier between them, positive where a network on the line is
    better than both.

    Args:
        errors: Errors (points, ...) as fractions, from one end to the other.

    Returns:
        The connectivity (...), as a fraction.
    """
    mean = (errors[0] + errors[-1]) / 2
    deviations = mean - errors
    largest = np.abs(deviations).argmax(0)
    found: NDArray[np.floating] = np.take_along_axis(deviations, np.asarray(largest)[None], 0)[0]
    return found
