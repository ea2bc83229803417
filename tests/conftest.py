import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prunecast.datasets import tasks
from prunecast.loading import storage
from prunecast.models import checkpoints, zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.models.zoo import ModelSpec

sys.path.insert(0, str(Path(__file__).parent))

from tiny import TINY, apart, task_frames, write_task

REAL_TASKS = os.environ.get("PRUNECAST_DATA")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, where there is one."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a runs folder of its own, and no folder of tasks or checkpoints."""
    monkeypatch.setenv("PRUNECAST_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    monkeypatch.delenv("PRUNECAST_MODELS", raising=False)
    tasks.load_task.cache_clear()


@pytest.fixture
def task_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder of tasks with one task, `colours`, learnable in a second."""
    folder = tmp_path / "tasks"
    write_task(folder / "colours", task_frames())
    monkeypatch.setenv("PRUNECAST_DATA", str(folder))
    return folder


@pytest.fixture
def tiny_models(task_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelSpec]:
    """A registry with one small model for the task `colours`."""
    monkeypatch.setattr(zoo, "registry", lambda: dict(TINY))
    return TINY


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainedModel]:
    """The small model of the task `colours`, trained once for all tests; none may change it, or write to its folder."""
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
    stored = storage.load(trained.folder)[0]
    assert all(torch.equal(a, b) for a, b in zip(trained.model.parameters(), stored.parameters(), strict=True))
    assert sorted(trained.folder.rglob("*")) == files


@pytest.fixture
def own_subject(subject: TrainedModel, tmp_path: Path) -> TrainedModel:
    """The small model with a folder to which this test may write."""
    return apart(subject, tmp_path / "own")


@pytest.fixture
def real_tasks() -> Path:
    """The folder of real tasks that `PRUNECAST_DATA` named when the tests were started."""
    if not REAL_TASKS:
        pytest.skip("PRUNECAST_DATA names no folder of real tasks")
    return Path(REAL_TASKS).resolve()
