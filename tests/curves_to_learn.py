"""Curves whose midpoint can be derived from a zero-cost proxy and from nothing else, and a benchmark on them."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from prunecast.surrogates import benchmark
from prunecast.surrogates.features import COLUMNS, CurveSet, Surrogate

THRESHOLDS = np.linspace(0, 10, 41)
ARCHITECTURES = ("bert", "bert", "electra", "gpt2", "vgg16_bn", "fc5")
FAMILIES = ("bert", "bert", "electra", "gpt2", "vgg", "fc")
TASKS = ("a", "b", "a", "c", "digits", "digits")
MODELS = [f"model{index}" for index in range(len(ARCHITECTURES))]
MIDPOINTS = np.array([4.0, 6.5, 5.0, 7.5, 8.0, 5.8])
EXAMPLES = 1000
BASELINES = ("mean_curve", "straight_line")


def models() -> pd.DataFrame:
    """The table `models` of these curves."""
    facts = {"classes": 4, "layers": 12, "prunable_parameters": 10**6, "eval_examples": EXAMPLES, "parent": None}
    names = {"model": MODELS, "architecture": ARCHITECTURES, "family": FAMILIES, "task": TASKS}
    table = pd.DataFrame(names | {"kind": ["text"] * 4 + ["image"] * 2}).assign(**facts)
    return table.assign(dense_accuracy=0.9, majority_accuracy=np.linspace(0.1, 0.5, len(MODELS)))


def curves() -> CurveSet:
    """Two curves for each model, all points known and measured."""
    names = [(model, scope) for model in MODELS for scope in ("global", "layer")]
    facts = models().loc[np.repeat(np.arange(len(MODELS)), 2)].reset_index(drop=True)
    midpoints = np.repeat(MIDPOINTS, 2)[:, None]
    left = 1 / (1 + np.exp(2.5 * (THRESHOLDS - midpoints)))
    left = (left - left[:, -1:]) / (left[:, :1] - left[:, -1:])
    majority = facts["majority_accuracy"].to_numpy()[:, None]
    depleted = 1 / (1 + np.exp(1.5 * (midpoints - THRESHOLDS)))
    signals = np.repeat(depleted[..., None], len(COLUMNS), -1)
    sparsity = np.tile(THRESHOLDS / 10, (len(names), 1))
    accuracy = majority + (0.9 - majority) * left
    noise, measured = np.zeros_like(accuracy), np.ones(accuracy.shape, bool)
    return CurveSet("percentile", names, THRESHOLDS, sparsity, accuracy, noise, measured, signals, facts)


KNOWN = curves()
UNKNOWN = KNOWN.knowing(np.zeros(KNOWN.accuracy.shape, bool))


@cache
def predictions() -> pd.DataFrame:
    """Forecasts of the LSTM and the baselines with architectures left out; computed once, in half a minute."""
    return benchmark.forecast(KNOWN, ("leave_one_architecture_out",), 0, {}, ("lstm", *BASELINES))


@cache
def baseline_predictions() -> pd.DataFrame:
    """Forecasts of the baselines with points and with models left out; computed once, in a second."""
    return benchmark.forecast(KNOWN, ("points", "leave_one_model_out"), 0, {}, BASELINES)


def mean_errors(rows: pd.DataFrame) -> "pd.Series[float]":
    """Mean absolute error of each surrogate."""
    return (rows["predicted"] - rows["accuracy"]).abs().groupby(rows["surrogate"]).mean()


def assert_uses_known_points_alone(surrogate: Surrogate) -> None:
    """Two measured points of a curve are on its forecast, and no other point of it has an influence."""
    at, known = [10, 25], np.zeros(KNOWN.accuracy.shape, bool)
    known[:, at] = True
    fitted = surrogate.fit(KNOWN)
    predicted = fitted.predict(KNOWN.knowing(known)).predicted
    assert predicted[:, at] == pytest.approx(KNOWN.accuracy[:, at], abs=0.02)
    others = KNOWN.accuracy[::-1].copy()
    others[:, [0, *at]] = KNOWN.accuracy[:, [0, *at]]
    scrambled = CurveSet(**{**vars(KNOWN), "accuracy": others})
    assert np.array_equal(predicted, fitted.predict(scrambled.knowing(known)).predicted)
