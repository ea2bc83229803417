import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from prunecast import hardware

COUNT = """
import os, torch
from prunecast.hardware import in_processes

def job(number):
    return number, os.getpid(), torch.get_num_threads()

found = in_processes(job, [(number,) for number in range(12)], "counting")
print([number for number, _, _ in found] == list(range(12)), len({pid for _, pid, _ in found}), {n for *_, n in found})
"""
SLEEP = """
import os, sys, time
from prunecast.hardware import in_processes

def job(number):
    print(os.getpid(), flush=True)
    time.sleep(60)

in_processes(job, [(0,), (1,)], "sleeping")
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_workers_use_as_many_cores_together_as_one_process_may(threads):
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}  # as Snakemake sets it for a job of so many threads
    done = subprocess.run([sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True)
    in_order, workers, each = done.stdout.split(maxsplit=2)
    assert in_order == "True"
    assert int(workers) <= threads
    assert each.strip() == "{1}"


def test_workers_end_when_their_parent_is_killed():
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    parent = subprocess.Popen([sys.executable, "-c", SLEEP], env=environment, stdout=subprocess.PIPE, text=True)
    workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
    assert parent.pid not in {worker.pid for worker in workers}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5 * hardware.POLL_S
    while any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_processor_has_a_name():
    assert hardware.device_name(torch.device("cpu")) == hardware.processor() != ""
