"""A stand-in for an engine: takes its time, writes progress and samples as a worker does, and answers by rule."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.plan.job import EvalJob, Task
from orchestrator.settings import WorkerContext
from orchestrator.store.records import Failure, FailureClass, Outcome
from tests.support.store_data import eval_outcome

STEPS = 6


class StandIn:
    """Serves jobs as `EngineHost` does."""

    def __init__(self, context: WorkerContext) -> None:
        self._home = Path(context.home)
        (self._home / "pids").mkdir(parents=True, exist_ok=True)
        (self._home / "pids" / f"{socket.gethostname()}-{os.getpid()}").write_text(str(os.getpid()))

    def run(self, tasks: Sequence[Task]) -> tuple[Outcome, ...]:
        return tuple(self._one(task.job) for task in tasks if isinstance(task.job, EvalJob))

    def help(self, task: Task, seconds: float) -> bool:
        """It has no requests to share."""
        return False

    def close(self) -> None:
        """Nothing to free."""

    def _one(self, job: EvalJob) -> Outcome:
        journal = self._home / "journals" / job.digest
        try:
            journal.mkdir(parents=True, exist_ok=True)
            for step in range(STEPS):
                aside = journal / f"progress.{os.getpid()}"
                aside.write_text(
                    json.dumps({"stage": "evaluating", "done": step, "total": STEPS, "tokens": 10 * step})
                )
                aside.replace(journal / "progress.json")
                if job.benchmark == "hangs" and not (self._home / "hung").exists():
                    (self._home / "hung").touch()
                    time.sleep(3600)
                time.sleep(seconds_of(job) / STEPS)
            samples = self._home / "samples" / f"{job.digest}.parquet"
            samples.parent.mkdir(parents=True, exist_ok=True)
            samples.write_text(job.digest * 100)
        except OSError as error:
            kind = FailureClass.FULL_DISK if error.errno == errno.ENOSPC else FailureClass.UNKNOWN
            return Failure(failure_class=kind, message=str(error))
        value = int(hashlib.sha256(job.digest.encode()).hexdigest()[:4], 16) / 0xFFFF
        return eval_outcome(job, value=value)


def seconds_of(job: EvalJob) -> float:
    """Between a fifth and three fifths of a second, by the job's digest."""
    return 0.2 + 0.4 * int(job.digest[:2], 16) / 255
