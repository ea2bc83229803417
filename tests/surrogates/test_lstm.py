import numpy as np
import pytest
from curves_to_learn import KNOWN, UNKNOWN, mean_errors, predictions
from prunecast.surrogates import lstm, splits
from prunecast.surrogates.lstm import LSTMSurrogate


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training so short that it costs little, for what does not depend on its quality."""
    monkeypatch.setattr(lstm, "STEPS", 20)


@pytest.mark.slow
def test_the_lstm_forecasts_unseen_architectures_better_than_the_baselines() -> None:
    rows = predictions()
    errors = mean_errors(rows[rows["protocol"] == "leave_one_architecture_out"])
    assert errors["lstm"] < 0.6 * errors["mean_curve"]
    assert errors["lstm"] < 0.6 * errors["straight_line"]


def test_the_same_seed_gives_the_same_forecast_and_another_one_another(few_steps: None) -> None:
    one, two, three = (LSTMSurrogate(seed).fit(KNOWN).predict(UNKNOWN).predicted for seed in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_unknown_points_are_not_trained_on_and_all_are_forecast(few_steps: None) -> None:
    (fold,) = splits.points(KNOWN, 0)
    assert np.isnan(fold.training.accuracy).any()
    assert np.isfinite(LSTMSurrogate().fit(fold.training).predict(fold.tested).predicted).all()


def test_a_surrogate_restored_from_its_state_gives_the_same_forecast(few_steps: None) -> None:
    fitted = LSTMSurrogate().fit(KNOWN)
    restored = LSTMSurrogate().restore(fitted.state())
    assert np.array_equal(restored.predict(UNKNOWN).predicted, fitted.predict(UNKNOWN).predicted)
