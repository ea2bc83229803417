from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from prunecast.datasets.tasks import Split, load_task
from prunecast.errors import UserError
from prunecast.forecasting import predict
from prunecast.forecasting.pretrained import GROUPS, PretrainedSurrogate
from prunecast.forecasting.subjects import Subject, open_subject
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.surrogates import lstm
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import CurveSet, unmeasured
from prunecast.surrogates.lstm import LSTMSurrogate
from prunecast.sweeps import sweeper
from tiny import write_task

EPSILON = 0.05


@pytest.fixture(scope="module")
def surrogate(subject: TrainedModel) -> PretrainedSurrogate:
    """A surrogate trained on one curve, for what does not depend on its quality."""
    opened = Subject(subject, None, ())
    curves = unmeasured(predict._facts(opened), predict._signals(subject, ("global", "layer")))
    known = CurveSet(**{**vars(curves), "accuracy": curves.accuracy_of(1 - curves.sparsity**4)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm, "STEPS", 20)
        posterior = CurvePosterior(lambda: LSTMSurrogate(0, GROUPS), 0).fit(known)
    return PretrainedSurrogate(posterior, {"layers": (1.0, 99.0)}, 0.02, {0.01: 0.1, 0.1: 0.1}, ("tiny",), {}, 1)


@pytest.fixture
def opened(subject: TrainedModel, task_folder: Path) -> Subject:
    """The small model, opened as a checkpoint of a user's."""
    return open_subject(str(subject.folder), load_task("colours"))


def test_a_checkpoint_is_forecast_pruned_saved_and_read_back(
    opened: Subject, surrogate: PretrainedSurrogate, tmp_path: Path
) -> None:
    loaded = opened.model
    dense = evaluate(loaded.model, loaded.examples).accuracy
    prediction = predict.predict(opened, surrogate, EPSILON)
    assert set(prediction.recommended) == {"global", "layer"}
    assert len(prediction.curve) == 2 * 101
    assert (prediction.curve["lower"] <= prediction.curve["upper"]).all()
    assert prediction.dense_accuracy == dense
    assert prediction.curve["predicted"].iloc[0] == pytest.approx(dense)
    ratio, safe = predict.largest_safe(loaded, "layer", EPSILON, prediction.recommended["layer"])
    assert safe.accuracy >= dense - EPSILON
    assert 0 < ratio < 1
    predict.check_saving(loaded, opened.processor, tmp_path / "pruned")
    assert not list(tmp_path.glob("*pruned*"))
    predict.save_pruned(loaded, opened.processor, "layer", ratio, tmp_path / "pruned")
    again = open_subject(str(tmp_path / "pruned"), load_task("colours"))
    zeros = sum(int((weight == 0).sum()) for weight in again.model.weights.values())
    assert zeros / sum(weight.numel() for weight in again.model.weights.values()) == pytest.approx(ratio, abs=1e-3)
    assert again.dense_accuracy == safe.accuracy
    assert evaluate(loaded.model, loaded.examples).accuracy == dense
    predict.save_pruned(loaded, opened.processor, "layer", ratio + 0.01, tmp_path / "further")
    assert open_subject(str(tmp_path / "further"), load_task("colours")).dense_accuracy < dense - EPSILON
    with pytest.raises(UserError, match="between 0 and 1"):
        predict.largest_safe(loaded, "layer", 1.5, 0.5)


def test_a_budget_and_a_confidence_are_kept_or_refused_in_one_sentence(opened: Subject) -> None:
    search = partial(predict.largest_safe, opened.model, "layer", EPSILON, 0.3, opened.dense)
    exact, _ = search()
    ratio, safe = search(budget=8)
    assert safe.evaluated <= 8 * len(opened.model.examples)
    assert ratio > 0
    assert safe.measured
    assert safe.accuracy >= opened.dense_accuracy - EPSILON
    assert search(confidence=0.9)[0] <= exact
    for wrong, sentence in (
        ({"budget": -1.0}, "a budget of -1 evaluations"),
        ({"budget": float("nan")}, "a budget of nan evaluations"),
        ({"budget": 0.01}, "ended before a safe ratio was found"),
        ({"confidence": 1.0}, "a confidence of 1 is not between 0 and 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            search(**wrong)


def test_one_scope_is_forecast_as_it_is_beside_the_other(opened: Subject, surrogate: PretrainedSurrogate) -> None:
    both, one = (predict.predict(opened, surrogate, EPSILON, scopes) for scopes in (("global", "layer"), ("layer",)))
    assert one.recommended == {"layer": pytest.approx(both.recommended["layer"])}
    of_both = both.curve[both.curve["scope"] == "layer"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one.curve, of_both)


def test_a_known_dense_outcome_spares_its_evaluation_and_changes_nothing(
    opened: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = predict.largest_safe(opened.model, "global", EPSILON, 0.5)
    calls: list[int] = []

    def counted(model: object, examples: object, rows: torch.Tensor, precision: object) -> object:
        calls.append(len(rows))
        return evaluate(model, examples, rows, precision)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeper, "evaluate", counted)
    assert predict.largest_safe(opened.model, "global", EPSILON, 0.5, opened.dense) == whole
    assert sum(calls) == whole[1].evaluated


def test_a_measured_ratio_is_saved_with_the_mask_that_was_measured() -> None:
    assert [predict._threshold(point / 100) for point in range(101)] == sweeper.grid(101)


def test_a_folder_that_is_not_free_is_not_written_to(opened: Subject, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="was not saved to .*taken") as refusal:
        predict.save_pruned(opened.model, opened.processor, "layer", 0.5, tmp_path / "taken")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]
    assert not list(tmp_path.glob(".taken*"))


def test_a_model_that_reads_back_as_another_one_is_refused_before_it_is_measured(
    opened: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = next(iter(opened.model.weights.values()))
    saved = predict.storage.save

    def damaged(*arguments: object) -> None:
        with torch.no_grad():
            weight.add_(1)
        saved(*arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            weight.sub_(1)

    monkeypatch.setattr(predict.storage, "save", damaged)
    with pytest.raises(UserError, match="read back, .*weight has other values"):
        predict.check_saving(opened.model, opened.processor, tmp_path / "pruned")
    assert not list(tmp_path.glob("*pruned*"))


def test_names_of_pruned_models_differ_where_the_models_do(opened: Subject) -> None:
    name = predict.pruned_name(opened.model, "layer", 0.57)
    assert name.startswith(f"{opened.model.name}-layer-57-")
    assert predict.pruned_name(opened.model, "layer", 0.57) == name
    others = {predict.pruned_name(opened.model, *given) for given in (("layer", 0.58), ("global", 0.57))}
    weight = next(iter(opened.model.weights.values()))
    with torch.no_grad():
        weight[0, 0] += 1
    others.add(predict.pruned_name(opened.model, "layer", 0.57))
    assert len(others | {name}) == 4


def _with_dense(opened: Subject, accuracy: float) -> Subject:
    """The subject with labels such that a share of its answers is correct, spread evenly over them."""
    answers = opened.answers.argmax(-1)
    labels = answers.clone()
    wrong = torch.linspace(0, len(labels) - 1, round((1 - accuracy) * len(labels))).long()
    labels[wrong] = (answers[wrong] + 1 + torch.arange(len(wrong)) % 2) % 3
    task = replace(opened.model.task, validation=Split(opened.model.task.validation.inputs, labels.numpy()))
    examples = replace(opened.model.examples, labels=labels)
    return Subject(replace(opened.model, task=task, examples=examples), opened.processor, ())


def test_a_model_that_has_not_learned_is_refused_in_one_sentence(
    opened: Subject, surrogate: PretrainedSurrogate
) -> None:
    with pytest.raises(UserError, match=r"accuracy 0\.[34]\d\d, the majority class 0\.3.*not learned") as refusal:
        predict.predict(_with_dense(opened, 0.4), surrogate, 0.01)
    assert "\n" not in str(refusal.value)
    assert predict.predict(_with_dense(opened, 0.6), surrogate, 0.01).dense_accuracy == pytest.approx(0.6, abs=0.01)
    with pytest.raises(UserError, match="between 0 and 1"):
        predict.predict(opened, surrogate, 1.5)


def test_classes_in_another_order_are_the_reason_that_is_given(opened: Subject, surrogate: PretrainedSurrogate) -> None:
    labels = (opened.model.examples.labels + 1) % 3
    task = replace(opened.model.task, validation=Split(opened.model.task.validation.inputs, labels.numpy()))
    turned = replace(opened.model, task=task, examples=replace(opened.model.examples, labels=labels))
    with pytest.raises(UserError, match="seem to be in another order"):
        predict.predict(Subject(turned, opened.processor, ()), surrogate, 0.01)


def test_a_layer_of_zeros_has_a_forecast(opened: Subject, surrogate: PretrainedSurrogate) -> None:
    """Pruning in global scope may empty a layer: what the product saves can be forecast again."""
    query = opened.model.model.bert.encoder.layer[0].attention.self.query.weight
    with torch.no_grad():
        query.zero_()
    emptied = Subject(opened.model, opened.processor, ())
    assert emptied.dense_accuracy > 0.5
    prediction = predict.predict(emptied, surrogate, EPSILON)
    assert np.isfinite(prediction.curve[["predicted", "lower", "upper"]]).all(axis=None)
    assert np.isfinite(list(prediction.recommended.values())).all()


@pytest.mark.parametrize("column", ["lost_max", "agreement"])
def test_a_proxy_that_is_not_a_number_leads_to_no_recommendation(
    opened: Subject, surrogate: PretrainedSurrogate, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    signals = predict._signals(opened.model, ("layer",))
    monkeypatch.setattr(
        predict, "_signals", lambda *_: signals.assign(**{column: signals[column].mask(signals.index == 7)})
    )
    with pytest.raises(UserError, match=f"cannot be forecast: its proxy {column} is not a number"):
        predict.predict(opened, surrogate, EPSILON, ("layer",))


def test_a_forecast_that_is_not_a_number_is_refused(
    opened: Subject, surrogate: PretrainedSurrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PretrainedSurrogate, "recommended", lambda *_: np.array([np.nan, 0.5]))
    with pytest.raises(UserError, match="answers what is not a number"):
        predict.predict(opened, surrogate, EPSILON)


def test_a_checkpoint_with_other_classes_than_the_task_is_refused(subject: TrainedModel, task_folder: Path) -> None:
    frame = pd.DataFrame({"text": ["up", "down"] * 4, "label": np.arange(8) % 2})
    write_task(task_folder / "directions", {"train": frame, "validation": frame}, ("up", "down"))
    with pytest.raises(UserError, match="3 classes.*task 'directions' has 2") as refusal:
        open_subject(str(subject.folder), load_task("directions"))
    assert "\n" not in str(refusal.value)
