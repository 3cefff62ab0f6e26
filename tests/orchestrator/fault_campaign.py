"""Faults at random moments: every run ends, and its store equals that of an undisturbed run but for times and attempts.

    python -m tests.orchestrator.fault_campaign --seed 1 --count 190 [--kind driver ...] [--store sqlite|postgresql]

Each fault has a seed of its own, which is printed; `--replay SEED` does one again. The driver, the scheduler, the executor, the
store and Ray are the real ones, the engine is a stand-in; Ray's nodes live through the campaign but for those that are killed.
"""

from __future__ import annotations

import argparse
import json
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from benchmarks.cluster import add_node
from orchestrator.records import AttemptState, RunState
from orchestrator.store import Store
from tests.orchestrator.fault_driver import JOBS, drive

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.orchestrator.fault_driver", "orchestrator.worker"])
WINDOW_S = 2.5
"""A fault comes within this time after the first job has begun."""
PATIENCE_S = 240.0
_TMPFS_BYTES = 24 << 20


class Nodes:
    """A head and two worker nodes with a GPU each, which are replaced when they die."""

    def __init__(self) -> None:
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
        self._options = {"object_store_memory": 80_000_000}
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, **self._options},
        )
        self._workers: list[Any] = []
        self.mend()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def mend(self) -> None:
        """Two live worker nodes again."""
        while len(self._workers) < 2:
            self._workers.append(add_node(self._cluster, num_cpus=2, num_gpus=1, **self._options))

    def kill_raylet(self, chance: random.Random) -> None:
        """kill -9 of one worker node's raylet; its workers follow by themselves."""
        node = self._workers.pop(chance.randrange(len(self._workers)))
        for started in node.all_processes["raylet"]:
            started.process.kill()

    def kill_node(self, chance: random.Random) -> None:
        """kill -9 of everything on one worker node."""
        node = self._workers.pop(chance.randrange(len(self._workers)))
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


class Trial:
    """One run, disturbed once."""

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
        words = [sys.executable, "-m", "tests.orchestrator.fault_driver", "--home", str(self.home)]
        words += ["--url", self.url, "--address", self.nodes.address]
        self._process = subprocess.Popen(words, env=environment, start_new_session=True)

    def exit_code(self) -> int | None:
        """How the driver ended; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode  # type: ignore[no-any-return] # a process of the fork server

    def kill_driver(self) -> None:
        """kill -9 of the driver alone."""
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
        end = time.monotonic() + PATIENCE_S
        while not list(self.home.glob("journals/*/progress.json")) and self.exit_code() is None:
            assert time.monotonic() < end, "no job began"
            time.sleep(0.02)

    def finish(self) -> None:
        """Until the run has ended; a driver that died is followed by another, as an operator or a timer would."""
        end = time.monotonic() + PATIENCE_S
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
            assert len(digests) == JOBS
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


def _driver(trial: Trial) -> None:
    trial.kill_driver()


def _engine(trial: Trial) -> None:
    """kill -9 of a process that holds an engine."""
    engines = trial.engines()
    if engines:
        trial.chance.choice(engines).kill()


def _worker(trial: Trial) -> None:
    """kill -9 of any Ray worker process of the nodes, busy or not."""
    workers = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        try:
            line = " ".join(process.info["cmdline"] or [])
            if line.startswith("ray::") and trial.nodes.address in str(process.info["environ"]):
                workers.append(process)
        except psutil.Error:
            continue
    if workers:
        trial.chance.choice(workers).kill()
    else:
        _engine(trial)


def _raylet(trial: Trial) -> None:
    trial.nodes.kill_raylet(trial.chance)


def _node(trial: Trial) -> None:
    trial.nodes.kill_node(trial.chance)


def _postgres_stopped(trial: Trial) -> None:
    trial.postgres.stop()
    time.sleep(trial.chance.uniform(0.1, 4.0))
    trial.postgres.start()


def _postgres_killed(trial: Trial) -> None:
    trial.postgres.kill()
    time.sleep(trial.chance.uniform(0.0, 2.0))
    trial.postgres.start()


def _disk(trial: Trial) -> None:
    """Fill the disk that holds store, journals and samples, for a while."""
    filler = trial.home / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 65536)
        except OSError:
            pass
        try:
            while True:
                file.write(b"0")
        except OSError:
            pass
    time.sleep(trial.chance.uniform(0.5, 3.0))
    filler.unlink()


def _clock(trial: Trial) -> None:
    """The next driver's clock is hours or days off."""
    trial.kill_driver()
    trial.start(clock=trial.chance.choice(["-3d", "-2h", "-40s", "+40s", "+2h", "+30d"]))


def _nothing(trial: Trial) -> None:
    """Results that come twice need no push."""


FAULTS: dict[str, Callable[[Trial], None]] = {
    "driver": _driver,
    "engine": _engine,
    "worker": _worker,
    "raylet": _raylet,
    "node": _node,
    "postgres-stopped": _postgres_stopped,
    "postgres-killed": _postgres_killed,
    "disk": _disk,
    "clock": _clock,
    "twice": _nothing,
}
WEIGHTS = (40, 30, 15, 8, 8, 15, 15, 12, 12, 35)


def store_for(kind: str, chance: random.Random, asked: str | None) -> str:
    """Which store a fault is tried on."""
    if kind.startswith("postgres"):
        return "postgresql"
    if kind == "disk":
        return "sqlite"
    return asked or chance.choice(["sqlite", "postgresql"])


def one(nodes: Nodes, postgres: Any, kind: str, seed: str, asked: str | None, expected: str) -> Counter[str]:
    """Disturb one run; AssertionError where it does not end as it has to."""
    trial = Trial(nodes, postgres, kind, seed, store_for(kind, random.Random(seed), asked))
    try:
        trial.start()
        trial.wait_begun()
        time.sleep(trial.chance.uniform(0.0, WINDOW_S))
        FAULTS[kind](trial)
        nodes.mend()
        trial.finish()
        return trial.check(expected)
    finally:
        trial.close()


def undisturbed(nodes: Nodes, postgres: Any) -> str:
    """What the store holds after a run without a fault."""
    trial = Trial(nodes, postgres, "none", "0", "sqlite")
    try:
        trial.start()
        trial.finish()
        with Store.open(trial.url, create=False) as store:
            return store.snapshot()
    finally:
        trial.close()


def campaign(given: argparse.Namespace) -> int:
    """Run the faults; how many failed."""
    from tests.orchestrator.pg import PostgresForTests

    folder = Path(tempfile.mkdtemp(prefix="faults-pg-"))
    folder.chmod(0o755)
    (folder / "data").mkdir()
    postgres, nodes = PostgresForTests(folder / "data"), Nodes()
    seeds = given.replay or [f"{given.seed}-{number}" for number in range(given.count)]
    kinds = given.kind or list(FAULTS)
    weights = [WEIGHTS[list(FAULTS).index(kind)] for kind in kinds]
    tried: Counter[str] = Counter()
    failed: list[str] = []
    try:
        expected = undisturbed(nodes, postgres)
        for seed in seeds:
            kind = random.Random(f"kind {seed}").choices(kinds, weights)[0]
            begun = time.monotonic()
            line: dict[str, Any] = {"seed": seed, "kind": kind}
            try:
                line["attempts"] = dict(one(nodes, postgres, kind, seed, given.store, expected))
            except Exception as error:  # noqa: BLE001 - a campaign goes on after a failure and reports it
                line["failed"] = f"{type(error).__name__}: {str(error)[:300]}"
                failed.append(seed)
            tried[kind] += 1
            print(json.dumps({**line, "s": round(time.monotonic() - begun, 1)}), flush=True)
    finally:
        nodes.close()
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"tried": sum(tried.values()), "by_kind": dict(tried), "failed": failed}), flush=True)
    return len(failed)


def main() -> None:
    """Parse the options, run, and end with 1 where a run did not end as it has to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--kind", action="append", choices=list(FAULTS))
    parser.add_argument("--store", choices=["sqlite", "postgresql"])
    parser.add_argument(
        "--replay", action="append", help="seed of a fault to do again; with its --kind where one was given"
    )
    sys.exit(1 if campaign(parser.parse_args()) else 0)


if __name__ == "__main__":
    main()
