"""Reading a curve that was measured over sparsity at the thresholds of the three axes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn

from prunecast.models.evaluation import evaluate
from prunecast.models.inputs import Examples
from prunecast.pruning.criteria import magnitude
from prunecast.pruning.masks import AXES, SCOPES, Axis, Pruner, Ranking, cut, pruned_counts, rank, sparsity


def read_on_axes(weights: Mapping[str, Tensor], curves: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Read measured curves on all axes.

    The axes sigma and absolute compare magnitudes, so curves of another criterion are read on the percentile axis
    alone. The sparsity of each threshold is exact: it is counted on the weights. Accuracy and loss are interpolated
    linearly over sparsity where that very mask is no point of the curve. In layer scope a sigma or absolute
    threshold prunes each layer by its own share, which the curve, with one share for all layers, only approximates.

    Args:
        weights: Prunable weights, by name.
        curves: Rows of `Sweeper.curve` for any criteria and scopes.
        thresholds: Thresholds on each axis: standard deviations, hundredths, or tenths of the weights.

    Returns:
        A row for each criterion, scope, axis and threshold, with sparsity and accuracy (fractions), loss (nats) and
        `evaluated`, the number of examples evaluated with that very mask.
    """
    rows = []
    for scope in SCOPES:
        ranking = rank(weights, magnitude, scope)  # a percentile counts the same whatever the criterion
        for criterion, curve in curves[curves["scope"] == scope].groupby("criterion", sort=False):
            axes: Sequence[Axis] = AXES if criterion == "magnitude" else ("percentile",)
            for axis in axes:
                rows.append(_read(curve, ranking, axis, thresholds))
                rows[-1].insert(0, "criterion", criterion)
    return pd.concat(rows, ignore_index=True)


def check_reading(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    examples: Examples,
    rows: pd.DataFrame,
    axis: Axis,
    thresholds: Sequence[float],
) -> pd.DataFrame:
    """Accuracy read off a magnitude curve beside the accuracy measured at the same thresholds.

    Args:
        model: The classifier.
        weights: Its prunable weights, by name; they are restored at the end.
        examples: Examples it is evaluated on.
        rows: Result of `read_on_axes`.
        axis: Axis of the thresholds.
        thresholds: Thresholds on that axis.

    Returns:
        A row for each scope and threshold, with sparsity, `native` (measured) and `read` accuracy, all fractions.
    """
    checks = []
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
                checks.append(dict(zip(("scope", "threshold", "sparsity", "native", "read"), values, strict=True)))
    return pd.DataFrame(checks)


def _read(curve: pd.DataFrame, ranking: Ranking, axis: Axis, thresholds: Sequence[float]) -> pd.DataFrame:
    counts = [pruned_counts(ranking, axis, threshold) for threshold in thresholds]
    pruned = np.array([sum(count.values()) for count in counts])
    shares = np.array([sparsity(ranking, count) for count in counts])
    same_mask = (ranking.scope == "global") | (axis == "percentile") | np.isin(shares, (0.0, 1.0))
    evaluated = curve.groupby("pruned")["evaluated"].max().reindex(pruned, fill_value=0).to_numpy()
    accuracy, loss = (np.interp(pruned, curve["pruned"], curve[name]) for name in ("accuracy", "loss"))
    columns = {"scope": ranking.scope, "axis": axis, "threshold": thresholds, "sparsity": shares}
    return pd.DataFrame(columns | {"accuracy": accuracy, "loss": loss, "evaluated": np.where(same_mask, evaluated, 0)})
