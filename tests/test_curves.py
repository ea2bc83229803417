import pandas as pd
import pytest
from prunecast import curves


def _curve(accuracies, measured=True):
    rows = len(accuracies)
    return pd.DataFrame(
        {"sparsity": [i / (rows - 1) for i in range(rows)], "accuracy": accuracies, "measured": measured}
    )


@pytest.mark.parametrize(
    ("accuracies", "safe"),
    [
        ([0.9, 0.9, 0.895, 0.6, 0.5], 0.5),
        ([0.9, 0.5, 0.9, 0.9, 0.5], 0.0),  # a recovery after a dip is not safe
        ([0.9, 0.95, 0.91, 0.9, 0.89], 1.0),
    ],
)
def test_safe_is_what_lies_before_the_first_loss(accuracies, safe):
    assert curves.safe_sparsity(_curve(accuracies), epsilon=0.01) == safe


def test_an_interpolated_point_is_never_called_safe():
    curve = _curve([0.9, 0.9, 0.9, 0.5, 0.5]).assign(measured=[True, True, False, True, True])
    assert curves.safe_sparsity(curve, epsilon=0.01) == 0.25


def test_segments_are_cut_at_five_and_ninety_five_per_cent_of_the_way():
    accuracies = [0.9, 0.881, 0.879, 0.6, 0.521, 0.519, 0.4]
    points = pd.DataFrame({"accuracy": accuracies, "dense_accuracy": 0.9, "majority_accuracy": 0.5})
    expected = ["plateau", "plateau", "transition", "transition", "transition", "collapsed", "collapsed"]
    assert list(curves.segment(points)) == expected
