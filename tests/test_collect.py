import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prunecast import collect, paths, tables
from prunecast.errors import UserError

SCRIPT = Path(__file__).parent / "tiny.py"


def _tiny_study(run: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, SCRIPT, run, "101"], env=os.environ)


def test_a_sweep_killed_twice_ends_in_the_very_table_of_an_uninterrupted_one(tiny_models):
    assert _tiny_study("whole").wait() == 0
    journal = paths.run("killed") / "models" / "tiny" / "curve.jsonl"
    for points in (20, 120):
        running = _tiny_study("killed")
        while not journal.exists() or journal.read_bytes().count(b"\n") < points:
            assert running.poll() is None, "the study ended before it could be killed"
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        with journal.open("a") as file:
            file.write('{"scope": "layer", "thresh')  # as a kill in the middle of a line leaves it
    measured_before = len(collect._lines(journal)) - 1
    assert not (paths.run("killed") / "tables" / "sweeps.csv").exists()
    assert _tiny_study("killed").wait() == 0
    assert 119 <= measured_before < 202
    for table in ("models.csv", "sweeps.csv"):
        whole, killed = (paths.run(run) / "tables" / table for run in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes()


def test_a_checkpoint_is_reused_until_something_it_depends_on_changes(tiny_models, monkeypatch):
    weights = collect.trained("tiny", "a", 0).folder / "model.safetensors"
    first = weights.stat().st_mtime_ns
    collect.trained("tiny", "a", 0)
    assert weights.stat().st_mtime_ns == first
    other = {"tiny": tiny_models["tiny"].model_copy(update={"epochs": 1.0})}
    monkeypatch.setattr(collect.zoo, "registry", lambda: other)
    collect.trained("tiny", "a", 0)
    assert weights.stat().st_mtime_ns > first


def test_a_finer_grid_is_swept_anew_and_a_repeated_one_is_not(tiny_models):
    subject = collect.trained("tiny", "a", 0)
    collect.swept(subject, points=3)
    journal = subject.folder / "curve.jsonl"
    first = journal.read_text().splitlines()
    collect.swept(subject, points=3)
    assert journal.read_text().splitlines() == first
    assert len(collect.swept(subject, points=5)) == 5 * 6
    assert journal.read_text().splitlines()[0] != first[0]


def test_the_tables_keep_their_contracts_and_the_record_names_its_inputs(tiny_models):
    models, sweeps = collect.collect(["tiny"], "a", 3, 0)
    tables.validate("models", models)
    tables.validate("sweeps", sweeps)
    assert models["dense_accuracy"].iloc[0] == sweeps["accuracy"].iloc[0]
    record = collect.record("a", "tiny")
    assert list(record["inputs"]) == ["colours"]
    assert record["train_s"] > 0
    assert json.dumps(record)


def test_a_missing_task_is_refused_before_anything_is_trained(tiny_models, monkeypatch):
    lost = tiny_models | {"lost": tiny_models["tiny"].model_copy(update={"task": "nowhere"})}
    monkeypatch.setattr(collect.zoo, "registry", lambda: lost)
    with pytest.raises(UserError, match="no task 'nowhere'"):
        collect.collect(["tiny", "lost"], "a", 3, 0)
    assert not paths.run("a").exists()
