import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny import TINY, task_frames  # noqa: E402

REAL_TASKS = os.environ.get("PRUNECAST_DATA")


@pytest.fixture(autouse=True)
def _own_runs(tmp_path, monkeypatch):
    """Every test has a runs folder, and no task folder, of its own."""
    monkeypatch.setenv("PRUNECAST_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    monkeypatch.delenv("PRUNECAST_MODELS", raising=False)
    from prunecast.datasets import tasks

    tasks.load_task.cache_clear()


@pytest.fixture
def task_folder(tmp_path, monkeypatch):
    """A local folder of tasks that holds one, `colours`, learnable in a second."""
    folder = tmp_path / "tasks"
    write_task(folder / "colours", task_frames())
    monkeypatch.setenv("PRUNECAST_DATA", str(folder))
    return folder


@pytest.fixture
def tiny_models(task_folder, monkeypatch):
    """A registry that holds one small model for the task `colours`."""
    from prunecast.models import zoo

    monkeypatch.setattr(zoo, "registry", lambda: dict(TINY))
    return TINY


@pytest.fixture(scope="session")
def subject(tmp_path_factory):
    """The small model of the task `colours`, trained once for all tests; none may change it, or write to its folder."""
    import torch
    from prunecast.datasets import tasks
    from prunecast.models import checkpoints, zoo

    folder = tmp_path_factory.mktemp("subject")
    write_task(folder / "tasks" / "colours", task_frames())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNECAST_DATA", str(folder / "tasks"))
        patch.setenv("PRUNECAST_RUNS", str(folder / "runs"))
        patch.setattr(zoo, "registry", lambda: dict(TINY))
        tasks.load_task.cache_clear()
        trained = checkpoints.trained_classifier("tiny", "small", 0)
        tasks.load_task.cache_clear()
    files = sorted(trained.folder.rglob("*"))
    yield trained
    stored = zoo.load(trained.folder)[0]
    assert all(torch.equal(a, b) for a, b in zip(trained.model.parameters(), stored.parameters(), strict=True))
    assert sorted(trained.folder.rglob("*")) == files


def apart(subject, folder: Path):
    """The same model, of which nothing is measured yet, with a folder of its own inside `folder`."""
    return replace(subject, folder=Path(shutil.copytree(subject.folder, folder / subject.name)))


@pytest.fixture
def own_subject(subject, tmp_path):
    """The small model with a folder that this test may write to."""
    return apart(subject, tmp_path / "own")


def write_task(folder: Path, frames: dict[str, pd.DataFrame], labels: tuple[str, ...] = ("warm", "cold", "none")):
    folder.mkdir(parents=True)
    for split, frame in frames.items():
        frame.to_parquet(folder / f"{split}.parquet")
    (folder / "meta.json").write_text(json.dumps({"labels": labels}))


@pytest.fixture
def real_tasks():
    """The folder of real tasks that `PRUNECAST_DATA` named when the tests began."""
    if not REAL_TASKS:
        pytest.skip("PRUNECAST_DATA names no folder of real tasks")
    return Path(REAL_TASKS).resolve()
