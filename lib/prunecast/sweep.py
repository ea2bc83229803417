"""The plain sweep: prune one model at many sparsities, measure each, read the curve on every axis."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from prunecast.evaluation import Batch, score
from prunecast.progress import track
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import (
    AXES,
    MAXIMUM,
    SCOPES,
    Axis,
    Ranking,
    applied,
    masks,
    pruned_counts,
    rank,
    sparsity,
)
from prunecast.zoo import prunable_weights

Point = dict[str, Any]
POINT = ("scope", "threshold", "pruned", "sparsity", "accuracy", "loss")


def grid(points: int) -> list[float]:
    """`points` equally spaced thresholds from 0 to 10, rounded so that tables read well."""
    return [round(float(threshold), 6) for threshold in np.linspace(0, MAXIMUM, points)]


def measure(
    model: nn.Module, batches: list[Batch], thresholds: Sequence[float], known: Iterable[Point] = ()
) -> Iterator[Point]:
    """Measure the pruned model at every percentile threshold in both scopes, one row a mask as it is measured.

    A point has the keys `POINT`; those `known` from an interrupted sweep are yielded again, not measured again.
    The weights are back to what they were after each row.
    """
    weights = prunable_weights(model)
    done = {(row["scope"], row["threshold"]): row for row in known}
    for scope in SCOPES:
        ranking = rank(weights, magnitude(weights), scope)
        for threshold in track(thresholds, f"sweeping, {scope} scope"):
            if (scope, threshold) in done:
                yield done[scope, threshold]
                continue
            counts = pruned_counts(ranking, "percentile", threshold)
            with applied(weights, masks(ranking, counts)):
                found = score(model, batches)
            values = (
                scope,
                threshold,
                sum(counts.values()),
                sparsity(ranking, counts),
                found.accuracy,
                found.loss,
            )
            yield dict(zip(POINT, values, strict=True))


def read_on_axes(model: nn.Module, curve: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Read a measured curve (columns `POINT`) on all three axes at `thresholds`.

    The sparsity of each threshold is exact: it is counted on the weights. Accuracy and loss are those of the
    measurement where that very mask was measured, and interpolated linearly over sparsity elsewhere
    (`measured` false). In layer scope a sigma or absolute threshold prunes each layer by its own share, which the
    measured curve, with one share for all layers, only approximates.
    """
    weights = prunable_weights(model)
    rankings = {scope: rank(weights, magnitude(weights), scope) for scope in SCOPES}
    rows = [
        _read(curve[curve["scope"] == scope], ranking, axis, threshold)
        for scope, ranking in rankings.items()
        for axis in AXES
        for threshold in thresholds
    ]
    return pd.DataFrame(rows)


def check_reading(
    model: nn.Module, batches: list[Batch], rows: pd.DataFrame, axis: Axis, thresholds: Sequence[float]
) -> pd.DataFrame:
    """Accuracy read off a curve (`rows` of `read_on_axes`) beside the accuracy measured natively at `thresholds`."""
    weights = prunable_weights(model)
    found = []
    for scope in SCOPES:
        ranking = rank(weights, magnitude(weights), scope)
        curve = rows[(rows["scope"] == scope) & (rows["axis"] == axis)]
        for threshold in thresholds:
            counts = pruned_counts(ranking, axis, threshold)
            with applied(weights, masks(ranking, counts)):
                native = score(model, batches).accuracy
            read = float(np.interp(threshold, curve["threshold"], curve["accuracy"]))
            values = (scope, threshold, sparsity(ranking, counts), native, read)
            found.append(dict(zip(("scope", "threshold", "sparsity", "native", "read"), values, strict=True)))
    return pd.DataFrame(found)


def _read(curve: pd.DataFrame, ranking: Ranking, axis: Axis, threshold: float) -> dict[str, Any]:
    counts = pruned_counts(ranking, axis, threshold)
    pruned, share = sum(counts.values()), sparsity(ranking, counts)
    same_mask = ranking.scope == "global" or axis == "percentile" or share in (0.0, 1.0)
    return {
        "scope": ranking.scope,
        "axis": axis,
        "threshold": threshold,
        "sparsity": share,
        "accuracy": float(np.interp(pruned, curve["pruned"], curve["accuracy"])),
        "loss": float(np.interp(pruned, curve["pruned"], curve["loss"])),
        "measured": bool(same_mask and (curve["pruned"] == pruned).any()),
    }
