"""One curve, three axes: what is measured over sparsity is read at the thresholds of every axis."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from prunecast.models.evaluation import Examples, evaluate
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import AXES, SCOPES, Axis, Pruner, Ranking, cut, pruned_counts, rank, sparsity


def read_on_axes(weights: Mapping[str, Tensor], curves: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Read measured curves (rows of `Sweeper.curve`) on all axes at `thresholds`.

    The axes sigma and absolute count magnitudes, so curves of another criterion are read on the percentile axis
    alone. The sparsity of each threshold is exact: it is counted on the weights. Accuracy and loss are interpolated
    linearly over sparsity where that very mask is no point of the curve. In layer scope a sigma or absolute
    threshold prunes each layer by its own share, which the curve, with one share for all layers, only approximates.
    `evaluated` counts the examples that were looked at with that very mask.
    """
    rows = []
    for scope in SCOPES:
        ranking = rank(weights, magnitude, scope)  # a percentile counts the same whatever the criterion
        for criterion, curve in curves[curves["scope"] == scope].groupby("criterion", sort=False):
            axes: Sequence[Axis] = AXES if criterion == "magnitude" else ("percentile",)
            rows += [
                {"criterion": criterion} | _read(curve, ranking, axis, threshold)
                for axis in axes
                for threshold in thresholds
            ]
    return pd.DataFrame(rows)


def check_reading(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    examples: Examples,
    rows: pd.DataFrame,
    axis: Axis,
    thresholds: Sequence[float],
) -> pd.DataFrame:
    """Accuracy read off a magnitude curve (`rows` of `read_on_axes`) beside the one measured at `thresholds`."""
    found = []
    for scope in SCOPES:
        ranking = rank(weights, magnitude, scope)
        curve = rows[(rows["criterion"] == "magnitude") & (rows["scope"] == scope) & (rows["axis"] == axis)]
        with Pruner(weights, magnitude, ranking.groups) as pruner:
            for threshold in thresholds:
                counts = pruned_counts(ranking, axis, threshold)
                pruner.prune(cut(ranking, counts))
                native = evaluate(model, examples).accuracy
                read = float(np.interp(threshold, curve["threshold"], curve["accuracy"]))
                values = (scope, threshold, sparsity(ranking, counts), native, read)
                found.append(dict(zip(("scope", "threshold", "sparsity", "native", "read"), values, strict=True)))
    return pd.DataFrame(found)


def _read(curve: pd.DataFrame, ranking: Ranking, axis: Axis, threshold: float) -> dict[str, Any]:
    counts = pruned_counts(ranking, axis, threshold)
    pruned, share = sum(counts.values()), sparsity(ranking, counts)
    same_mask = ranking.scope == "global" or axis == "percentile" or share in (0.0, 1.0)
    point = curve[curve["pruned"] == pruned] if same_mask else curve.iloc[:0]
    return {
        "scope": ranking.scope,
        "axis": axis,
        "threshold": threshold,
        "sparsity": share,
        "accuracy": float(np.interp(pruned, curve["pruned"], curve["accuracy"])),
        "loss": float(np.interp(pruned, curve["pruned"], curve["loss"])),
        "evaluated": int(point["evaluated"].max()) if len(point) else 0,
    }
