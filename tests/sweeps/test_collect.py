import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from prunecast import paths, tables
from prunecast.errors import UserError
from prunecast.models import checkpoints, zoo
from prunecast.models.checkpoints import TrainedModel
from prunecast.sweeps import collect
from prunecast.sweeps.journal import whole_lines
from prunecast.workflow import provenance
from tiny import apart, collect_in, plan, task_frames, write_task

KILLS = int(os.environ.get("PRUNECAST_KILLS", "3"))  # at random moments of the sweep; more of them take longer
POINTS = 101
EVALUATIONS = 3 * POINTS  # of three curves, all of them exact
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["prunecast.sweeps.collect", "transformers.models.bert.modeling_bert", "pandera"])

Models = dict[str, zoo.ModelSpec]


def _start(run: str, **variables: str) -> ForkServerProcess:
    process = PROCESSES.Process(target=collect_in, args=(dict(os.environ) | variables, run, POINTS))
    process.start()
    return process


def _exit_code(process: ForkServerProcess) -> int | None:
    process.join(120)
    return process.exitcode


def _tables(runs: Path, run: str) -> list[bytes]:
    return [(runs / run / "tables" / f"{name}.csv").read_bytes() for name in ("models", "sweeps", "engines")]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The tables of a study that was neither interrupted nor disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_task(folder / "tasks" / "colours", task_frames())
    process = _start("whole", PRUNECAST_DATA=str(folder / "tasks"), PRUNECAST_RUNS=str(folder / "runs"))
    assert _exit_code(process) == 0
    return _tables(folder / "runs", "whole")


def _killed_soon_after(moment: Callable[[], bool], delay: float) -> bool:
    """Start or resume the study, and kill it at most `delay` seconds after a moment; whether it still ran then."""
    process = _start("killed")
    while process.is_alive() and not moment():
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    return _exit_code(process) == -signal.SIGKILL


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_in_the_tables_of_an_uninterrupted_one(
    tiny_models: Models, uninterrupted: list[bytes]
) -> None:
    models, choice = paths.run("killed") / "models", random.Random(0)
    journal = models / "tiny" / collect.JOURNAL
    assert _killed_soon_after(lambda: any(path.is_dir() for path in models.glob(".tiny.*")), choice.uniform(0, 0.5))
    assert not journal.exists()
    for kill in range(KILLS):
        before = len(whole_lines(journal))
        until = before + choice.randint(1, max(1, (EVALUATIONS - before) // (KILLS - kill + 1)))
        killed = _killed_soon_after(lambda: len(whole_lines(journal)) >= until, choice.uniform(0, 0.02))  # noqa: B023
        assert killed or kill
        with journal.open("a") as file:
            file.write('{"curve": "magnitude, layer", "poi')  # as a kill in the middle of a line leaves it
    assert _exit_code(_start("killed")) == 0
    assert len(whole_lines(journal)) == 1 + EVALUATIONS
    assert _tables(paths.run("killed").parent, "killed") == uninterrupted


@pytest.mark.slow
def test_two_runs_of_a_study_at_once_do_not_damage_each_other(tiny_models: Models, uninterrupted: list[bytes]) -> None:
    both = [_start("shared") for _ in range(2)]
    assert [_exit_code(process) for process in both] == [0, 0]
    lines = whole_lines(paths.run("shared") / "models" / "tiny" / collect.JOURNAL)
    evaluations = [(line["curve"], line["point"]) for line in lines[1:]]
    assert len(evaluations) == len(set(evaluations)) == EVALUATIONS
    assert _tables(paths.run("shared").parent, "shared") == uninterrupted


@pytest.fixture
def trained(tiny_models: Models, subject: TrainedModel) -> TrainedModel:
    """The small model in the run `a`, trained already."""
    own: TrainedModel = apart(subject, paths.run("a") / "models")
    return own


def test_a_checkpoint_is_reused_until_something_it_depends_on_changes(
    trained: TrainedModel, tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = trained.folder / "model.safetensors"
    first = weights.stat().st_mtime_ns
    checkpoints.trained_classifier("tiny", "a", 0)
    assert weights.stat().st_mtime_ns == first
    other = {"tiny": tiny_models["tiny"].model_copy(update={"epochs": 1.0})}
    monkeypatch.setattr(zoo, "registry", lambda: other)
    checkpoints.trained_classifier("tiny", "a", 0)
    assert weights.stat().st_mtime_ns > first


def test_a_finer_grid_is_swept_anew_and_a_repeated_one_is_not(own_subject: TrainedModel) -> None:
    collect.swept(own_subject, plan(3))
    journal = own_subject.folder / collect.JOURNAL
    first = journal.read_text()
    collect.swept(own_subject, plan(3))
    assert journal.read_text() == first
    assert len(collect.swept(own_subject, plan(5)).sweeps) == 5 * 7
    assert journal.read_text().splitlines()[0] != first.splitlines()[0]


def test_adaptive_rows_count_the_examples_evaluated(own_subject: TrainedModel) -> None:
    collected = collect.swept(own_subject, plan(POINTS))
    sweeps = collected.sweeps
    rows = sweeps[(sweeps["axis"] == "percentile") & (sweeps["criterion"] == "magnitude")]
    assert (rows["measured"] == (rows["evaluated"] == rows["eval_examples"])).all()
    assert rows["measured"].mean() < 1
    assert rows.groupby("scope")["evaluated"].sum().to_list() == collected.engines["adaptive_examples"][:2].to_list()


def test_the_tables_match_their_schemas_and_the_record_names_its_inputs(trained: TrainedModel) -> None:
    collected = collect.collect(["tiny"], "a", plan(3))
    for name in ("models", "sweeps", "engines"):
        tables.validate(name, getattr(collected, name))
    assert collected.models["dense_accuracy"].iloc[0] == collected.sweeps["accuracy"].iloc[0]
    record = provenance.record(paths.run("a") / "models" / "tiny")
    assert list(record["inputs"]) == ["colours"]
    assert record["train_s"] > 0
    assert json.dumps(record)


def test_a_public_classifier_is_swept_as_it_is(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = tmp_path / "downloads"
    shutil.copytree(trained.folder, downloads / "someone" / "classifier")
    monkeypatch.setenv("PRUNECAST_MODELS", str(downloads))
    public = zoo.ModelSpec(task="colours", checkpoint="someone/classifier", fine_tuned=True)
    monkeypatch.setattr(zoo, "registry", lambda: {"public": public})
    collected, parent = collect.collect(["public"], "b", plan(11)), collect.swept(trained, plan(11))
    assert collected.models["parent"].to_list() == ["someone/classifier"]
    assert collected.models["initialisation"].to_list() == ["pretrained"]
    assert collected.models["dense_accuracy"].iloc[0] == parent.models["dense_accuracy"].iloc[0]
    assert collected.sweeps["accuracy"].to_list() == parent.sweeps["accuracy"].to_list()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"criteria": ["taylor"]}, "criteria.0 is 'taylor': input should be 'magnitude' or 'random'"),
        ({"precision": "float8"}, "precision is 'float8': input should be 'float32' or 'bfloat16'"),
        ({"points": 1}, "points is 1: input should be greater than or equal to 2"),
    ],
)
def test_an_invalid_plan_is_refused_in_one_sentence(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan(**{"points": 3} | setting)


def test_a_missing_task_is_refused_before_anything_is_trained(
    tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = tiny_models | {"lost": tiny_models["tiny"].model_copy(update={"task": "nowhere"})}
    monkeypatch.setattr(zoo, "registry", lambda: lost)
    with pytest.raises(UserError, match="no task 'nowhere'"):
        collect.collect(["tiny", "lost"], "a", plan(3))
    assert not paths.run("a").exists()
