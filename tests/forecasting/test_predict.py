from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prunecast.errors import UserError
from prunecast.forecasting import predict, subjects
from prunecast.forecasting.pretrained import GROUPS, PretrainedSurrogate
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.evaluation import evaluate
from prunecast.surrogates import lstm
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import CurveSet, unmeasured
from prunecast.surrogates.lstm import LSTMSurrogate
from tiny import write_task

EPSILON = 0.05


@pytest.fixture(scope="module")
def surrogate(subject: TrainedModel) -> PretrainedSurrogate:
    """A surrogate trained on one curve, for what does not depend on its quality."""
    curves = unmeasured(predict._facts(subject, 1.0), predict._signals(subject))
    known = CurveSet(**{**vars(curves), "accuracy": curves.accuracy_of(1 - curves.sparsity**4)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm, "STEPS", 20)
        posterior = CurvePosterior(lambda: LSTMSurrogate(0, GROUPS), 0).fit(known)
    return PretrainedSurrogate(posterior, {"layers": (1.0, 99.0)}, 0.02, {0.01: 0.1, 0.1: 0.1}, ("tiny",), {}, 1)


def test_a_checkpoint_is_forecast_pruned_saved_and_read_back(
    subject: TrainedModel, surrogate: PretrainedSurrogate, task_folder: Path, tmp_path: Path
) -> None:
    loaded, tokenizer = subjects.subject_of(str(subject.folder), "colours")
    dense = evaluate(loaded.model, loaded.examples).accuracy
    prediction = predict.predict(loaded, surrogate, EPSILON, dense)
    assert set(prediction.recommended) == {"global", "layer"}
    assert len(prediction.curve) == 2 * 101
    assert (prediction.curve["lower"] <= prediction.curve["upper"]).all()
    assert prediction.curve["predicted"].iloc[0] == pytest.approx(dense)
    ratio, safe = predict.largest_safe(loaded, "layer", EPSILON, prediction.recommended["layer"])
    assert safe.accuracy >= dense - EPSILON
    assert 0 < ratio < 1
    predict.save_pruned(loaded, tokenizer, "layer", ratio, tmp_path / "pruned")
    again, _ = subjects.subject_of(str(tmp_path / "pruned"), "colours")
    zeros = sum(int((weight == 0).sum()) for weight in again.weights.values())
    assert zeros / sum(weight.numel() for weight in again.weights.values()) == pytest.approx(ratio, abs=1e-3)
    assert evaluate(again.model, again.examples).accuracy == safe.accuracy
    assert evaluate(loaded.model, loaded.examples).accuracy == dense
    predict.save_pruned(loaded, tokenizer, "layer", ratio + 0.01, tmp_path / "further")
    further, _ = subjects.subject_of(str(tmp_path / "further"), "colours")
    assert evaluate(further.model, further.examples).accuracy < dense - EPSILON
    with pytest.raises(UserError, match="between 0 and 1"):
        predict.largest_safe(loaded, "layer", 1.5, 0.5)


@pytest.mark.parametrize(("dense", "epsilon", "sentence"), [(0.35, 0.01, "not learned"), (1.0, 1.5, "between 0 and 1")])
def test_a_model_without_a_curve_to_forecast_is_refused_in_one_sentence(
    subject: TrainedModel, surrogate: PretrainedSurrogate, dense: float, epsilon: float, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as refusal:
        predict.predict(subject, surrogate, epsilon, dense)
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_with_other_classes_than_the_task_is_refused(subject: TrainedModel, task_folder: Path) -> None:
    frame = pd.DataFrame({"text": ["up", "down"] * 4, "label": np.arange(8) % 2})
    write_task(task_folder / "directions", {"train": frame, "validation": frame}, ("up", "down"))
    with pytest.raises(UserError, match="3 classes.*task 'directions' has 2") as refusal:
        subjects.subject_of(str(subject.folder), "directions")
    assert "\n" not in str(refusal.value)
