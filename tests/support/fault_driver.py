"""What drives a stand-in run in a process of its own: `python -m tests.support.fault_driver` or a forked child."""

from __future__ import annotations

import argparse
import os
import random
from pathlib import Path
from typing import Any

import ray

from orchestrator.cluster import Finished, RayExecutor, cluster_facts
from orchestrator.run.progress import RunProgress, Watchdog
from orchestrator.run.run import register
from orchestrator.run.scheduler import RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.support.stand_in import StandIn
from tests.support.stand_in_plan import stand_in_plan

JOBS = 12
LEASE_S = 4.0


class Nothing:
    """A reporter that shows nothing."""

    def update(self, progress: RunProgress) -> None:
        """Nothing."""


class Twice(RayExecutor):
    """Delivers results twice, the second time at once or a little later."""

    def __init__(self, *args: Any, chance: random.Random, **options: Any) -> None:
        super().__init__(*args, **options)
        self._chance = chance
        self._again: list[Finished] = []

    def wait(self, timeout_s: float) -> list[Finished]:
        found = super().wait(timeout_s)
        late, self._again = self._again, []
        for finished in found:
            (late if self._chance.random() < 0.5 else self._again).append(finished)
        return found + late


def settings_of(home: Path, url: str) -> Settings:
    return Settings(home=home, database_url=url, datasets=None, ray_address=None)


def drive(
    home: Path,
    url: str,
    address: str,
    *,
    twice: str | None = None,
    jobs: int = JOBS,
    hangs: bool = False,
    gpus: tuple[int, ...] = (1,),
    name: str = "stand-in",
) -> RunSummary:
    """Take the run, or go on with it, until it ends."""
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    settings = settings_of(home, url)
    plan = stand_in_plan(jobs, gpus, hangs=hangs)
    with Store.open(url, lease_s=LEASE_S) as store:
        run_id = register(store, plan)
        scheduler = Scheduler(
            store, plan, run_id=run_id, settings=settings, reporter=Nothing(), watchdog=Watchdog(counted_s=20, uncounted_s=120)
        )  # fmt: skip
        options: dict[str, Any] = {"host": StandIn, "start_s": lambda job: 0.5}
        facts = cluster_facts()
        executor = (
            Twice(settings, facts, chance=random.Random(twice), **options)
            if twice
            else RayExecutor(settings, facts, **options)
        )
        try:
            return scheduler.run(executor)
        finally:
            ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--home", "--url", "--address"):
        parser.add_argument(name, required=True)
    parser.add_argument("--twice")
    given = parser.parse_args()
    drive(Path(given.home), given.url, given.address, twice=given.twice)


if __name__ == "__main__":
    main()
