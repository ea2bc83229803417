from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from curves_to_learn import KNOWN
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.surrogates import benchmark, transfer
from prunecast.surrogates.features import AGREEMENT, COLUMNS, CurveSet, Forecast, without_interval

NETWORKS = ("cifar10_preresnet20", "cifar10_vgg16")
TEXT = KNOWN.at((KNOWN.facts["kind"] == "text").to_numpy())
IMAGES = KNOWN.at((KNOWN.facts["kind"] == "image").to_numpy())


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few models of the measured campaign, with all its tables."""
    folder = tmp_path_factory.mktemp("campaign")
    for table in ("models", "sweeps", "signals", "engines", "recalibration"):
        rows = tables.read(table, paths.MEASURED / "campaign")
        tables.write(table, rows[rows["model"].isin([*NETWORKS, "trec6_bert", "mnist_fc5"])], folder)
    return folder


def _vision(campaign: Path, folder: Path) -> pd.DataFrame:
    """A study of the two networks that was recalibrated throughout, and its sweeps."""
    for table in ("models", "signals", "engines", "sweeps"):
        rows = tables.read(table, campaign)
        rows = rows[rows["model"].isin(NETWORKS)]
        if table == "engines":
            rows = rows.assign(recalibrated=512)
        if table == "sweeps":
            rows = rows.assign(accuracy=rows["accuracy"] / 2)
        tables.write(table, rows, folder)
    return tables.read("sweeps", folder)


def test_recalibrated_sweeps_are_taken_as_they_are_with_their_agreement(campaign: Path, tmp_path: Path) -> None:
    sweeps = _vision(campaign, tmp_path).query("axis == 'percentile' and criterion == 'magnitude'")
    found = transfer.recalibrated_curves(tmp_path)
    assert found.names == [(name, scope) for name in NETWORKS for scope in ("global", "layer")]
    for (model, scope), accuracy, measured in zip(found.names, found.accuracy, found.measured, strict=True):
        rows = sweeps[(sweeps["model"] == model) & (sweeps["scope"] == scope)].sort_values("threshold")
        assert accuracy.tolist() == rows["accuracy"].tolist()
        assert measured.tolist() == rows["measured"].tolist()
    assert not np.isnan(found.signals).any()


def test_without_recalibrated_sweeps_the_table_is_interpolated_and_there_is_no_agreement(campaign: Path) -> None:
    found = transfer.recalibrated_curves(campaign)
    table = (
        tables.read("recalibration", campaign).set_index(["model", "scope", "threshold"])["recalibrated"].sort_index()
    )
    assert set(found.models) == set(NETWORKS)
    for (model, scope), accuracy, measured in zip(found.names, found.accuracy, found.measured, strict=True):
        at = found.thresholds[measured]
        assert at.tolist() == table[model, scope].index.tolist()
        assert accuracy[measured][1:].tolist() == table[model, scope].tolist()[1:]
        between = np.searchsorted(found.thresholds, 8.2)  # of 8.0 and 8.5, which were measured
        assert accuracy[between] == pytest.approx(0.6 * table[model, scope, 8.0] + 0.4 * table[model, scope, 8.5])
    assert found.accuracy[:, 0].tolist() == found.facts["dense_accuracy"].tolist()  # the networks' own statistics
    assert np.isnan(found.signals[..., COLUMNS.index(AGREEMENT)]).all()
    assert set(transfer.transformer_curves(campaign).models) == {"trec6_bert"}


class _Trained:
    """A surrogate that forecasts for every point the number of curves that it has learned from."""

    def fit(self, curves: CurveSet) -> "_Trained":
        self.names = curves.names
        return self

    def predict(self, curves: CurveSet) -> Forecast:
        assert np.isnan(curves.accuracy[:, 1:]).all()
        assert not set(curves.names) & set(self.names)
        return without_interval(np.full(curves.accuracy.shape, float(len(self.names))))


def _in_this_process(function: object, jobs: Sequence[tuple[object, ...]], _: str) -> list[object]:
    return [function(*job) for job in jobs]  # type: ignore[operator]


def test_networks_are_forecast_from_transformers_and_from_these_with_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "in_processes", _in_this_process)
    monkeypatch.setattr(benchmark, "unfitted", lambda name, seed: _Trained())
    rows = transfer.forecasts(TEXT, IMAGES, ["lstm"], 0)
    learned_from = rows.groupby("training")["predicted"].agg(set).to_dict()
    assert learned_from == {transfer.ALONE: {8.0}, transfer.WITH_OTHERS: {10.0}}
    assert len(rows) == 2 * IMAGES.accuracy[:, 1:].size
    alone = transfer.forecasts(TEXT, IMAGES, ["lstm"], 0, with_others=False)
    assert set(alone["training"]) == {transfer.ALONE}
    with pytest.raises(UserError, match="on other thresholds"):
        transfer.forecasts(TEXT, replace(IMAGES, thresholds=IMAGES.thresholds / 2), ["lstm"], 0)


def test_errors_are_means_over_measured_points_and_over_whole_curves(tmp_path: Path) -> None:
    measured = np.tile(np.arange(len(IMAGES.thresholds)) % 4 == 0, (len(IMAGES.names), 1))
    networks = replace(IMAGES, measured=measured)
    signals = networks.signals.copy()
    signals[..., COLUMNS.index(AGREEMENT)] = np.nan
    networks = replace(networks, signals=signals)
    found = transfer.errors(transfer.forecasts(TEXT, networks, ["straight_line", "lstm_agreement"], 0))
    tables.write("transfer", found, tmp_path)
    assert set(found["surrogate"]) == {"straight_line"}  # the other one lacks a proxy
    assert set(found["points"]) == {10}
    for row, (model, scope) in enumerate(networks.names):
        others = networks.accuracy[networks.models != model]
        errors = found[(found["model"] == model) & (found["scope"] == scope)].set_index("training")
        for training, curves in (
            (transfer.ALONE, TEXT.accuracy),
            (transfer.WITH_OTHERS, np.vstack([TEXT.accuracy, others])),
        ):
            fallen, at = (curves - curves[:, :1]).ravel(), np.tile(KNOWN.thresholds, len(curves))
            (slope,), *_ = np.linalg.lstsq(at[:, None], fallen, rcond=None)
            truth = networks.accuracy[row]
            error = np.abs(truth[0] + slope * networks.thresholds - truth)
            assert errors["mae"][training] == pytest.approx(error[measured[row]][1:].mean())
            assert errors["mae_whole"][training] == pytest.approx(error[1:].mean())
