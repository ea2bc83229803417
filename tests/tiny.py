"""A task that can be learnt in a second, and a model for it. Run as a script, it collects that model's sweep."""

import sys

import numpy as np
import pandas as pd
from prunecast import collect, paths, tables, zoo

WORDS = (("red", "orange", "yellow"), ("blue", "cyan", "teal"), ("grey", "black", "white"))
TINY = {
    "tiny": zoo.ModelSpec(
        task="colours", architecture="bert", layers=1, hidden=64, heads=2, epochs=15, batch_size=16, learning_rate=2e-3
    )
}


def task_frames() -> dict[str, pd.DataFrame]:
    return {"train": _frame(180, seed=1), "validation": _frame(90, seed=2)}


def _frame(rows: int, seed: int) -> pd.DataFrame:
    choice = np.random.default_rng(seed)
    labels = np.arange(rows) % len(WORDS)
    texts = [f"the {choice.choice(WORDS[label])} thing number {choice.integers(30)}" for label in labels]
    return pd.DataFrame({"text": texts, "label": labels})


if __name__ == "__main__":
    run, points = sys.argv[1], int(sys.argv[2])
    zoo.registry = lambda: dict(TINY)
    models, sweeps = collect.collect(["tiny"], run, points, seed=0)
    tables.write("models", models, paths.outputs(run))
    tables.write("sweeps", sweeps, paths.outputs(run))
