"""A task that can be learnt in a second, a model for it, and that model's sweep in a process of its own."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from prunecast import paths, tables
from prunecast.models import zoo
from prunecast.models.checkpoints import TrainedModel
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


def collect_in(environment: dict[str, str], run: str, points: int) -> None:
    """Collect the model's exact sweep and write its tables, in a process of its own with these variables."""
    os.environ.update(environment)
    with mock.patch.object(zoo, "registry", return_value=dict(TINY)):
        collected = collect.collect(["tiny"], run, plan(points, exact=["tiny"]))
    for table in ("models", "sweeps", "engines"):
        tables.write(table, getattr(collected, table), paths.outputs(run))


def write_task(
    folder: Path, frames: dict[str, pd.DataFrame], labels: tuple[str, ...] = ("warm", "cold", "none")
) -> None:
    """Write a local task: the rows of each split, with columns text and label, and the names of the labels."""
    folder.mkdir(parents=True)
    for split, frame in frames.items():
        frame.to_parquet(folder / f"{split}.parquet")
    (folder / "meta.json").write_text(json.dumps({"labels": labels}))


def apart(subject: TrainedModel, folder: Path) -> TrainedModel:
    """The same model, on which nothing is measured yet, with a folder of its own inside `folder`."""
    return replace(subject, folder=Path(shutil.copytree(subject.folder, folder / subject.name)))
