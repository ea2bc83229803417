import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from prunecast.plotting import curves
from read_back import check, lines, marks
from small_tables import AT, FIGURES, MODELS, RECOMMENDED, board, digest, prediction, predictions, sweeps

TITLES = ("sst2 minilm", "trec6 bert")
SCOPES = ["magnitude, global scope", "magnitude, layer scope", "random"]


def _points(rows: pd.DataFrame, x: str, y: str) -> np.ndarray:
    return rows[[x, y]].to_numpy()


def test_the_same_data_give_the_same_bytes_in_another_process() -> None:
    script = Path(__file__).parent / "small_tables.py"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, script, *FIGURES], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [digest(name) for name in FIGURES]


def test_curves_are_those_of_the_table_above_the_line_of_the_majority_class() -> None:
    figure = FIGURES["curves"]()
    check(figure, [*SCOPES, "majority class"], TITLES)
    for (_, rows), majority, panel in zip(sweeps().groupby("model"), (0.5, 0.2), figure.axes, strict=True):
        *series, level = lines(panel)
        parts = rows.groupby(["criterion", "scope"])
        np.testing.assert_array_equal(series, [_points(part, "sparsity", "accuracy") for _, part in parts])
        np.testing.assert_array_equal(level[:, 1], majority)


def test_each_axis_has_a_panel_with_its_unit() -> None:
    rows = sweeps(MODELS[:1], ("sigma", "percentile"))
    figure = curves.draw_axes(rows, 0.2)
    check(figure, [*SCOPES[:2], "majority class"], ("sigma: standard deviations", "percentile: tens of per cent"))
    for (_, on_axis), panel in zip(rows.groupby("axis", sort=False), figure.axes, strict=True):
        parts = on_axis.query("criterion == 'magnitude'").groupby("scope")
        np.testing.assert_array_equal(lines(panel)[:-1], [_points(part, "threshold", "accuracy") for _, part in parts])


def test_variants_share_the_panel_of_their_base_and_a_model_without_any_has_none() -> None:
    bases = {"cr_bert": "cr_bert", "cr_bert_brief": "cr_bert", "cr_bert_large_batch": "cr_bert", "r8_bert": "r8_bert"}
    rows = sweeps(list(bases))
    figure = curves.draw_variants(pd.Series(bases), rows)
    check(figure, ["as it is", "brief", "large batch"], ("cr bert",))
    chosen = rows.query("scope == 'global' and criterion == 'magnitude' and model != 'r8_bert'")
    wanted = [_points(part, "sparsity", "accuracy") for _, part in chosen.groupby("model")]
    np.testing.assert_array_equal(lines(figure.axes[0]), wanted)


def test_forecasts_lie_over_the_measured_curve() -> None:
    figure = curves.draw_forecasts(predictions(), MODELS[::-1])
    check(figure, ["measured", "LSTM", "mean curve", "straight line"], TITLES[::-1])
    for model, panel in zip(MODELS[::-1], figure.axes, strict=True):
        of_model = predictions()[predictions()["model"] == model]
        rows = [part for _, part in of_model.groupby("surrogate")]
        wanted = [_points(rows[0], "threshold", "accuracy")]
        wanted += [_points(part, "threshold", "predicted") for part in rows]
        np.testing.assert_array_equal(lines(panel), wanted)


def test_a_prediction_has_its_interval_and_the_recommended_sparsity() -> None:
    figure = FIGURES["prediction"]()
    check(figure, ["forecast", "90 % interval", "dense accuracy", "recommended"], ("global scope", "layer scope"))
    for scope, panel in zip(RECOMMENDED, figure.axes, strict=True):
        rows = prediction()[prediction()["scope"] == scope]
        forecast, dense, recommended = lines(panel)
        np.testing.assert_array_equal(forecast, _points(rows, "sparsity", "predicted"))
        assert set(dense[:, 1]) == {0.9}
        assert set(recommended[:, 0]) == {RECOMMENDED[scope]}
        corners = np.unique(np.concatenate([path.vertices for path in panel.collections[0].get_paths()]), axis=0)
        wanted = np.concatenate([_points(rows, "sparsity", "lower"), _points(rows, "sparsity", "upper")])
        np.testing.assert_array_equal(corners, np.unique(wanted, axis=0))


def test_measured_points_lie_over_the_forecast_of_their_scope() -> None:
    columns = ["scope", "sparsity", "accuracy"]
    points = pd.DataFrame([("layer", 0.0, 0.9), ("layer", 0.4, 0.8), ("global", 0.2, 0.7)], columns=columns)
    figure = curves.draw_prediction(prediction(), RECOMMENDED, 0.9, points)
    for scope, panel in zip(RECOMMENDED, figure.axes, strict=True):
        (marks,) = [line for line in panel.lines if line.get_label() == "measured"]
        rows = points[points["scope"] == scope]
        np.testing.assert_array_equal(marks.get_xydata(), rows[columns[1:]])


def test_an_interval_lies_around_its_forecast_beside_the_points_that_were_measured() -> None:
    rows = predictions()[predictions()["surrogate"] == "lstm"]
    rows = rows.assign(lower=rows["predicted"] - 0.1, upper=rows["predicted"] + 0.2, measured=rows["sparsity"] > 0.4)
    figure = curves.draw_intervals(rows, MODELS[::-1])
    check(figure, ["forecast", "90 % interval", "measured"], TITLES[::-1])
    for model, panel in zip(MODELS[::-1], figure.axes, strict=True):
        of_model = rows[rows["model"] == model]
        forecast, measured = lines(panel)
        np.testing.assert_array_equal(forecast, _points(of_model, "threshold", "predicted"))
        np.testing.assert_array_equal(measured, _points(of_model[of_model["measured"]], "threshold", "accuracy"))
        corners = np.unique(np.concatenate([path.vertices for path in panel.collections[0].get_paths()]), axis=0)
        wanted = np.concatenate([_points(of_model, "threshold", "lower"), _points(of_model, "threshold", "upper")])
        np.testing.assert_array_equal(corners, np.unique(wanted, axis=0))


def test_the_best_of_each_protocol_and_what_it_is_compared_with_are_named() -> None:
    figure = FIGURES["leaderboard"]()
    check(figure, ["leave one out", "one evaluation", "printed by the source study"])
    np.testing.assert_array_equal(marks(figure.axes[0]), [_points(board(), "cost", "mae")])
    named = [text.get_text() for text in figure.axes[0].texts]
    assert named == ["LSTM", "straight line", "agreement", "LSTM agreement"]


def test_a_forecast_without_a_recalibrated_curve_gets_no_panel() -> None:
    rows = sweeps(MODELS[:1]).query("criterion == 'magnitude'")
    measured = rows.assign(recalibrated=rows["accuracy"] + 0.05)
    forecast = predictions().query("surrogate == 'lstm'")
    figure = curves.draw_recalibration(measured, forecast)
    titles = ("sst2 minilm, global", "sst2 minilm, layer")
    check(figure, ["as pruned", "recalibrated", "forecast of the LSTM"], titles)
    for scope, panel in zip(("global", "layer"), figure.axes, strict=True):
        of_scope = measured[measured["scope"] == scope]
        wanted = [_points(of_scope, "threshold", name) for name in ("accuracy", "recalibrated")]
        wanted += [_points(forecast[:5], "threshold", "predicted")] if scope == "global" else []
        np.testing.assert_array_equal(lines(panel), wanted)


def test_the_share_lost_by_a_layer_lies_under_the_accuracy() -> None:
    signals = pd.concat([pd.DataFrame({"model": name, "sparsity": AT, "lost_max": AT**2}) for name in MODELS])
    rows = sweeps().query("criterion == 'random'")
    figure = curves.draw_depletion(rows, signals, MODELS[1:])
    check(figure, ["lost by one layer", "accuracy"], TITLES[1:])
    accuracy = _points(rows.query("model == 'trec6_bert'"), "sparsity", "accuracy")
    np.testing.assert_array_equal(lines(figure.axes[0]), [np.column_stack([AT, AT**2]), accuracy])
