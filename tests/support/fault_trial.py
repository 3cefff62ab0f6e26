"""One run that is disturbed once: on a stand-in engine, or by the real command on the real one; and the nodes it runs on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks.ray_nodes import add_node, new_cluster
from orchestrator.store import Store
from orchestrator.store.records import AttemptState, RunState
from tests.support.fault_driver import JOBS, drive

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.support.fault_driver", "orchestrator.worker.worker"])
WINDOW_S = 2.5
"""A fault comes within this time after the first job has begun."""
PATIENCE_S = 240.0
_TMPFS_BYTES = 24 << 20


class Nodes:
    """A head and two worker nodes, with a GPU each unless told otherwise, which are replaced when they die."""

    def __init__(self, gpus: int = 1) -> None:
        self._gpus = gpus
        self._cluster = new_cluster()
        self._workers: list[Any] = []
        self.mend()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def mend(self) -> None:
        """Two live worker nodes again."""
        while len(self._workers) < 2:
            self._workers.append(add_node(self._cluster, num_cpus=2, num_gpus=self._gpus))

    def kill_raylet(self, chance: random.Random) -> None:
        """kill -9 of one worker node's raylet; its workers follow by themselves."""
        node = self._workers.pop(chance.randrange(len(self._workers)))
        for started in node.all_processes["raylet"]:
            started.process.kill()

    def kill_node(self, chance: random.Random) -> None:
        """kill -9 of everything on one worker node."""
        node = self._workers.pop(chance.randrange(len(self._workers)))
        self._cluster.remove_node(node, allow_graceful=False)

    def workers(self) -> list[psutil.Process]:
        """Ray's worker processes on the worker nodes, busy or not, without the agents that a raylet cannot do without."""
        found = []
        for node in self._workers:
            for started in node.all_processes["raylet"]:
                with contextlib.suppress(psutil.Error):
                    found += psutil.Process(started.process.pid).children(recursive=True)
        return [process for process in found if _is_worker(process)]

    def close(self) -> None:
        self._cluster.shutdown()


def _is_worker(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return line.startswith("ray::") and "Agent" not in line


class Trial:
    """One run on the stand-in engine, disturbed once."""

    jobs = JOBS
    patience_s = PATIENCE_S

    def __init__(self, nodes: Nodes, postgres: Any, kind: str, seed: str, store: str) -> None:
        self.chance = random.Random(seed)
        self.nodes, self.postgres, self.kind, self.seed = nodes, postgres, kind, seed
        self.home = Path(tempfile.mkdtemp(prefix="fault-"))
        if kind == "disk":
            size = ["-o", f"size={_TMPFS_BYTES}"]
            subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", str(self.home)], check=True)
        self.url = postgres.new_database() if store == "postgresql" else f"sqlite:///{self.home}/store.sqlite"
        self.drivers = 0
        self._process: Any = None

    def start(self, *, clock: str | None = None) -> None:
        """A driver: a child with everything imported, or where its clock is wrong a process of its own."""
        self.drivers += 1
        twice = self.seed if self.kind == "twice" else None
        if clock is None:
            arguments = (self.home, self.url, self.nodes.address)
            self._process = FORKS.Process(target=drive, args=arguments, kwargs={"twice": twice})
            self._process.start()
            return
        import libfaketime

        library = Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME": clock,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        words = [sys.executable, "-m", "tests.support.fault_driver", "--home", str(self.home)]
        words += ["--url", self.url, "--address", self.nodes.address]
        self._process = subprocess.Popen(words, env=environment, start_new_session=True)

    def exit_code(self) -> int | None:
        """How the driver ended; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        code: int | None = self._process.exitcode
        return code

    def kill_driver(self) -> None:
        """kill -9 of the driver alone; one that has ended by then is left to its rest."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._wait_dead()

    def _wait_dead(self) -> None:
        end = time.monotonic() + 10
        while self.exit_code() is None and time.monotonic() < end:
            time.sleep(0.02)

    def engines(self) -> list[psutil.Process]:
        """Live processes of stand-in engines of this run."""
        found = []
        for path in (self.home / "pids").glob("*") if (self.home / "pids").exists() else []:
            try:
                process = psutil.Process(int(path.read_text()))
                if "ray" in " ".join(process.cmdline()).lower():
                    found.append(process)
            except (psutil.Error, ValueError, OSError):
                continue
        return found

    def wait_begun(self) -> None:
        """Until an engine has begun."""
        end = time.monotonic() + self.patience_s
        while not list(self.home.glob("journals/*/progress.json")) and self.exit_code() is None:
            assert time.monotonic() < end, "no job began"
            time.sleep(0.02)

    def finish(self) -> None:
        """Until the run has ended; a driver that died is followed by another, as an operator or a timer would."""
        end = time.monotonic() + self.patience_s
        while True:
            code = self.exit_code()
            if code == 0:
                return
            assert time.monotonic() < end, f"the run did not end (driver {self.drivers}, exit code {code})"
            if code is not None:
                assert self.drivers < 8, "drivers die one after another"
                self.start()
            time.sleep(0.05)

    def check(self, expected: str) -> Counter[str]:
        """Whether the store holds what it has to; states of all attempts."""
        with Store.open(self.url, create=False) as store:
            (run,) = store.runs()
            assert run.state is RunState.DONE, run.state
            assert store.snapshot() == expected, "the store differs from an undisturbed run's"
            assert not store.running_attempts()
            digests = [planned.job.digest for planned in store.run_jobs(run.id)]
            assert len(digests) == self.jobs, digests
            states: Counter[str] = Counter()
            for digest in digests:
                each = [attempt.state for attempt in store.attempts(digest)]
                assert each.count(AttemptState.SUCCEEDED) == 1, each
                states.update(a.failure_class or a.state.value for a in store.attempts(digest))
            return states

    def close(self) -> None:
        if self.exit_code() is None:
            self.kill_driver()
        if self.kind == "disk":
            subprocess.run(["umount", "-l", str(self.home)], check=False)
        if self.url.startswith("postgresql"):
            self.postgres.drop(self.url)
        shutil.rmtree(self.home, ignore_errors=True)


class RealTrial(Trial):
    """One run of the real command on the real engine, with a build in it, disturbed once."""

    jobs = 7
    patience_s = 500.0
    sweep = Path()

    def start(self, *, clock: str | None = None) -> None:
        """`mergeboard run`, as a user starts it, and again after it has died."""
        assert clock is None, "clocks are moved on the stand-in alone"
        self.drivers += 1
        environment = {
            **os.environ,
            "MERGEBOARD_HOME": str(self.home),
            "MERGEBOARD_DATABASE_URL": self.url,
            "OMP_NUM_THREADS": "2",
        }
        words = [str(Path(sys.executable).parent / "mergeboard"), "run", str(self.sweep)]
        with (self.home / "driver.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--address", self.nodes.address], env=environment, stdout=log, stderr=log
            )

    def engines(self) -> list[psutil.Process]:
        """Live processes that hold an engine."""
        return [p for p in self.nodes.workers() if "EngineHost" in " ".join(p.cmdline())]
