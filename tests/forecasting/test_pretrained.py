from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curves_to_learn import KNOWN, MODELS, UNKNOWN
from prunecast.forecasting.pretrained import GROUPS, PretrainedSurrogate, load, save
from prunecast.surrogates import lstm
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.lstm import LSTMSurrogate


@pytest.fixture(scope="module")
def trained() -> PretrainedSurrogate:
    """A surrogate trained for a few steps, for what does not depend on its quality."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm, "STEPS", 20)
        posterior = CurvePosterior(lambda: LSTMSurrogate(0, GROUPS), 0).fit(KNOWN)
    ranges = {"prunable_parameters": (1e5, 1e7), "layers": (4.0, 20.0), "classes": (2.0, 8.0)}
    return PretrainedSurrogate(posterior, ranges, 0.02, {0.01: 0.5, 0.1: 0.2}, tuple(MODELS), {}, 1)


def test_a_surrogate_forecasts_the_same_after_it_was_saved_and_loaded(
    trained: PretrainedSurrogate, tmp_path: Path
) -> None:
    save(trained, tmp_path)
    loaded = load(tmp_path)
    assert loaded.forecast(UNKNOWN).lower == pytest.approx(
        trained.forecast(UNKNOWN).lower, abs=1e-6
    )  # saved as float32
    save(loaded, tmp_path)
    assert np.array_equal(load(tmp_path).forecast(UNKNOWN).lower, loaded.forecast(UNKNOWN).lower)
    assert loaded.recommended(UNKNOWN, 0.05) == pytest.approx(trained.recommended(UNKNOWN, 0.05))


def test_a_model_outside_the_training_range_gets_a_wider_interval_and_a_warning(trained: PretrainedSurrogate) -> None:
    unusual = replace(UNKNOWN, facts=UNKNOWN.facts.assign(classes=1000))
    assert trained.out_of_range(UNKNOWN) == []
    (warning,) = trained.out_of_range(unusual)
    assert warning.startswith("classes is 1,000, outside 2 to 8 of the training models")
    narrow = replace(trained, ranges={"classes": (2.0, 3.0)}).forecast(UNKNOWN)
    wide = trained.forecast(UNKNOWN)
    assert (narrow.upper - narrow.lower).mean() > (wide.upper - wide.lower).mean()
