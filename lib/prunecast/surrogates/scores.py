"""Errors of forecasts over measured points, whole and by segment, with bootstrap intervals over groups of relatives."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from prunecast.sweeps.curve_metrics import SEGMENTS, interval_over_groups, relatives, segment, with_references

GROUPS = ("protocol", "axis", "surrogate")
COMPARED, LINE = "lstm", "straight_line"  # surrogates that all others are compared with
CURVE = ["group", "model", "scope"]
COLUMNS = (
    *("models", "relatives", "mae", "low", "high", "exact", "all_points"),
    *("difference", "difference_low", "difference_high", "gain", *SEGMENTS),
    *("coverage", "coverage_exact", "coverage_model", "coverage_group", "coverage_curve", "cost"),
)

Curves: TypeAlias = "pd.Series[float]"  # a figure for each curve
Key = tuple[Hashable, ...]  # values of the columns that make up a row of the result


def errors(predictions: pd.DataFrame, models: pd.DataFrame, seed: int, groups: Sequence[str] = GROUPS) -> pd.DataFrame:
    """Mean absolute errors of forecasts, by protocol, axis and surrogate or any other grouping that ends with it.

    An error is the mean over curves of a curve's mean over its measured points. Its interval resamples groups of
    relatives with replacement, never models or points, whose errors are correlated; that of a difference resamples
    the same groups for both surrogates. Below five groups there is none.

    Args:
        predictions: Rows of the table `predictions`.
        models: Rows of the table `models` for all these models.
        seed: Seed of the bootstrap.
        groups: Columns of `predictions` whose values make up a row of the result; the last is the surrogate.

    Returns:
        A row for each, errors in accuracy as a fraction: `models`; `relatives`, the number of groups of relatives;
        `mae` with its 90 % interval from `low` to `high`; `exact`, the error on the curves whose points were all
        measured; `all_points`, the mean over all points, those included that were interpolated; `difference` from the
        LSTM's error on the same curves, with its paired interval; `gain`, the share of the straight line's error that
        is avoided; the error in each of the `SEGMENTS`; `coverage`, the share of the measured points inside their
        interval, mean over curves, `coverage_exact`, that of the exact curves, `coverage_model` and `coverage_group`,
        that of the model and of the group where it is lowest, and `coverage_curve`, the share of the curves that lie
        inside as a whole; and `cost`, the examples passed forward as a share of one evaluation, mean over curves. NaN
        where there are no such points or intervals.
    """
    known = _known(predictions, models)
    parts = dict(iter(known.groupby(list(groups), sort=False)))
    curves = {key: _by_curve(rows) for key, rows in parts.items()}
    summaries = {key: _summary(rows) | _compared(key, curves, seed) for key, rows in parts.items()}
    return pd.DataFrame(summaries).T.rename_axis(list(groups))[list(COLUMNS)]


def by_group(predictions: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Error and coverage of one surrogate in one protocol, for each group of relatives.

    Args:
        predictions: Rows of the table `predictions` of that surrogate and protocol.
        models: Rows of the table `models` for all these models.

    Returns:
        By name of the group: `models`, `mae`, and `coverage`, `coverage_model` and `coverage_curve` as of `errors`.
    """
    groups = dict(iter(_known(predictions, models).groupby("group")))
    rows = {name: _summary(of) | {"mae": _by_curve(of).mean()} for name, of in groups.items()}
    return pd.DataFrame(rows).T[["models", "mae", "coverage", "coverage_model", "coverage_curve"]].rename_axis("group")


def _known(predictions: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    of_model = models.assign(group=relatives(models))[["model", "eval_examples", "group"]]
    known = with_references(predictions, models).merge(of_model, on="model", validate="many_to_one")
    return known.assign(error=(known["predicted"] - known["accuracy"]).abs(), segment=segment(known))


def _compared(key: Key, curves: Mapping[Key, Curves], seed: int) -> dict[str, float]:
    """The error of one row of the result with its interval, beside those of the LSTM and of the straight line."""
    own, lstm, line = (curves.get(name) for name in (key, (*key[:-1], COMPARED), (*key[:-1], LINE)))
    assert own is not None
    low, high = _interval(own, seed)
    compared = {"mae": own.mean(), "low": low, "high": high, "gain": np.nan}
    compared |= dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan)
    if lstm is not None:
        paired = (own - lstm).dropna()
        low, high = _interval(paired, seed)
        compared |= {"difference": paired.mean(), "difference_low": low, "difference_high": high}
    if line is not None:
        compared["gain"] = 1 - own.mean() / line.reindex(own.index).mean()
    return compared


def _interval(curves: Curves, seed: int) -> tuple[float, float]:
    return interval_over_groups(curves, curves.index.get_level_values("group"), seed)


def _by_curve(rows: pd.DataFrame, value: str = "error") -> Curves:
    """Mean of a column over the measured points of each curve."""
    return rows[rows["measured"]].groupby(CURVE)[value].mean()


def _summary(rows: pd.DataFrame) -> dict[str, float]:
    whole = rows.groupby(CURVE)["measured"].all()
    once = rows.drop_duplicates(["model", "scope"])
    return {
        "models": rows["model"].nunique(),
        "relatives": rows["group"].nunique(),
        "exact": _by_curve(rows).reindex(whole[whole].index).mean(),
        "all_points": rows["error"].mean(),
        **{name: _by_curve(rows[rows["segment"] == name]).mean() for name in SEGMENTS},
        **_coverage(rows, whole[whole].index),
        "cost": (once["samples"] / once["eval_examples"]).mean(),
    }


def _coverage(rows: pd.DataFrame, exact: pd.Index) -> dict[str, float]:
    with_interval = rows[rows["lower"].notna()]
    inside = with_interval["accuracy"].between(with_interval["lower"], with_interval["upper"])
    curves = _by_curve(with_interval.assign(inside=inside.astype(float)), "inside")
    return {
        "coverage": curves.mean(),
        "coverage_exact": curves.reindex(exact).mean(),
        "coverage_model": curves.groupby("model").mean().min(),
        "coverage_group": curves.groupby("group").mean().min(),
        "coverage_curve": (curves == 1).mean() if len(curves) else np.nan,
    }
