"""Faults at random moments: every run ends, and its store equals that of an undisturbed run but for times and attempts.

    python -m tests.support.fault_campaign --seed 1 --count 190 [--kind driver ...] [--store sqlite|postgresql]
    python -m tests.support.fault_campaign --real --seed 1 --count 10

Each fault has a seed of its own, which is printed; `--replay SEED` does one again. The driver, the scheduler, the executor, the
store and Ray are the real ones, the engine is a stand-in unless `--real` is given; Ray's nodes live through the campaign but for
those that are killed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.store import Store
from tests.support.fault_trial import WINDOW_S, Nodes, RealTrial, Trial


def _driver(trial: Trial) -> None:
    trial.kill_driver()


def _engine(trial: Trial) -> None:
    """kill -9 of a process that holds an engine."""
    engines = trial.engines()
    if engines:
        trial.chance.choice(engines).kill()


def _worker(trial: Trial) -> None:
    """kill -9 of any Ray worker process of the nodes, busy or not."""
    workers = trial.nodes.workers()
    if workers:
        trial.chance.choice(workers).kill()


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
REAL = ("driver", "engine", "worker", "raylet", "node", "postgres-stopped", "postgres-killed")
"""What is tried on the real engine."""


def store_for(kind: str, chance: random.Random, asked: str | None) -> str:
    """Which store a fault is tried on."""
    if kind.startswith("postgres"):
        return "postgresql"
    if kind == "disk":
        return "sqlite"
    return asked or chance.choice(["sqlite", "postgresql"])


class Setting:
    """Where trials take place: nodes, a PostgreSQL server, and what an undisturbed run leaves behind."""

    def __init__(self, folder: Path, real: bool) -> None:
        from tests.support.pg import PostgresForTests

        (folder / "data").mkdir()
        self.kind = RealTrial if real else Trial
        self.window_s = WINDOW_S
        if real:
            from tests.support.runs_fixture import write_sweep

            RealTrial.sweep = write_sweep(folder)
        self.postgres = PostgresForTests(folder / "data")
        self.nodes = Nodes(gpus=0 if real else 1)
        self.expected = ""

    def learn(self) -> None:
        """What the store holds after a run without a fault; on the real engine, faults then come over its whole length."""
        trial = self.kind(self.nodes, self.postgres, "none", "0", "sqlite")
        try:
            trial.start()
            trial.wait_begun()
            begun = time.monotonic()
            trial.finish()
            if self.kind is RealTrial:
                self.window_s = 0.9 * (time.monotonic() - begun)
            with Store.open(trial.url, create=False) as store:
                self.expected = store.snapshot()
        finally:
            trial.close()

    def disturb(self, fault: str, seed: str, asked: str | None) -> Counter[str]:
        """Disturb one run; AssertionError where it does not end as it has to."""
        trial = self.kind(
            self.nodes, self.postgres, fault, seed, store_for(fault, random.Random(seed), asked)
        )
        try:
            trial.start()
            trial.wait_begun()
            time.sleep(trial.chance.uniform(0.0, self.window_s))
            FAULTS[fault](trial)
            self.nodes.mend()
            trial.finish()
            return trial.check(self.expected)
        finally:
            trial.close()

    def close(self) -> None:
        """End nodes and server."""
        self.nodes.close()
        self.postgres.close()


def campaign(given: argparse.Namespace) -> int:
    """Run the faults; how many failed."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o755)
    setting = Setting(folder, given.real)
    numbers = range(given.first, given.first + given.count)
    seeds = given.replay or [f"{given.seed}-{number}" for number in numbers]
    end = time.monotonic() + given.within_s
    kinds = given.kind or (list(REAL) if given.real else list(FAULTS))
    weights = [WEIGHTS[list(FAULTS).index(kind)] for kind in kinds]
    tried: Counter[str] = Counter()
    failed: list[str] = []
    try:
        setting.learn()
        for seed in seeds:
            if time.monotonic() > end:
                break
            kind = random.Random(f"kind {seed}").choices(kinds, weights)[0]
            begun = time.monotonic()
            line: dict[str, Any] = {"seed": seed, "kind": kind, "real": given.real}
            try:
                line["attempts"] = dict(setting.disturb(kind, seed, given.store))
            except Exception as error:  # noqa: BLE001 - a campaign goes on after a failure and reports it
                line["failed"] = f"{type(error).__name__}: {str(error)[:300]}"
                failed.append(seed)
            tried[kind] += 1
            print(json.dumps({**line, "s": round(time.monotonic() - begun, 1)}), flush=True)
    finally:
        setting.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"tried": sum(tried.values()), "by_kind": dict(tried), "failed": failed}), flush=True)
    return len(failed)


def main() -> None:
    """Parse the options, run, and end with 1 where a run did not end as it has to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first, to go on with a campaign")
    parser.add_argument("--within-s", type=float, default=math.inf, help="begin none after this time")
    parser.add_argument("--kind", action="append", choices=list(FAULTS))
    parser.add_argument("--real", action="store_true", help="the real command and engine, with a real build")
    parser.add_argument("--store", choices=["sqlite", "postgresql"])
    parser.add_argument(
        "--replay", action="append", help="seed of a fault to do again; with its --kind where one was given"
    )
    sys.exit(1 if campaign(parser.parse_args()) else 0)


if __name__ == "__main__":
    main()
