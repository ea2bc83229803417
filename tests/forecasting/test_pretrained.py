from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from curves_to_learn import KNOWN, MODELS, UNKNOWN
from prunecast import cache, paths, tables
from prunecast.errors import UserError
from prunecast.forecasting.pretrained import (
    GROUPS,
    STUDIES,
    TRAINED_ON,
    PretrainedSurrogate,
    load,
    pretrain,
    save,
    training_tables,
)
from prunecast.surrogates import lstm
from prunecast.surrogates.curve_posterior import CurvePosterior
from prunecast.surrogates.features import CurveSet, curves_on
from prunecast.surrogates.lstm import LSTMSurrogate


@pytest.fixture(scope="module")
def trained() -> PretrainedSurrogate:
    """A surrogate trained for a few steps, for what does not depend on its quality."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lstm, "STEPS", 20)
        posterior = CurvePosterior(lambda: LSTMSurrogate(0, GROUPS), 0).fit(KNOWN)
    ranges = {"prunable_parameters": (1e5, 1e7), "layers": (4.0, 20.0), "classes": (2.0, 8.0)}
    return PretrainedSurrogate(posterior, ranges, 1.5, {0.01: 0.5, 0.1: 0.2}, tuple(MODELS), {}, 1)


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


@pytest.fixture
def campaign() -> CurveSet:
    models, sweeps, signals = training_tables(paths.MEASURED).values()
    curves = curves_on("percentile", sweeps, models, signals)
    return curves.knowing(np.zeros(curves.accuracy.shape, bool))


def test_the_shipped_surrogate_is_that_of_the_tables_and_small() -> None:
    assert load().outdated() == []
    assert sum(path.stat().st_size for path in paths.PRETRAINED.iterdir()) <= 300_000


@pytest.mark.slow
def test_the_shipped_surrogate_equals_a_retraining(campaign: CurveSet) -> None:
    """Within a hundredth of accuracy on the mean and a fiftieth of a recommended ratio: processors add differently."""
    shipped, again = load(), pretrain(paths.MEASURED)
    difference = np.abs(shipped.forecast(campaign).predicted - again.forecast(campaign).predicted)
    assert difference.mean() <= 0.01
    assert np.abs(shipped.recommended(campaign, 0.01) - again.recommended(campaign, 0.01)).mean() <= 0.02
    assert shipped.interval_factor == pytest.approx(again.interval_factor, rel=0.1)
    assert (shipped.models, shipped.tables, shipped.ranges) == (again.models, again.tables, again.ranges)


def test_changed_tables_or_code_are_stated_with_how_to_retrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for study in STUDIES:
        (tmp_path / study).mkdir()
        for file in map(tables.file_name, TRAINED_ON):
            (tmp_path / study / file).write_bytes((paths.MEASURED / study / file).read_bytes())
    assert load().outdated(tmp_path) == []
    (tmp_path / STUDIES[-1] / "sweeps.csv").write_text("changed")
    assert load().outdated(tmp_path) == [
        f"{STUDIES[-1]}/sweeps.csv has changed since the surrogate was trained: retrain it with `prunecast pretrain`"
    ]
    monkeypatch.setitem(cache.VERSIONS, "surrogate", 3)
    assert load().outdated() == [
        "version 2 of its code trained the surrogate, and the version is 3: retrain it with `prunecast pretrain`"
    ]


def test_a_folder_without_a_surrogate_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no pretrained surrogate in .*: retrain it with"):
        load(tmp_path)
