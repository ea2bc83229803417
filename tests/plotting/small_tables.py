"""Small tables of pruning curves, and the figures drawn from them.

python tests/plotting/small_tables.py NAME...    the SHA-256 of the SVG of each of these figures, one a line
"""

import hashlib
import io
import sys
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from prunecast.plotting import curves, style

AT = np.linspace(0, 1, 5)
MODELS = ["sst2_minilm", "trec6_bert"]
SCOPES = [("magnitude", "global"), ("magnitude", "layer"), ("random", "global")]
RECOMMENDED = {"global": 0.3, "layer": 0.4}


def sweeps(models: list[str] = MODELS, axes: tuple[str, ...] = ("percentile",)) -> pd.DataFrame:
    """Rows of `sweeps.csv`; no two curves are the same."""
    keys = [(model, axis, *scope) for model in models for axis in axes for scope in SCOPES]
    names = ["model", "axis", "criterion", "scope"]
    parts = [
        pd.DataFrame(dict(zip(names, key, strict=True)) | {"threshold": 10 * AT, "sparsity": AT})
        .assign(accuracy=0.9 - (0.4 + index / 100) * AT)
        for index, key in enumerate(keys)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def predictions() -> pd.DataFrame:
    """Rows of `predictions.csv` of three surrogates, global scope."""
    rows = sweeps().query("criterion == 'magnitude' and scope == 'global'")
    errors = {"straight_line": 0.1, "lstm": 0.02, "mean_curve": 0.05}
    forecasts = [rows.assign(surrogate=name, predicted=rows["accuracy"] + error) for name, error in errors.items()]
    return pd.concat(forecasts, ignore_index=True)


def prediction() -> pd.DataFrame:
    """A forecast with its interval, both scopes."""
    rows = sweeps(MODELS[:1]).query("criterion == 'magnitude'").rename(columns={"accuracy": "predicted"})
    return rows.assign(lower=rows["predicted"] - 0.1, upper=rows["predicted"] + 0.05)


def board() -> pd.DataFrame:
    """Errors and costs of surrogates under two protocols."""
    protocols = ["leave_one_out"] * 3 + ["one_evaluation"] * 2
    surrogates = ["lstm", "straight_line", "mean_curve", "agreement", "lstm_agreement"]
    errors = {"mae": [0.02, 0.09, 0.05, 0.03, 0.01], "cost": [0.0, 0.0, 0.0, 1.0, 1.2]}
    return pd.DataFrame({"protocol": protocols, "surrogate": surrogates} | errors)


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: curves.draw_curves(
        pd.DataFrame({"model": MODELS, "majority_accuracy": [0.5, 0.2]}), sweeps()
    ),
    "prediction": lambda: curves.draw_prediction(prediction(), RECOMMENDED, 0.9),
    "leaderboard": lambda: curves.draw_leaderboard(board(), 0.04),
}  # fmt: skip


def digest(name: str) -> str:
    """SHA-256 of the SVG of a figure, as a page shows it."""
    stream = io.BytesIO()
    FIGURES[name]().savefig(stream, format="svg", metadata={"Date": None})
    return hashlib.sha256(stream.getvalue()).hexdigest()


if __name__ == "__main__":
    mpl.use("agg")
    style.use_style()
    for name in sys.argv[1:]:
        print(digest(name))
