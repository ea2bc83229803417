"""Curves whose place of fall is written in a signal, so that a surrogate can learn it, and nothing else tells it."""

import numpy as np
import pandas as pd
from prunecast.surrogates.features import COLUMNS, CurveSet

THRESHOLDS = np.linspace(0, 10, 41)
ARCHITECTURES = ("bert", "bert", "electra", "gpt2", "vgg16_bn", "fc5")
MODELS = [f"model{index}" for index in range(len(ARCHITECTURES))]
FALLS = np.array([4.0, 6.5, 5.0, 7.5, 8.0, 5.8])


def models() -> pd.DataFrame:
    facts = {"classes": 4, "layers": 12, "prunable_parameters": 10**6, "eval_examples": 1000, "parent": None}
    table = pd.DataFrame({"model": MODELS, "architecture": ARCHITECTURES}).assign(**facts)
    return table.assign(dense_accuracy=0.9, majority_accuracy=np.linspace(0.1, 0.5, len(MODELS)))


def curves() -> CurveSet:
    names = [(model, scope) for model in MODELS for scope in ("global", "layer")]
    facts = models().loc[np.repeat(np.arange(len(MODELS)), 2)].reset_index(drop=True)
    fall = np.repeat(FALLS, 2)[:, None]
    left = 1 / (1 + np.exp(2.5 * (THRESHOLDS - fall)))
    left = (left - left[:, -1:]) / (left[:, :1] - left[:, -1:])
    majority = facts["majority_accuracy"].to_numpy()[:, None]
    depleted = 1 / (1 + np.exp(1.5 * (fall - THRESHOLDS)))
    signals = np.repeat(depleted[..., None], len(COLUMNS), -1)
    sparsity = np.tile(THRESHOLDS / 10, (len(names), 1))
    accuracy = majority + (0.9 - majority) * left
    return CurveSet("percentile", names, THRESHOLDS, sparsity, accuracy, np.zeros_like(accuracy), signals, facts)
