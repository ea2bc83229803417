import pytest
import torch
from prunecast.models.evaluation import agreement, metrics

# true positives 3, false negatives 1, false positives 2, true negatives 4
BINARY = ((1, 1), (1, 1), (1, 1), (1, 0), (0, 1), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0))
# rows the class, columns the answer: 3 1 0 / 0 2 2 / 1 0 1
THREE = ((0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 2), (1, 2), (2, 0), (2, 2))


def _logits(answers, classes):
    return torch.nn.functional.one_hot(torch.tensor(answers), classes).double() - 0.3


def _metrics(pairs, classes):
    labels, answers = zip(*pairs, strict=True)
    return metrics(_logits(answers, classes), torch.tensor(labels))


def test_two_classes_are_judged_as_counted_by_hand():
    found = _metrics(BINARY, 2)
    assert found["accuracy"] == pytest.approx(7 / 10)
    assert found["f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert found["matthews"] == pytest.approx((3 * 4 - 2 * 1) / (5 * 4 * 6 * 5) ** 0.5)


def test_three_classes_have_the_plain_mean_of_their_f1():
    found = _metrics(THREE, 3)
    assert found["accuracy"] == pytest.approx(6 / 10)
    assert found["f1"] == pytest.approx((2 * 3 / 8 + 2 * 2 / 7 + 2 * 1 / 5) / 3)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("answer", [0, 1])
def test_a_model_that_always_answers_the_same_correlates_with_nothing(answer, classes):
    found = _metrics([(label % classes, answer) for label in range(6 * classes)], classes)
    assert found["matthews"] == 0
    assert found["accuracy"] == pytest.approx(1 / classes)
    assert found["f1"] == pytest.approx({2: (0, 2 / 3)[answer], 3: 1 / 6}[classes])


@pytest.mark.parametrize("classes", [2, 3])
def test_all_right_is_one_and_two_classes_all_wrong_is_minus_one(classes):
    right = [(label % classes, label % classes) for label in range(9)]
    assert _metrics(right, classes) == pytest.approx({"accuracy": 1, "f1": 1, "matthews": 1})
    wrong = _metrics([(label % 2, 1 - label % 2) for label in range(8)], 2)
    assert wrong == pytest.approx({"accuracy": 0, "f1": 0, "matthews": -1})


def test_models_agree_on_answers_whatever_their_logits():
    one, other = _logits((0, 1, 2, 1), 3), 5 * _logits((0, 2, 2, 1), 3)
    assert agreement(one, other) == agreement(other, one) == 0.75
    assert agreement(one, 2 * one) == 1
