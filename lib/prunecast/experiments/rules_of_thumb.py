"""Rules of thumb for a ratio to prune to, evaluated on measured curves: the effective number, and one ratio for all."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunecast.sweeps.curve_metrics import ROUNDING, base_of

SAFE = 0.9  # share of the curves on which a calibrated rule must be safe
FACTORS = np.round(np.arange(0.2, 3.01, 0.02), 2)  # of the effective number, from which calibration chooses
RATIOS = np.round(np.arange(0.0, 1.0, 0.01), 2)

Floats = NDArray[np.float64]


def evaluate_rules(
    emp: pd.DataFrame, sweeps: pd.DataFrame, recommendations: pd.DataFrame, epsilon: float
) -> pd.DataFrame:
    """Evaluate rules of thumb on measured curves, beside forecasts without measurements.

    A calibrated rule takes the smallest factor, or the largest ratio, that is safe on nine of ten curves of all other
    models; models of the same task and size that were trained otherwise are left out as well.

    Args:
        emp: Rows of the table `emp`; those by magnitude at beta 1, for whole models and layers, are read.
        sweeps: Rows of the table `sweeps`, with the curve of each of them.
        recommendations: Rows of the table `recommendations`; those without measurements are read.
        epsilon: Loss of accuracy that is accepted, as a fraction.

    Returns:
        By rule, as fractions: `within epsilon`, the share of the curves on which it is safe; the mean `sparsity`; and
        `unused`, the mean of the optimum less the sparsity, 0 where that is negative.
    """
    rows = emp[(emp["criterion"] == "magnitude") & (emp["beta"] == 1)].reset_index(drop=True)
    share, models = 1 - rows["sparsity"].to_numpy(float), base_of(rows).to_numpy(str)
    curves = [_curve(sweeps, *key) for key in zip(rows["model"], rows["granularity"], strict=True)]

    def loss(sparsities: Floats) -> Floats:
        return np.array(
            [accuracy[0] - np.interp(at, x, accuracy) for at, (x, accuracy) in zip(sparsities, curves, strict=True)]
        )

    def by_beta(beta: float) -> Floats:
        return np.clip(1 - beta * share, 0, 1)

    def by_ratio(ratio: float) -> Floats:
        return np.full(len(rows), ratio)

    rules = {
        "effective number, beta 1": by_beta(1.0),
        f"always {1 - share.mean():.2f}": by_ratio(1 - float(share.mean())),
        "effective number, calibrated": _calibrated(by_beta, FACTORS[::-1], loss, models, epsilon),
        "one ratio, calibrated": _calibrated(by_ratio, RATIOS, loss, models, epsilon),
    }
    optimum = rows["optimum"].to_numpy(float)
    summaries = {name: _summary(loss(sparsity), sparsity, optimum, epsilon) for name, sparsity in rules.items()}
    unmeasured = (recommendations["measurements"] == 0) & np.isclose(recommendations["epsilon"], epsilon)
    for method, of in recommendations[unmeasured].groupby("method"):
        lost, recommended, best = (of[name].to_numpy(float) for name in ("loss", "recommended", "optimum"))
        summaries[f"forecast, {method}"] = _summary(lost, recommended, best, epsilon)
    return pd.DataFrame(summaries).T.rename_axis("rule")


def _curve(sweeps: pd.DataFrame, model: str, scope: str) -> tuple[Floats, Floats]:
    chosen = sweeps[(sweeps["model"] == model) & (sweeps["scope"] == scope) & (sweeps["criterion"] == "magnitude")]
    points = chosen[chosen["axis"] == "percentile"].sort_values("sparsity")
    return points["sparsity"].to_numpy(float), points["accuracy"].to_numpy(float)


def _calibrated(
    rule: Callable[[float], Floats],
    settings: Floats,
    loss: Callable[[Floats], Floats],
    models: NDArray[np.str_],
    epsilon: float,
) -> Floats:
    """Sparsity of each curve under the last of a rule's settings, by rising sparsity, that is safe on other models."""
    sparsities = np.array([rule(setting) for setting in settings])
    safe = np.array([loss(each) <= epsilon + ROUNDING for each in sparsities])
    calibrated = np.empty(len(models))
    for model in set(models):
        own = models == model
        safe_on_others = safe[:, ~own].mean(1) >= SAFE
        last = int(np.flatnonzero(safe_on_others).max()) if safe_on_others.any() else 0
        calibrated[own] = sparsities[last, own]
    return calibrated


def _summary(loss: Floats, sparsity: Floats, optimum: Floats, epsilon: float) -> dict[str, float]:
    safe = loss <= epsilon + ROUNDING
    unused = np.clip(optimum - sparsity, 0, None)
    return {"within epsilon": float(safe.mean()), "sparsity": float(np.mean(sparsity)), "unused": float(unused.mean())}
