"""What can be read off a pruning curve: how much skill is left, which segment a point lies in, how far is safe."""

import numpy as np
import pandas as pd

SEGMENTS = ("plateau", "transition", "collapsed")
PLATEAU_ABOVE = 0.95
COLLAPSED_BELOW = 0.05


def with_references(sweeps: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Rows of `sweeps` with the dense and the majority accuracy of their model beside them."""
    return sweeps.merge(models[["model", "dense_accuracy", "majority_accuracy"]], on="model", validate="many_to_one")


def retained(points: pd.DataFrame) -> pd.Series:
    """Share of the way from majority to dense accuracy that is left; columns as `with_references` gives them."""
    span = points["dense_accuracy"] - points["majority_accuracy"]
    return (points["accuracy"] - points["majority_accuracy"]) / span


def segment(points: pd.DataFrame) -> np.ndarray:
    """Segment of each point: plateau above 95 % retained, collapsed below 5 %, transition between."""
    share = retained(points)
    return np.select([share > PLATEAU_ABOVE, share < COLLAPSED_BELOW], ["plateau", "collapsed"], "transition")


def safe_sparsity(curve: pd.DataFrame, epsilon: float) -> float:
    """Largest measured sparsity up to which no point of one curve lies more than `epsilon` below its densest point."""
    measured = curve[curve["measured"]].sort_values("sparsity")
    unsafe = (measured["accuracy"] < measured["accuracy"].iloc[0] - epsilon).to_numpy()
    last_safe = int(unsafe.argmax()) - 1 if unsafe.any() else len(measured) - 1
    return float(measured["sparsity"].iloc[last_safe])


def safe_sparsities(sweeps: pd.DataFrame, epsilon: float) -> pd.DataFrame:
    """`safe_sparsity` of every model (rows) and scope (columns), on the percentile axis."""
    curves = sweeps[sweeps["axis"] == "percentile"].groupby(["model", "scope"], sort=False)
    return pd.Series({key: safe_sparsity(curve, epsilon) for key, curve in curves}).unstack()
