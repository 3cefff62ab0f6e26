"""kill -9 of `mergeboard run`; the same command then ends with the store of an undisturbed run, and no finished job runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store import Store
from orchestrator.store.records import AttemptState
from tests.support.runs_fixture import Finished, mergeboard

# Runs the real command, and dies when the store is about to take the n-th outcome.
DIES_BEFORE_COMMIT = """
import os, signal, sys
from orchestrator.store import Store
left = int(sys.argv.pop(1))
real = Store.finish_attempt
def finish(self, *args, **kwargs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *args, **kwargs)
Store.finish_attempt = finish
sys.argv[0] = "mergeboard"
from orchestrator.cli import main
main()
"""


def opened(home: Path) -> Store:
    return Store.open(f"sqlite:///{home}/store.sqlite", create=False, read_only=True)


def snapshot(home: Path) -> str:
    """The store's content without times, attempts and this test's own paths."""
    with opened(home) as store:
        return store.snapshot()


def check_resumed(home: Path, finished: Finished) -> None:
    """Run the same command again and hold the result against the undisturbed run."""
    with opened(home) as store:
        done_before = {
            d for p in store.run_jobs(finished.run_id) for d in [p.job.digest] if d in store.done([d])
        }
    again = mergeboard("run", str(finished.sweep), home=home)
    assert again.returncode == 0, again.stderr
    assert snapshot(home) == snapshot(finished.home)
    with opened(home) as store:
        for digest in done_before:
            assert [a.state for a in store.attempts(digest)].count(AttemptState.SUCCEEDED) == 1
            assert store.attempts(digest)[-1].state is AttemptState.SUCCEEDED
        for planned in store.run_jobs(finished.run_id):
            states = [a.state for a in store.attempts(planned.job.digest)]
            assert states.count(AttemptState.SUCCEEDED) == 1


def start(sweep: Path, home: Path, *python: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, *python] if python else [str(Path(sys.executable).parent / "mergeboard")]
    env = {**os.environ, "MERGEBOARD_HOME": str(home), "OMP_NUM_THREADS": "2"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [*command, "run", str(sweep)], env=env, stdout=quiet, stderr=quiet, start_new_session=True
    )


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool], timeout_s: float = 300) -> None:
    """SIGKILL the driver alone as soon as `ready` says so."""
    end = time.monotonic() + timeout_s
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def stages(home: Path) -> list[str]:
    found = []
    for path in home.glob("journals/*/progress.json"):
        try:
            found.append(json.loads(path.read_text())["stage"])
        except (OSError, ValueError):
            continue
    return found


@pytest.mark.slow
def test_between_an_outcome_and_its_commit(finished: Finished, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(finished.sweep, home, "-c", DIES_BEFORE_COMMIT, "3")
    assert process.wait(timeout=400) == -signal.SIGKILL
    check_resumed(home, finished)


@pytest.mark.slow
def test_during_a_build(finished: Finished, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(finished.sweep, home)
    kill_when(process, lambda: any(stage.startswith("building") for stage in stages(home)))
    check_resumed(home, finished)


@pytest.mark.slow
def test_during_an_evaluation(finished: Finished, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(finished.sweep, home)
    kill_when(process, lambda: any(stage == "evaluating" for stage in stages(home)))
    check_resumed(home, finished)
