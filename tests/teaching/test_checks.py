"""Every solution is right, every stub and the likely mistakes are not; nothing here knows the right numbers."""

from itertools import pairwise

import numpy as np
import pytest
from prunecast.errors import UserError
from prunecast.teaching.checks import CHECKS, check
from prunecast.teaching.exercises import chapters, exercises_of

SOLVED = {(page, each.number): each.code for page in chapters() for each in exercises_of(page) if each.code}


def _by_page(exercise):
    return f"{exercise[0]}-{exercise[1]}"


def test_checked_are_the_exercises_with_a_solution_in_python():
    assert set(CHECKS) == set(SOLVED)


@pytest.mark.parametrize("exercise", sorted(SOLVED), ids=_by_page)
def test_a_solution_passes_its_check(exercise, capsys):
    names = {}
    exec(SOLVED[exercise], names)
    check(*exercise, names["answer"])
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize("stub", [None, ...])
@pytest.mark.parametrize("exercise", sorted(CHECKS), ids=_by_page)
def test_a_stub_is_no_answer_yet(exercise, stub):
    with pytest.raises(UserError, match="no answer yet"):
        check(*exercise, stub)


@pytest.mark.parametrize("answer", ["three", 1e9, float("nan"), [], {}, object()])
@pytest.mark.parametrize("exercise", sorted(CHECKS), ids=_by_page)
def test_an_answer_of_another_kind_is_one_sentence(exercise, answer):
    with pytest.raises(UserError) as raised:
        check(*exercise, answer)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("exercise", sorted(CHECKS), ids=_by_page)
def test_a_function_that_does_nothing_right_is_one_sentence(exercise):
    for function in (lambda *arguments: None, lambda: None, lambda *arguments: arguments[0]):
        with pytest.raises(UserError) as raised:
            check(*exercise, function)
        assert "\n" not in str(raised.value)


def _linear_search(loss, points):
    return max(point for point in range(points) if loss(point) <= 0.01)


def _by_threshold(layers, sparsity):
    flat = np.concatenate([np.abs(layer).ravel() for layer in layers.values()])
    return {name: np.abs(layer) >= np.quantile(flat, sparsity) for name, layer in layers.items()}


def _front_without_equals(costs):
    return np.array([not any((b <= a).all() for i, b in enumerate(costs) if i != j) for j, a in enumerate(costs)])


def _as_kept(_edges, kept):
    return kept


def _without_centring(first, second):
    norms = [np.linalg.norm(part.T @ part) for part in (first, second)]
    return np.linalg.norm(first.T @ second) ** 2 / (norms[0] * norms[1])


def _at_once(network, images):
    network.train()
    network(images)
    network.eval()


WRONG = {
    "searching point by point": ("collect_sweeps", 3, _linear_search, "at most 8 are allowed"),
    "comparing with a quantile": ("magnitude_pruning", 3, _by_threshold, "what if magnitudes are equal"),
    "percentiles within a layer": ("magnitude_pruning", 2, {("percentile", "layer")}, "prunes the same weights"),
    "a pair forgotten": ("magnitude_pruning", 2, {("absolute", "layer")}, "a pair is missing"),
    "points instead of models": (
        "protocols",
        3,
        lambda families: [
            ([other for other in range(len(families)) if other != one], [one]) for one in range(len(families))
        ],
        "relative is in the training set",
    ),
    "shares instead of accuracies": ("surrogate", 3, lambda others, *_: others.mean(0) * 0 + 5, "straight line's"),
    "an empirical quantile": (
        "coverage",
        3,
        lambda scores, level: sorted(scores)[int(np.ceil(len(scores) * level)) - 1],
        "too small: the new score takes one of n",
    ),
    "a moving average": ("vgg16_transfer", 3, _at_once, "do old ones still count"),
    "jumping over a dip": (
        "explorer",
        3,
        lambda sparsity, accuracy, epsilon, margin: max(
            0, sparsity[accuracy >= accuracy[0] - epsilon - 1e-9].max() - margin
        ),
        "a curve that dips and recovers",
    ),
    "the largest excess": (
        "your_model",
        3,
        lambda forecast, measured, share: max(0, (forecast - measured).max()),
        "a smaller margin would do",
    ),
    "the pruned share": (
        "effective_number",
        2,
        {"normal": 1 - 2 / np.pi, "uniform": 0.25, "laplace": 0.5},
        "share that is pruned",
    ),
    "columns that are not centred": ("regimes", 3, _without_centring, "are the columns centred"),
    "kept edges taken for live ones": ("structure", 3, _as_kept, "on no path"),
    "a linear law": ("schedules", 3, lambda progress, last: last * min(1, progress), "not the cubic one"),
    "one operation a multiply-add": (
        "energy",
        3,
        lambda widths, batch, share: batch * sum(a * b for a, b in pairwise(widths)),
        "two for a multiply-add",
    ),
    "equal rows that dominate each other": ("pareto", 3, _front_without_equals, "how do you treat equal rows"),
    "a configuration that loses too much": (
        "pareto",
        2,
        "masked magnitude global 0.6",
        "loses more than five hundredths",
    ),
    "the dense model": ("pareto", 2, "dense", "another one within it is faster"),
    "text classifiers": ("architectures", 2, {"agrees": 124, "not built": 2}, "these are the text classifiers"),
    "a shared weight twice": (
        "architectures",
        3,
        lambda network, output: sum(
            layer.weight.numel()
            for name, layer in network.named_modules()
            if type(layer).__name__ in {"Linear", "Conv2d"} and name != output
        ),
        "share is counted twice",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_likely_mistake_is_answered_with_a_hint(mistake):
    page, number, answer, hint = WRONG[mistake]
    with pytest.raises(UserError, match=hint):
        check(page, number, answer)


def test_a_number_with_the_wrong_sign_or_off_by_a_little_is_wrong():
    names = {}
    exec(SOLVED["campaign", 3], names)
    right = names["answer"]
    check("campaign", 3, round(right, 3))
    for wrong, hint in ((-right, "the sign is wrong"), (right + 0.01, "check which rows")):
        with pytest.raises(UserError, match=hint) as raised:
            check("campaign", 3, wrong)
        assert f"{right:.4g}" not in str(raised.value).replace(f"{wrong:.4g}", "")


def test_an_exercise_without_a_check_is_answered_with_those_there_are():
    with pytest.raises(UserError, match="exercise 1 of page 'pareto' is not checked; .* page pareto are 2, 3"):
        check("pareto", 1, "no")
    with pytest.raises(UserError, match="pages with checked exercises are architectures, campaign"):
        check("paretto", 2, "dense")
