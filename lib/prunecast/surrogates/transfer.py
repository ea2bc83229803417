"""Forecasts of recalibrated curves of image networks, by surrogates that learned from transformers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prunecast import tables
from prunecast.errors import UserError
from prunecast.hardware import in_processes
from prunecast.surrogates import benchmark
from prunecast.surrogates.features import AGREEMENT, COLUMNS, CurveSet, Forecast, curves_on, has_proxies
from prunecast.sweeps.curve_metrics import learned

ALONE, WITH_OTHERS = "transformers", "transformers and other image networks"  # what a surrogate learned from
POINT = ["model", "scope", "surrogate", "training", "threshold"]


def transformer_curves(folder: Path) -> CurveSet:
    """Curves of the transformers of a study that learned their task, on the percentile axis.

    Args:
        folder: Tables of the study.
    """
    curves = _curves(folder)
    return curves.at((curves.facts["kind"] == "text").to_numpy())


def recalibrated_curves(folder: Path) -> CurveSet:
    """Curves of image networks whose batch norms were recalibrated, on the percentile axis; dense points are not.

    Args:
        folder: Tables of a study. Where none of its sweeps was recalibrated, accuracies are those of its table
            `recalibration`, interpolated between the thresholds measured there, and the curves have no agreement,
            which was measured without recalibration.
    """
    curves, engines = _curves(folder), tables.read("engines", folder)
    swept = np.isin(curves.models, engines.loc[engines["recalibrated"] > 0, "model"])
    if swept.any():
        return curves.at(swept)
    by_curve = dict(iter(tables.read("recalibration", folder).groupby(["model", "scope"])))
    curves = curves.at(np.array([name in by_curve for name in curves.names]))
    accuracy, measured, signals = curves.accuracy.copy(), np.zeros_like(curves.measured), curves.signals.copy()
    for row, name in enumerate(curves.names):
        pruned = by_curve[name].query("threshold > 0")
        known = np.append(curves.accuracy[row, 0], pruned["recalibrated"])
        accuracy[row] = np.interp(curves.thresholds, np.append(0, pruned["threshold"]), known)
        measured[row] = np.isin(curves.thresholds, np.append(0, pruned["threshold"]))
    signals[..., COLUMNS.index(AGREEMENT)] = np.nan
    return replace(curves, accuracy=accuracy, measured=measured, signals=signals)


def forecasts(
    transformers: CurveSet, networks: CurveSet, surrogates: Sequence[str], seed: int, with_others: bool = True
) -> pd.DataFrame:
    """Forecasts of image networks by surrogates that learned from transformers alone, and with the other networks.

    A surrogate whose zero-cost proxies were not measured is left out.

    Args:
        transformers: Curves to learn from.
        networks: Curves to forecast; no point of the network that is forecast is known but the dense one.
        surrogates: Names in `benchmark.ENTRIES`.
        seed: Seed of the surrogates.
        with_others: Whether to forecast each network with all others in the training as well.

    Returns:
        A row for each point but the dense one, with the columns of `rows_of`, `surrogate`, and `training`, which is
        `ALONE` or `WITH_OTHERS`.

    Raises:
        UserError: The curves are on other thresholds.
    """
    if not np.array_equal(transformers.thresholds, networks.thresholds):
        raise UserError("curves of transformers and of image networks are on other thresholds; sweep both on the same")
    names = [name for name in surrogates if has_proxies(networks, benchmark.ENTRIES[name].groups)]
    folds = [(ALONE, transformers, networks)]
    for model in dict.fromkeys(networks.models) if with_others else ():
        out = networks.models == model
        folds.append((WITH_OTHERS, _together(transformers, networks.at(~out)), networks.at(out)))
    jobs = [(name, *curves, seed) for name in names for _, *curves in folds]
    found = iter(in_processes(_forecast, jobs, "forecasting image networks"))
    parts = []
    for name in names:
        for training, _, tested in folds:
            nothing = np.zeros(tested.accuracy.shape, bool)
            rows = benchmark.rows_of(tested, next(found), nothing, np.zeros(len(tested.names), int))
            parts.append(rows.assign(surrogate=name, training=training, seed=seed))
    return pd.concat(parts).sort_values(POINT, ignore_index=True)


def errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute errors of forecasts over the measured points, and over whole curves.

    Args:
        rows: Result of `forecasts`.

    Returns:
        Rows of the table `transfer`, errors in accuracy as a fraction.
    """
    rows = rows.assign(error=(rows["predicted"] - rows["accuracy"]).abs())
    curve = [*POINT[:-1], "seed"]
    at_measured = rows[rows["measured"]].groupby(curve)["error"].agg(mae="mean", points="size")
    whole = rows.groupby(curve)["error"].mean()
    found: pd.DataFrame = at_measured.assign(mae_whole=whole).reset_index()
    return found


def _curves(folder: Path) -> CurveSet:
    models = tables.read("models", folder)
    models = models[learned(models)].reset_index(drop=True)
    return curves_on("percentile", tables.read("sweeps", folder), models, tables.read("signals", folder))


def _together(one: CurveSet, other: CurveSet) -> CurveSet:
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("sparsity", "accuracy", "noise", "measured", "signals")
    }
    facts = pd.concat([one.facts, other.facts], ignore_index=True)
    return replace(one, names=[*one.names, *other.names], facts=facts, **arrays)


def _forecast(name: str, training: CurveSet, tested: CurveSet, seed: int) -> Forecast:
    unknown = tested.knowing(np.zeros(tested.accuracy.shape, bool))
    return benchmark.unfitted(name, seed).fit(training).predict(unknown)
