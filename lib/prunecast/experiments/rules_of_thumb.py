"""Rules of thumb for a ratio to prune to, evaluated on measured curves: the effective number, and one ratio for all."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.pruning.masks import SCOPES
from prunecast.sweeps.curve_metrics import interval_over_groups, relatives, within_epsilon

SAFE = 0.9  # share of the curves on which a calibrated rule must be safe
FACTORS = np.round(np.arange(0.2, 3.01, 0.02), 2)  # of the effective number, from which calibration chooses
ONE_RATIO = "one ratio, calibrated"
RATIOS = np.round(np.arange(0.0, 1.0, 0.01), 2)

Floats = NDArray[np.float64]


def evaluate_rules(
    emp: pd.DataFrame, sweeps: pd.DataFrame, recommendations: pd.DataFrame, models: pd.DataFrame, epsilon: float
) -> pd.DataFrame:
    """Evaluate rules of thumb on measured curves, beside forecasts without measurements, under the same splits.

    A calibrated rule takes the smallest factor, or the largest ratio, that is safe on nine of ten curves of all other
    groups: of other families and pretrained parents, or of other tasks. Forecasts left out the same models.

    Args:
        emp: Rows of the table `emp`; those by magnitude at beta 1, for whole models and layers, are read.
        sweeps: Rows of the table `sweeps`, with the curve of each of them.
        recommendations: Rows of the table `recommendations`; those without measurements are read.
        models: Rows of the table `models` for all these models.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        By split (`leave_one_architecture_out`, `leave_one_task_out`) and rule, as fractions: `within epsilon`, the
        share of the curves on which it is safe; the mean `sparsity`; `unused`, the mean of the optimum less the
        sparsity, 0 where that is negative; `difference`, this less that of one calibrated ratio on the same curves,
        and its 90 % interval over groups of relatives, `low` to `high`.
    """
    rows = emp[(emp["criterion"] == "magnitude") & (emp["beta"] == 1)].reset_index(drop=True)
    curves = list(zip(rows["model"], rows["granularity"], strict=True))
    facts = models.set_index("model", drop=False).loc[rows["model"]].reset_index(drop=True)
    share, families = 1 - rows["sparsity"].to_numpy(float), relatives(facts)
    measured = [_curve(sweeps, *key) for key in curves]

    def loss(sparsities: Floats) -> Floats:
        return np.array([y[0] - np.interp(at, x, y) for at, (x, y) in zip(sparsities, measured, strict=True)])

    def by_beta(beta: float) -> Floats:
        return np.clip(1 - beta * share, 0, 1)

    def by_ratio(ratio: float) -> Floats:
        return np.full(len(rows), ratio)

    parts = {}
    for split, groups in {
        "leave_one_architecture_out": families,
        "leave_one_task_out": facts["task"].to_numpy(),
    }.items():
        pruned = {
            "effective number, beta 1": by_beta(1.0),
            f"always {1 - share.mean():.2f}": by_ratio(1 - float(share.mean())),
            "effective number, calibrated": _calibrated(by_beta, FACTORS[::-1], loss, groups, epsilon),
            ONE_RATIO: _calibrated(by_ratio, RATIOS, loss, groups, epsilon),
        }
        results = {name: pd.DataFrame({"sparsity": at, "loss": loss(at)}) for name, at in pruned.items()}
        chosen = recommendations[
            (recommendations["measurements"] == 0)
            & (recommendations["split"] == split)
            & np.isclose(recommendations["epsilon"], epsilon)
        ]
        for method, of in chosen.groupby("method"):
            aligned = of.set_index(["model", "scope"]).loc[curves].reset_index()
            results[f"forecast, {method}"] = aligned.rename(columns={"recommended": "sparsity"})[["sparsity", "loss"]]
        optimum = rows["optimum"].to_numpy(float)
        unused = {name: (optimum - result["sparsity"]).clip(lower=0) for name, result in results.items()}
        for name, result in results.items():
            difference = unused[name] - unused[ONE_RATIO]
            low, high = interval_over_groups(difference, families, 0)
            parts[split, name] = {
                "within epsilon": within_epsilon(-result["loss"], 0, epsilon).mean(),
                "sparsity": result["sparsity"].mean(),
                "unused": unused[name].mean(),
                "difference": difference.mean(),
                "low": low,
                "high": high,
            }
    return pd.DataFrame(parts).T.rename_axis(["split", "rule"])


def constant_ratio(sweeps: pd.DataFrame, models: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """One ratio for all models, calibrated for every curve on the curves of all other groups of relatives.

    Args:
        sweeps: Rows of the table `sweeps`, with the magnitude curves of all models in both scopes.
        models: Rows of the table `models`.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        A row for each curve with the columns model, scope, recommended and loss, fractions.
    """
    curves = [(model, scope) for model in models["model"] for scope in SCOPES]
    measured = [_curve(sweeps, *key) for key in curves]

    def loss(ratios: Floats) -> Floats:
        return np.array([y[0] - np.interp(at, x, y) for at, (x, y) in zip(ratios, measured, strict=True)])

    groups = np.repeat(relatives(models), len(SCOPES))
    chosen = _calibrated(lambda ratio: np.full(len(curves), ratio), RATIOS, loss, groups, epsilon)
    return pd.DataFrame(curves, columns=["model", "scope"]).assign(recommended=chosen, loss=loss(chosen))


def _curve(sweeps: pd.DataFrame, model: str, scope: str) -> tuple[Floats, Floats]:
    chosen = sweeps[(sweeps["model"] == model) & (sweeps["scope"] == scope) & (sweeps["criterion"] == "magnitude")]
    points = chosen[chosen["axis"] == "percentile"].sort_values("sparsity")
    return points["sparsity"].to_numpy(float), points["accuracy"].to_numpy(float)


def _calibrated(
    rule: Callable[[float], Floats],
    settings: Floats,
    loss: Callable[[Floats], Floats],
    groups: NDArray[Any],
    epsilon: float,
) -> Floats:
    """Sparsity of each curve under the last of a rule's settings, by rising sparsity, that is safe on other groups."""
    sparsities = np.array([rule(setting) for setting in settings])
    safe = np.array([within_epsilon(-loss(each), 0, epsilon) for each in sparsities])
    calibrated = np.empty(len(groups))
    for group in set(groups):
        own = groups == group
        safe_on_others = safe[:, ~own].mean(1) >= SAFE
        last = int(np.flatnonzero(safe_on_others).max()) if safe_on_others.any() else 0
        calibrated[own] = sparsities[last, own]
    return calibrated
