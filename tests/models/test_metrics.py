from collections.abc import Sequence

import pytest
import torch
from prunecast.models.evaluation import agreement, metrics
from torch import Tensor

# true positives 3, false negatives 1, false positives 2, true negatives 4
BINARY = ((1, 1), (1, 1), (1, 1), (1, 0), (0, 1), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0))
# confusion matrix, a row per true class: 3 1 0 / 0 2 2 / 1 0 1
THREE = ((0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 2), (1, 2), (2, 0), (2, 2))


def _logits(predicted: Sequence[int], classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).double() - 0.3


def _metrics(pairs: Sequence[tuple[int, int]], classes: int) -> dict[str, float]:
    """The metrics of pairs of a true and a predicted class."""
    labels, predicted = zip(*pairs, strict=True)
    result: dict[str, float] = metrics(_logits(predicted, classes), torch.tensor(labels))
    return result


def test_the_metrics_of_two_classes_are_those_counted_by_hand() -> None:
    result = _metrics(BINARY, 2)
    assert result["accuracy"] == pytest.approx(7 / 10)
    assert result["f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert result["matthews"] == pytest.approx((3 * 4 - 2 * 1) / (5 * 4 * 6 * 5) ** 0.5)


def test_three_classes_have_the_unweighted_mean_of_their_f1() -> None:
    result = _metrics(THREE, 3)
    assert result["accuracy"] == pytest.approx(6 / 10)
    assert result["f1"] == pytest.approx((2 * 3 / 8 + 2 * 2 / 7 + 2 * 1 / 5) / 3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("predicted", [0, 1])
def test_a_constant_prediction_has_no_correlation(predicted: int, classes: int) -> None:
    result = _metrics([(label % classes, predicted) for label in range(6 * classes)], classes)
    assert result["matthews"] == 0
    assert result["accuracy"] == pytest.approx(1 / classes)
    assert result["f1"] == pytest.approx({2: (0, 2 / 3)[predicted], 3: 1 / 6}[classes])


@pytest.mark.parametrize("classes", [2, 3])
def test_all_right_is_one_and_two_classes_all_wrong_is_minus_one(classes: int) -> None:
    right = [(label % classes, label % classes) for label in range(9)]
    assert _metrics(right, classes) == pytest.approx({"accuracy": 1, "f1": 1, "matthews": 1})
    wrong = _metrics([(label % 2, 1 - label % 2) for label in range(8)], 2)
    assert wrong == pytest.approx({"accuracy": 0, "f1": 0, "matthews": -1})


def test_agreement_counts_equal_classes_whatever_the_logits() -> None:
    one, other = _logits((0, 1, 2, 1), 3), 5 * _logits((0, 2, 2, 1), 3)
    assert agreement(one, other) == agreement(other, one) == 0.75
    assert agreement(one, 2 * one) == 1
