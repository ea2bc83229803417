"""Errors of forecasts: whole and by segment, with a bootstrap interval over models, coverage and cost."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from prunecast.seeding import seed_everything
from prunecast.sweeps.curve_metrics import SEGMENTS, segment, with_references

RESAMPLES = 2000
INTERVAL = (5, 95)
GROUPS = ("protocol", "axis", "surrogate")


def errors(predictions: pd.DataFrame, models: pd.DataFrame, seed: int, groups: Sequence[str] = GROUPS) -> pd.DataFrame:
    """Mean absolute error of each of the `groups`: `mae`, its 90 % interval `low` to `high`, and by segment.

    `gain` is the share of the straight line's error that is avoided, where there is a straight line; `coverage` the
    share of points inside their interval; `cost` the examples passed forward as a share of one evaluation, mean over
    curves. The interval resamples models, not points: the points of a curve stand or fall together. A segment without
    points is empty.
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


def _resampled(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Mean absolute errors (RESAMPLES) over models drawn with replacement, every model with all its points."""
    by_model = rows.groupby("model")["error"].agg(["sum", "count"]).to_numpy()
    draws = seed_everything(seed, "bootstrap").integers(len(by_model), size=(RESAMPLES, len(by_model)))
    totals = by_model[draws].sum(1)
    return totals[:, 0] / totals[:, 1]
