"""A task that can be learnt in a second, and a model for it. Run as a script, it collects that model's sweep."""

import sys
from typing import Any

import numpy as np
import pandas as pd
from prunecast import paths, tables
from prunecast.models import zoo
from prunecast.sweeps import collect

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


PLAN = {"criteria": ["magnitude", "random"], "exact": [], "precision": "float32", "seed": 0}


def plan(points: int, **settings: Any) -> collect.Plan:
    return collect.plan_of(**PLAN | {"points": points} | settings)


if __name__ == "__main__":
    run, points, *exact = sys.argv[1:]
    zoo.registry = lambda: dict(TINY)
    collected = collect.collect(["tiny"], run, plan(int(points), exact=exact))
    for table in ("models", "sweeps", "engines"):
        tables.write(table, getattr(collected, table), paths.outputs(run))
