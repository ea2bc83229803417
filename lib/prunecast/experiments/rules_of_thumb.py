"""Rules of thumb for a ratio to prune to, judged on measured curves: the effective number, and one ratio for all."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from prunecast.sweeps.curve_metrics import ROUNDING, base_of

SAFE = 0.9  # share of the curves that a calibrated rule must be safe on
FACTORS = np.round(np.arange(0.2, 3.01, 0.02), 2)  # of the effective number, from which calibration chooses
RATIOS = np.round(np.arange(0.0, 1.0, 0.01), 2)


def judged(emp: pd.DataFrame, sweeps: pd.DataFrame, recommendations: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """By rule: the share of curves on which it loses at most epsilon, mean sparsity, and mean sparsity left unused.

    `emp` are rows of that table for whole models and layers by magnitude at beta 1, each with its curve in `sweeps`.
    Calibrated rules take the smallest factor, or the largest ratio, that is safe on nine of ten curves of all other
    models; those of the same task and size, trained otherwise, are left out as well. Rows of `recommendations` without
    measurements are forecasts.
    """
    rows = emp[(emp["criterion"] == "magnitude") & (emp["beta"] == 1)].reset_index(drop=True)
    share, models = 1 - rows["sparsity"].to_numpy(), base_of(rows).to_numpy()
    curves = [_curve(sweeps, *key) for key in zip(rows["model"], rows["granularity"], strict=True)]

    def lost(sparsities: np.ndarray) -> np.ndarray:
        return np.array(
            [accuracy[0] - np.interp(at, x, accuracy) for at, (x, accuracy) in zip(sparsities, curves, strict=True)]
        )

    def by_beta(beta: float) -> np.ndarray:
        return np.clip(1 - beta * share, 0, 1)

    def by_ratio(ratio: float) -> np.ndarray:
        return np.full(len(rows), ratio)

    ways = {
        "effective number, beta 1": by_beta(1.0),
        f"always {1 - share.mean():.2f}": by_ratio(1 - float(share.mean())),
        "effective number, calibrated": _calibrated(by_beta, FACTORS[::-1], lost, models, epsilon),
        "one ratio, calibrated": _calibrated(by_ratio, RATIOS, lost, models, epsilon),
    }
    optimum = rows["optimum"].to_numpy()
    found = {name: _summary(lost(chosen), chosen, optimum, epsilon) for name, chosen in ways.items()}
    blind = recommendations[(recommendations["measurements"] == 0) & np.isclose(recommendations["epsilon"], epsilon)]
    for method, of in blind.groupby("method"):
        loss, recommended, best = (of[name].to_numpy() for name in ("loss", "recommended", "optimum"))
        found[f"forecast, {method}"] = _summary(loss, recommended, best, epsilon)
    return pd.DataFrame(found).T.rename_axis("rule")


def _curve(sweeps: pd.DataFrame, model: str, scope: str) -> tuple[np.ndarray, np.ndarray]:
    chosen = sweeps[(sweeps["model"] == model) & (sweeps["scope"] == scope) & (sweeps["criterion"] == "magnitude")]
    points = chosen[chosen["axis"] == "percentile"].sort_values("sparsity")
    return points["sparsity"].to_numpy(), points["accuracy"].to_numpy()


def _calibrated(
    rule: Callable[[float], np.ndarray],
    settings: np.ndarray,
    lost: Callable[[np.ndarray], np.ndarray],
    models: np.ndarray,
    epsilon: float,
) -> np.ndarray:
    """What a rule prunes from each curve at the boldest of its settings, mildest first, that suits the other models."""
    chosen = np.array([rule(setting) for setting in settings])
    safe = np.array([lost(sparsities) <= epsilon + ROUNDING for sparsities in chosen])
    found = np.empty(len(models))
    for model in set(models):
        own = models == model
        suits = safe[:, ~own].mean(1) >= SAFE
        boldest = int(np.flatnonzero(suits).max()) if suits.any() else 0
        found[own] = chosen[boldest, own]
    return found


def _summary(loss: np.ndarray, sparsity: np.ndarray, optimum: np.ndarray, epsilon: float) -> dict[str, float]:
    safe = loss <= epsilon + ROUNDING
    unused = np.clip(optimum - sparsity, 0, None)
    return {"within epsilon": float(safe.mean()), "sparsity": float(np.mean(sparsity)), "unused": float(unused.mean())}
