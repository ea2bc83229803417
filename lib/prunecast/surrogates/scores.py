"""Errors of forecasts, whole and by segment, with a bootstrap interval over models, coverage and cost."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.seeding import seed_everything
from prunecast.sweeps.curve_metrics import SEGMENTS, segment, with_references

RESAMPLES = 2000
INTERVAL = (5, 95)
GROUPS = ("protocol", "axis", "surrogate")


def errors(predictions: pd.DataFrame, models: pd.DataFrame, seed: int, groups: Sequence[str] = GROUPS) -> pd.DataFrame:
    """Mean absolute errors of forecasts, by protocol, axis and surrogate or any other grouping.

    The interval resamples models with replacement, not points, because the errors of one curve are correlated.

    Args:
        predictions: Rows of the table `predictions`.
        models: Rows of the table `models` for all these models.
        seed: Seed of the bootstrap.
        groups: Columns of `predictions` whose values make up a group.

    Returns:
        A row for each group: `mae` in accuracy as a fraction, and its 90 % interval from `low` to `high`; `gain`, the
        share of the straight line's error that is avoided, if the straight line is among the surrogates; the error in
        each of the `SEGMENTS`, NaN for one without points; `coverage`, the share of points inside their interval;
        `cost`, the examples passed forward as a share of one evaluation, mean over curves.
    """
    known = with_references(predictions, models)
    known = known.merge(models[["model", "eval_examples"]], on="model", validate="many_to_one")
    known = known.assign(error=(known["predicted"] - known["accuracy"]).abs(), segment=segment(known))
    grouped = known.groupby(list(groups), sort=False)
    board = pd.DataFrame({key: _summary(rows, seed) for key, rows in grouped}).T.rename_axis(list(groups))
    line = board["mae"].unstack("surrogate").get("straight_line")
    if line is not None:
        board.insert(3, "gain", 1 - board["mae"] / line)
    return board


def _summary(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    low, high = np.percentile(_resampled(rows, seed), INTERVAL)
    by_segment = rows.groupby("segment")["error"].mean().reindex(SEGMENTS)
    inside = rows["accuracy"].between(rows["lower"], rows["upper"])[rows["lower"].notna()]
    curves = rows.drop_duplicates(["model", "scope"])
    return {
        "mae": rows["error"].mean(),
        "low": low,
        "high": high,
        **by_segment,
        "coverage": inside.mean(),
        "cost": (curves["samples"] / curves["eval_examples"]).mean(),
    }


def _resampled(rows: pd.DataFrame, seed: int) -> NDArray[np.float64]:
    """Mean absolute errors (RESAMPLES,) over models drawn with replacement, every model with all its points."""
    by_model = rows.groupby("model")["error"].agg(["sum", "count"]).to_numpy(float)
    draws = seed_everything(seed, "bootstrap").integers(len(by_model), size=(RESAMPLES, len(by_model)))
    totals: NDArray[np.float64] = by_model[draws].sum(1)
    return totals[:, 0] / totals[:, 1]
