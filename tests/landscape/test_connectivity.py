import numpy as np
import pytest
import torch
from prunecast.landscape.connectivity import along, connectivity, interpolated


def test_a_barrier_is_negative_a_valley_positive_and_a_level_line_zero() -> None:
    errors = np.array([[0.1, 0.2, 0.2], [0.6, 0.05, 0.2], [0.3, 0.2, 0.2]])
    np.testing.assert_allclose(connectivity(errors), [0.2 - 0.6, 0.2 - 0.05, 0.0], atol=1e-12)


def test_the_largest_deviation_keeps_its_sign() -> None:
    assert connectivity(np.array([0.2, 0.1, 0.35, 0.2])) == pytest.approx(0.2 - 0.35)


def test_the_line_runs_from_the_first_network_to_the_second() -> None:
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    network, x = torch.nn.Linear(2, 1), torch.randn(5, 2)
    with torch.no_grad():
        outputs = list(along(network, first.state_dict(), second.state_dict(), lambda: network(x).clone(), 5))
        for share, output in zip((0, 0.25, 0.5, 0.75, 1), outputs, strict=True):
            torch.testing.assert_close(output, (1 - share) * first(x) + share * second(x))


def test_counters_are_not_interpolated() -> None:
    norm = torch.nn.BatchNorm1d(2)
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    state["num_batches_tracked"] += 7
    assert interpolated(state, norm.state_dict(), 0.5)["num_batches_tracked"] == 7
