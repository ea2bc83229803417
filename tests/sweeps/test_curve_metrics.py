from collections.abc import Sequence

import pandas as pd
import pytest
from prunecast.errors import UserError
from prunecast.sweeps import curve_metrics


def _curve(accuracies: Sequence[float]) -> pd.DataFrame:
    rows = len(accuracies)
    return pd.DataFrame({"sparsity": [i / (rows - 1) for i in range(rows)], "accuracy": accuracies})


@pytest.mark.parametrize(
    ("accuracies", "safe"),
    [
        ([0.9, 0.9, 0.895, 0.6, 0.5], 0.5),
        ([0.9, 0.5, 0.9, 0.9, 0.5], 0.0),  # a recovery after a dip is not safe
        ([0.9, 0.95, 0.91, 0.9, 0.89], 1.0),
    ],
)
def test_the_safe_sparsity_precedes_the_first_loss(accuracies: list[float], safe: float) -> None:
    assert curve_metrics.safe_sparsity(_curve(accuracies), epsilon=0.01) == safe


def test_a_model_at_chance_has_not_learned() -> None:
    models = pd.DataFrame({"dense_accuracy": [0.5, 0.59, 0.6, 0.9], "majority_accuracy": 0.5})
    assert list(curve_metrics.learned(models)) == [False, False, True, True]


def test_a_variant_is_recognised_by_the_name_it_extends() -> None:
    names = ["trec6_bert", "trec6_bert_brief", "trec6_bertha", "cr_3", "cr_3_decayed", "cr"]
    bases = curve_metrics.base_of(pd.DataFrame({"model": names}))
    assert list(bases) == ["trec6_bert", "trec6_bert", "trec6_bertha", "cr", "cr_3", "cr"]


def test_segments_are_cut_at_five_and_ninety_five_per_cent_of_the_way() -> None:
    accuracies = [0.9, 0.881, 0.879, 0.6, 0.521, 0.519, 0.4]
    points = pd.DataFrame({"accuracy": accuracies, "dense_accuracy": 0.9, "majority_accuracy": 0.5})
    expected = ["plateau", "plateau", "transition", "transition", "transition", "collapsed", "collapsed"]
    assert list(curve_metrics.segment(points)) == expected


@pytest.mark.parametrize("epsilon", [0, 1, -0.1, 3])
def test_an_epsilon_outside_zero_to_one_is_refused(epsilon: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        curve_metrics.check_epsilon(epsilon)
