"""A real raylet with the variables of deploy/: what an engine that was killed leaves behind, is ended."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.deploy_files import DEPLOY, GROUP_CLEANUP, documents

# An engine's workers are children in its own process group, as multiprocessing starts them.
SCRIPT = """
import multiprocessing, os, signal, sys, time
import psutil, ray

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

@ray.remote(num_cpus=0)
class Engine:
    def start(self):
        worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
        worker.start()
        return os.getpid(), worker.pid

engine = Engine.remote()
engine_pid, worker_pid = ray.get(engine.start.remote())
worker = psutil.Process(worker_pid)
os.kill(engine_pid, signal.SIGKILL)
try:
    worker.wait(float(sys.argv[1]))
    print("worker ended")
except psutil.TimeoutExpired:
    print("worker left behind")
    worker.kill()
"""


def fate_of_worker(value: str, wait_s: float) -> str:
    env = {**os.environ, GROUP_CLEANUP: value}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(wait_s)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1]


def test_the_workers_of_a_killed_engine_are_ended() -> None:
    value = documents(DEPLOY / "compose.yaml")[0]["x-environment"][GROUP_CLEANUP]
    assert fate_of_worker(value, 120.0) == "worker ended"


@pytest.mark.slow
def test_without_the_variable_they_would_be_left_behind() -> None:
    assert fate_of_worker("0", 10.0) == "worker left behind"
