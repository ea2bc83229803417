"""A made grid of the three regimes, whose best temperature and boundaries are known."""

import numpy as np
import pandas as pd

LMC, CKA = -0.2, 0.9
COLD = {1: "II-A", 2: "II-A", 4: "II-B", 8: "I", 16: "I"}  # the best of these epochs is 4


def table(kind: str = "epochs", seeds: int = 2, noise: float = 0.001) -> pd.DataFrame:
    """A grid whose best temperature is in the middle; the metrics lie on either side of the boundaries above."""
    draw = np.random.default_rng(0)
    metrics = {"I": (LMC - 0.1, CKA - 0.1), "II-A": (LMC + 0.1, CKA - 0.05), "II-B": (LMC + 0.15, CKA + 0.05)}
    rows = []
    for density in (0.05, 0.1, 0.2):
        for rank, (epochs, regime) in enumerate(COLD.items()):
            for seed in range(seeds):
                lmc, cka = metrics[regime]
                rows.append({
                    "study": "made", "temperature_kind": kind, "temperature": epochs, "density": density,
                    "dense_seed": seed, "retrain_seed": 0, "dense_error": 0.3, "noise_scale": 1 / epochs,
                    "test_error": 0.2 + 0.02 * abs(rank - 2) + noise * draw.normal(),
                    "lmc": lmc + 0.01 * draw.normal(), "cka": cka + 0.005 * draw.normal(),
                })  # fmt: skip
    return pd.DataFrame(rows)
