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


def test_a_network_is_connected_to_itself_with_its_own_error_everywhere() -> None:
    network, x = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)), torch.randn(60, 2)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    labels = torch.arange(60) % 3
    own = float((network(x).argmax(1) != labels).double().mean())
    errors = list(along(network, state, state, lambda: float((network(x).argmax(1) != labels).double().mean())))
    assert errors == [own] * 11
    assert connectivity(np.array(errors)) == 0


def test_a_linear_model_by_hand() -> None:
    """An example is right where w · x > 0; each end is right on the other's wrong example, the middle on neither."""
    network = torch.nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, -3.0], [-3.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    first, second = {"weight": torch.tensor([[1.0, 0.0]])}, {"weight": torch.tensor([[0.0, 1.0]])}

    def error() -> float:
        return float((network(x)[:, 0] <= 0).double().mean())

    # At share s the first margin is 1 - 4 s, the second 4 s - 3, the others are positive.
    errors = list(along(network, first, second, error, points=9))
    assert errors == [0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert connectivity(np.array(errors)) == -0.25


def test_counters_are_not_interpolated() -> None:
    norm = torch.nn.BatchNorm1d(2)
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    state["num_batches_tracked"] += 7
    assert interpolated(state, norm.state_dict(), 0.5)["num_batches_tracked"] == 7
