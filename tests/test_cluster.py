"""A study on a real SLURM, started here: a job a model, a stopped job goes on, and the tables are the same."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prunecast import paths

PARTS = ("Snakefile", "book", "data", "lib", "notebooks", "studies")
MODELS = """
brief: {task: digits, architecture: fc2, epochs: 1, eval_examples: 60}
long: {task: digits, architecture: preresnet20, epochs: 1, train_examples: 64, eval_examples: 180}
"""
STUDY = """
study: cluster
purpose: Two tiny models, one of which takes seconds to sweep.
pages:
  collect_sweeps: {models: [brief, long], exact: [long], points: 11}
"""
SLURM = """
ClusterName=prunecast
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=16000
PartitionName=main Nodes=ALL Default=YES
"""
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--configfile", "studies/cluster.yml"]
ON_SLURM = ["--executor", "slurm", "--jobs", "2", "--retries", "1", "--set-threads", "model=1"]
ON_SLURM += ["--default-resources", "mem_mb=1000", "runtime=5", "--slurm-no-account"]
ON_SLURM += ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"]


@pytest.fixture
def house(tmp_path):
    """A copy of the house with a study of its own."""
    house = tmp_path / "house"
    house.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (paths.ROOT / part).is_dir() else shutil.copy
        copy(paths.ROOT / part, house / part)
    (house / "data" / "models.yml").write_text(MODELS)
    (house / "studies" / "cluster.yml").write_text(STUDY)
    return house


@pytest.fixture
def slurm(house, tmp_path):
    """The environment in which `sbatch` reaches a SLURM of one node that is started for the test."""
    if not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))) or os.getuid() != 0:
        pytest.skip("SLURM is started by root, from Debian's packages slurm-wlm and munge")
    folder = tmp_path / "slurm"
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    conf, key, srun = folder / "slurm.conf", folder / "munge.key", folder / "bin" / "srun"
    conf.write_text(SLURM.format(host=socket.gethostname().split(".")[0], ports=_free_ports(2), folder=folder))
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {shutil.which("srun")} "$@"\n')  # the plugin hides SLURM_CONF
    srun.chmod(0o755)
    environment = _environment(house, "slurm", srun.parent) | {"SLURM_CONF": str(conf)}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
    with ExitStack() as daemons:
        for command in (munged, ["slurmctld", "-D", "-f", str(conf)], ["slurmd", "-D", "-f", str(conf)]):
            daemons.enter_context(_running(command, folder / f"{command[0]}.log", environment))
            _wait_for((folder / "munge.socket").exists)
        _wait_for(lambda: _said(["sinfo", "-h", "-o", "%T"], environment) == "idle")
        yield environment
        subprocess.run(["scancel", "--user=root"], env=environment, check=True)
        _wait_for(lambda: not _said(["squeue", "-h"], environment))


def _environment(house: Path, runs: str, *programs: Path) -> dict[str, str]:
    """Where programs find this Python, the copied house and a runs folder; with one thread, as in each job."""
    path = os.pathsep.join(map(str, [*programs, Path(sys.executable).parent, os.environ["PATH"]]))
    folders = {"PYTHONPATH": str(house / "lib"), "PRUNECAST_RUNS": str(house / "runs" / runs)}
    return os.environ | folders | {"PATH": path, "OMP_NUM_THREADS": "1"}


def _free_ports(number: int) -> list[int]:
    with ExitStack() as open_ones:
        sockets = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A program that runs meanwhile and is ended; its log is shown if the test fails."""
    with log.open("w") as output:
        program = subprocess.Popen(command, cwd=log.parent, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield program
    finally:
        program.terminate()
        program.wait(60)
        print(f"--- {log.name}\n{log.read_text()}")


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()


def _wait_for(happened: Callable[[], object], seconds: float = 120):
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.cluster
def test_each_model_is_a_job_that_can_be_stopped_and_the_tables_are_those_of_one_machine(house, slurm):
    journal = house / "runs" / "slurm" / "cluster" / "models" / "long" / "evaluations.jsonl"
    with _running([*SNAKEMAKE, *ON_SLURM], house / "snakemake.log", slurm) as snakemake:
        _wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 2)
        jobs = dict(line.split() for line in _said(["squeue", "-h", "-o", "%k %i"], slurm).splitlines())
        subprocess.run(["scancel", jobs["rule_model_wildcards_long"]], env=slurm, check=True)
        _wait_for(lambda: jobs["rule_model_wildcards_long"] not in _said(["squeue", "-h", "-o", "%i"], slurm).split())
        interrupted = journal.read_bytes().splitlines()
        assert snakemake.wait(300) == 0
    assert sorted(_said(["squeue", "-h", "--states=all", "-o", "%k %T"], slurm).splitlines()) == [
        "rule_collect_sweeps COMPLETED",
        "rule_model_wildcards_brief COMPLETED",
        "rule_model_wildcards_long CANCELLED",
        "rule_model_wildcards_long COMPLETED",
    ]
    whole = journal.read_bytes().splitlines()
    assert len(interrupted) < len(whole)
    assert interrupted[:-1] == whole[: len(interrupted) - 1]  # the last one may be cut off

    here = ["prunecast", "run", "collect_sweeps", "--study", "studies/cluster.yml"]
    subprocess.run(here, cwd=house, env=_environment(house, "here"), check=True, capture_output=True)
    tables = [house / "runs" / runs / "cluster" / "tables" for runs in ("slurm", "here")]
    on_slurm, on_one_machine = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in tables)
    assert {"models.csv", "sweeps.csv", "engines.csv"} <= set(on_slurm)
    assert on_slurm == on_one_machine
