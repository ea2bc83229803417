"""A table of regimes whose boundaries can be learned: one connectivity and one similarity separate them."""

import pandas as pd
from prunecast import tables


def table() -> pd.DataFrame:
    """Three densities where hotter networks are pruned better, three where colder ones are, three where none is."""
    rows = []
    for density, best in [(0.05, 0), (0.06, 0), (0.07, 0), (0.1, 3), (0.14, 3), (0.2, 3), (0.4, None), (0.6, None),
                          (0.8, None)]:  # fmt: skip
        for place, temperature in enumerate((1.0, 2.0, 4.0, 8.0)):
            off = best is not None and place != best
            lmc, cka = (-0.4, 0.7) if off and best == 0 else (-0.001, 0.7) if off else (-0.001, 0.97)
            rows += [
                {"temperature": temperature, "density": density, "dense_seed": seed, "retrain_seed": retrain}
                | {"test_error": 0.3 if off else 0.2, "lmc": lmc, "cka": cka}
                for seed in (0, 1)
                for retrain in (0, 1)
            ]
    constant = {"study": "small", "temperature_kind": "epochs", "train_error": 0.1, "cka_unbiased": 0.5}
    frame = pd.DataFrame(rows).assign(**constant, dense_error=0.1, noise_scale=1.0, regime=None)
    return tables.validate("regimes", pd.concat([frame, frame.assign(temperature_kind="batch_size", lmc=0.5)]))
