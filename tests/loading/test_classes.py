from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prunecast.errors import UserError
from prunecast.loading.classes import check_number, likely_order, matched, names_of

SENTIMENTS = ("negative", "neutral", "positive")


def _config(**maps: Any) -> Any:
    return SimpleNamespace(**maps)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (_config(id2label={0: "neg", 1: " pos "}), ("neg", "pos")),
        (_config(id2label={str(index): f"word{index}" for index in range(11)}), tuple(f"word{i}" for i in range(11))),
        (_config(id2label={0: "LABEL_0", 1: "LABEL_1"}), ()),
        (_config(id2label={0: "label 0", 1: "Label-1"}), ()),
        (_config(id2label={0: "0", 1: "1"}), ()),
        (_config(id2label={0: 0, 1: 1}), ()),
        (_config(id2label={0: "1 star", 1: "2 stars"}), ("1 star", "2 stars")),
        (_config(id2label={0: "same", 1: "Same"}), ()),
        (_config(id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id={"pos": 1, "neg": 0}), ("neg", "pos")),
        (_config(id2label=None), ()),
        (None, ()),
    ],
)
def test_names_are_those_of_the_configuration_unless_they_are_made_up(config: Any, names: tuple[str, ...]) -> None:
    assert names_of(config) == names


@pytest.mark.parametrize(
    ("of_task", "known", "places"),
    [
        (("positive", "negative", "neutral"), True, [2, 0, 1]),
        (("POSITIVE", " Negative", "neutral "), True, [2, 0, 1]),
        (("positive", "negative", "neutral"), False, None),
        (("positive", "negative", "other"), True, None),
        (("positive", "negative"), True, [2, 0]),
        (("0", "1", "2"), False, None),
    ],
)
def test_classes_are_matched_where_every_name_has_its_like(
    of_task: tuple[str, ...], known: bool, places: list[int] | None
) -> None:
    found = matched(SENTIMENTS, of_task, known)
    assert (None if found is None else found.tolist()) == places


def test_without_names_of_the_checkpoint_nothing_is_matched() -> None:
    assert matched((), SENTIMENTS, names_known=True) is None


def _noisy(labels: np.ndarray, share: float) -> np.ndarray:
    draw = np.random.default_rng(1)
    return np.where(draw.random(len(labels)) < share, draw.integers(0, labels.max() + 1, len(labels)), labels)


@pytest.mark.parametrize("wrong", [0.0, 0.2, 0.4])
def test_another_order_of_which_the_model_is_accurate_is_named_with_its_accuracy(wrong: float) -> None:
    labels = np.arange(300) % 4
    order = np.array([0, 2, 3, 1])
    answers = order[_noisy(labels, wrong)]
    right = (answers == order[labels]).mean()
    sentence = likely_order(answers, labels, ["a", "b", "c", "d"])
    assert f"its accuracy is {(answers == labels).mean():.3f}, and {right:.3f} if b is answered as c, c is" in sentence
    assert "a is answered" not in sentence


@pytest.mark.parametrize("classes", [2, 5, 77, 150])
def test_no_order_is_named_for_a_right_or_an_untrained_model(classes: int) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, 400)
    names = [str(index) for index in range(classes)]
    assert likely_order(labels, labels, names) == ""
    assert likely_order(draw.integers(0, classes, 400), labels, names) == ""
    assert likely_order(np.zeros(400, dtype=np.int64), labels, names) == ""
    constant = np.full(400, classes - 1)
    assert likely_order(constant, labels, names) == ""


def test_two_exchanged_classes_are_named() -> None:
    labels = np.arange(100) % 2
    assert "0.000, and 1.000 if no is answered as yes, yes is answered as no;" in likely_order(
        1 - labels, labels, ["no", "yes"]
    )


def test_another_number_of_classes_is_refused() -> None:
    check_number("ck", 3, "t", 3)
    with pytest.raises(UserError, match="checkpoint 'ck' has 3 classes, but task 't' has 2 classes"):
        check_number("ck", 3, "t", 2)
    with pytest.raises(UserError, match="'ck' has one output, as a regression has, but task 't' has 2"):
        check_number("ck", 1, "t", 2)
