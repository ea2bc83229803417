import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.models import checkpoints, zoo
from prunecast.sweeps import collect
from prunecast.sweeps.journal import Journal, whole_lines
from prunecast.workflow import provenance
from tiny import plan

SCRIPT = Path(__file__).parents[1] / "tiny.py"


KILLS = int(os.environ.get("PRUNECAST_KILLS", "3"))  # at random moments; more of them take longer


def _tiny_study(run: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, SCRIPT, run, "101", "tiny"], env=os.environ)


def _tables(run: str) -> list[bytes]:
    return [(paths.run(run) / "tables" / f"{name}.csv").read_bytes() for name in ("models", "sweeps", "engines")]


def test_a_study_killed_at_random_moments_ends_in_the_very_tables_of_an_uninterrupted_one(tiny_models):
    started = time.monotonic()
    assert _tiny_study("whole").wait() == 0
    took, choice = time.monotonic() - started, random.Random(0)
    journal = paths.run("killed") / "models" / "tiny" / collect.JOURNAL
    killed_while_sweeping = 0
    for _ in range(KILLS):
        running = _tiny_study("killed")
        time.sleep(took * choice.uniform(0.2, 0.95))
        running.send_signal(signal.SIGKILL)
        running.wait()
        if journal.exists():
            killed_while_sweeping += 1
            with journal.open("a") as file:
                file.write('{"curve": "magnitude, layer", "poi')  # as a kill in the middle of a line leaves it
    assert killed_while_sweeping
    assert _tiny_study("killed").wait() == 0
    assert _tables("killed") == _tables("whole")


def test_two_runs_of_a_study_at_once_do_not_damage_each_other(tiny_models):
    both = [_tiny_study("shared") for _ in range(2)]
    assert [running.wait() for running in both] == [0, 0]
    looks = whole_lines(paths.run("shared") / "models" / "tiny" / collect.JOURNAL)
    asked = [(look["curve"], look["point"]) for look in looks[1:]]
    assert len(asked) == len(set(asked)) == 3 * 101
    assert _tiny_study("whole").wait() == 0
    assert _tables("shared") == _tables("whole")


def test_a_full_disk_is_one_sentence_and_no_look_is_lost(tiny_models, monkeypatch, tmp_path):
    kept = Journal(tmp_path / "looks.jsonl", "key")
    kept._append({"curve": "a", "point": 0})
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    whole, kept.path = kept.path, tmp_path / "full.jsonl"
    with pytest.raises(UserError, match="was not written to: No space left on device"):
        kept._append({"curve": "a", "point": 1})
    assert whole_lines(whole) == [{"key": "key"}, {"curve": "a", "point": 0}]


def test_a_checkpoint_is_reused_until_something_it_depends_on_changes(tiny_models, monkeypatch):
    weights = checkpoints.trained_classifier("tiny", "a", 0).folder / "model.safetensors"
    first = weights.stat().st_mtime_ns
    checkpoints.trained_classifier("tiny", "a", 0)
    assert weights.stat().st_mtime_ns == first
    other = {"tiny": tiny_models["tiny"].model_copy(update={"epochs": 1.0})}
    monkeypatch.setattr(collect.zoo, "registry", lambda: other)
    checkpoints.trained_classifier("tiny", "a", 0)
    assert weights.stat().st_mtime_ns > first


def test_a_finer_grid_is_swept_anew_and_a_repeated_one_is_not(tiny_models):
    subject = checkpoints.trained_classifier("tiny", "a", 0)
    collect.swept(subject, plan(3))
    looks = subject.folder / collect.JOURNAL
    first = looks.read_text()
    collect.swept(subject, plan(3))
    assert looks.read_text() == first
    assert len(collect.swept(subject, plan(5)).sweeps) == 5 * 7
    assert looks.read_text().splitlines()[0] != first.splitlines()[0]


def test_the_tables_keep_their_contracts_and_the_record_names_its_inputs(tiny_models):
    found = collect.collect(["tiny"], "a", plan(3))
    for name in ("models", "sweeps", "engines"):
        tables.validate(name, getattr(found, name))
    assert found.models["dense_accuracy"].iloc[0] == found.sweeps["accuracy"].iloc[0]
    record = provenance.record(paths.run("a") / "models" / "tiny")
    assert list(record["inputs"]) == ["colours"]
    assert record["train_s"] > 0
    assert json.dumps(record)


def test_a_public_classifier_is_swept_as_it_is(tiny_models, tmp_path, monkeypatch):
    parent = checkpoints.trained_classifier("tiny", "a", 0)
    shelf = tmp_path / "shelf"
    shutil.copytree(parent.folder, shelf / "someone" / "classifier")
    monkeypatch.setenv("PRUNECAST_MODELS", str(shelf))
    public = zoo.ModelSpec(task="colours", checkpoint="someone/classifier", fine_tuned=True)
    monkeypatch.setattr(collect.zoo, "registry", lambda: {"public": public})
    found = collect.collect(["public"], "b", plan(11))
    assert found.models["parent"].to_list() == ["someone/classifier"]
    assert found.models["initialisation"].to_list() == ["pretrained"]
    assert found.models["dense_accuracy"].iloc[0] == collect.swept(parent, plan(11)).models["dense_accuracy"].iloc[0]
    assert found.sweeps["accuracy"].to_list() == collect.swept(parent, plan(11)).sweeps["accuracy"].to_list()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"criteria": ["taylor"]}, "criteria.0 is 'taylor': input should be 'magnitude' or 'random'"),
        ({"precision": "float8"}, "precision is 'float8': input should be 'float32' or 'bfloat16'"),
        ({"points": 1}, "points is 1: input should be greater than or equal to 2"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        plan(**{"points": 3} | setting)


def test_a_missing_task_is_refused_before_anything_is_trained(tiny_models, monkeypatch):
    lost = tiny_models | {"lost": tiny_models["tiny"].model_copy(update={"task": "nowhere"})}
    monkeypatch.setattr(collect.zoo, "registry", lambda: lost)
    with pytest.raises(UserError, match="no task 'nowhere'"):
        collect.collect(["tiny", "lost"], "a", plan(3))
    assert not paths.run("a").exists()
