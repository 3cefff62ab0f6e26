"""Drives one run: starts what is ready, writes what comes back, retries what deserves it.

The only writer of outcomes. Everything that it knows is either in the plan or in the store, so that a
scheduler that dies is replaced by another one that reads both again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from pydantic import Field

from evals.engine import EngineTuning
from orchestrator.errors import RunError
from orchestrator.executors import Executor, Finished, Task
from orchestrator.frontier import Frontier, NodeState
from orchestrator.jobs import BuildJob, EvalJob, Frozen
from orchestrator.plan import Plan
from orchestrator.records import Failure, FailureClass
from orchestrator.settings import Settings
from orchestrator.store import Store

# How often a job is tried again after a failure of each class; classes that are not here are never retried.
RETRIES = {
    FailureClass.LOST_NODE: 3,
    FailureClass.OUT_OF_MEMORY: 3,
    FailureClass.HUNG_ENGINE: 2,
    FailureClass.FULL_DISK: 1,
    FailureClass.UNKNOWN: 1,
}
_BACKOFF_S = {FailureClass.FULL_DISK: 20.0, FailureClass.LOST_NODE: 1.0}
_LEASE_S = 60.0
_HEARTBEAT_PERIOD_S = 10.0
_POLL_S = 0.5


class JobProgress(Frozen):
    """How far one running job is."""

    digest: str = Field(description="The job.")
    label: str = Field(description="What it does, for people.")
    stage: str = Field(description="What is being done.")
    done: int = Field(default=0, description="Requests answered.")
    total: int = Field(default=0, description="Requests in all; 0 where not known yet.")


class RunProgress(Frozen):
    """How far the run is."""

    counts: dict[NodeState, int] = Field(description="Jobs by state.")
    running: tuple[JobProgress, ...] = Field(description="What runs now.")
    elapsed_s: float = Field(description="Seconds since this process took the run.")
    ran: int = Field(description="Jobs that this process finished.")


class RunSummary(Frozen):
    """How the run ended."""

    run_id: str = Field(description="The run.")
    done: int = Field(description="Jobs whose outcome is in the store.")
    cached: int = Field(description="Of these, jobs that were there before.")
    failed: dict[str, str] = Field(description="Failed job to its message.")
    blocked: int = Field(description="Jobs that could not start because another failed.")
    duration_s: float = Field(description="Wall-clock seconds.")


class Reporter(Protocol):
    """Shows progress."""

    def update(self, progress: RunProgress) -> None:
        """Called about twice a second."""


class Scheduler:
    """Executes one plan as one run."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        plan: Plan,
        *,
        run_id: str,
        owner: str,
        settings: Settings,
        reporter: Reporter,
    ) -> None:
        self._store = store
        self._executor = executor
        self._plan = plan
        self._run_id = run_id
        self._owner = owner
        self._settings = settings
        self._reporter = reporter
        self._jobs = dict(plan.jobs)
        self._failures: Counter[tuple[str, FailureClass]] = Counter()
        self._messages: dict[str, str] = {}
        self._not_before: dict[str, float] = {}
        self._attempts: dict[str, str] = {}
        self._elsewhere: set[str] = set()
        self._started = time.monotonic()
        self._last_beat = 0.0
        self._ran = 0

    def run(self) -> RunSummary:
        """Go on until nothing is left that could still run; the summary tells what failed."""
        done = self._store.done(list(self._jobs))
        frontier = Frontier(
            {digest: job.needs for digest, job in self._jobs.items()}, done=_ordered(done, self._jobs)
        )
        _skip_unneeded_builds(frontier, self._jobs)
        try:
            while not frontier.finished:
                self._beat()
                self._start(frontier)
                for finished in self._executor.wait(_POLL_S):
                    self._take(finished, frontier)
                self._look_elsewhere(frontier)
                self._report(frontier)
        except BaseException:
            self._executor.cancel()
            self._store.abandon_attempts(list(self._attempts.values()))
            raise
        self._executor.cancel()
        self._report(frontier)
        return RunSummary(
            run_id=self._run_id,
            done=frontier.count(NodeState.DONE),
            cached=len(done),
            failed=dict(self._messages),
            blocked=frontier.count(NodeState.BLOCKED),
            duration_s=time.monotonic() - self._started,
        )

    def _start(self, frontier: Frontier) -> None:
        now = time.monotonic()
        ready = [
            d for d in frontier.ready() if self._not_before.get(d, 0.0) <= now and d not in self._elsewhere
        ]
        for job in self._executor.pick([self._jobs[digest] for digest in ready]):
            attempt = self._store.start_attempt(job.digest, self._run_id, self._owner)
            if attempt is None:
                self._elsewhere.add(job.digest)
                continue
            self._attempts[job.digest] = attempt.id
            frontier.started(job.digest)
            self._executor.submit(Task(attempt_id=attempt.id, job=job))

    def _take(self, finished: Finished, frontier: Frontier) -> None:
        """Write down what came back; only then is the job done."""
        digest = finished.job_digest
        self._attempts.pop(digest, None)
        if isinstance(finished.outcome, Failure):
            self._failed(finished, finished.outcome, frontier)
            return
        self._store.finish_attempt(finished.attempt_id, finished.outcome)
        self._ran += 1
        frontier.done(digest)
        shutil.rmtree(self._settings.journals / digest, ignore_errors=True)

    def _failed(self, finished: Finished, failure: Failure, frontier: Frontier) -> None:
        digest = finished.job_digest
        self._store.fail_attempt(finished.attempt_id, failure)
        kind = failure.failure_class
        self._failures[digest, kind] += 1
        count = self._failures[digest, kind]
        if count > RETRIES.get(kind, 0):
            self._messages[digest] = failure.message
            frontier.failed(digest)
            return
        if kind is FailureClass.OUT_OF_MEMORY:
            self._jobs[digest] = _smaller(self._jobs[digest])
        self._not_before[digest] = time.monotonic() + min(60.0, _BACKOFF_S.get(kind, 2.0) * 2 ** (count - 1))
        frontier.again(digest)

    def _look_elsewhere(self, frontier: Frontier) -> None:
        """Jobs that another run holds: take over their outcome, or the job when its attempt was lost."""
        if not self._elsewhere:
            return
        for digest in self._store.done(list(self._elsewhere)):
            self._elsewhere.discard(digest)
            frontier.done(digest)
        self._elsewhere -= self._store.free(list(self._elsewhere))
        if self._elsewhere and not self._attempts:
            time.sleep(_POLL_S)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat < _HEARTBEAT_PERIOD_S:
            return
        self._last_beat = now
        if not self._store.renew_lease(self._run_id, self._owner, _LEASE_S):
            raise RunError(
                f"Run {self._run_id} was taken over by another process; this one stops here, nothing is lost."
            )
        self._store.heartbeat(list(self._attempts.values()))

    def _report(self, frontier: Frontier) -> None:
        running = tuple(self._progress(digest) for digest in self._attempts)
        counts = {state: frontier.count(state) for state in NodeState}
        elapsed = time.monotonic() - self._started
        self._reporter.update(RunProgress(counts=counts, running=running, elapsed_s=elapsed, ran=self._ran))

    def _progress(self, digest: str) -> JobProgress:
        label = job_label(self._jobs[digest], self._plan)
        try:
            data = json.loads(Path(self._settings.journals / digest / "progress.json").read_text())
        except (OSError, ValueError):
            return JobProgress(digest=digest, label=label, stage="starting")
        return JobProgress(
            digest=digest,
            label=label,
            stage=data["stage"],
            done=data.get("done", 0),
            total=data.get("total", 0),
        )


def job_label(job: BuildJob | EvalJob, plan: Plan) -> str:
    """What a job does, for people."""
    if isinstance(job, BuildJob):
        names = [c.name for c in plan.candidates if c.build and c.build.digest == job.digest]
        return f"build {names[0] if names else job.digest}"
    names = [e.candidate for e in plan.evals if e.job.digest == job.digest]
    return f"{names[0] if names else job.digest}: {job.suite} {job.benchmark}"


def _skip_unneeded_builds(frontier: Frontier, jobs: dict[str, BuildJob | EvalJob]) -> None:
    """A build whose evaluations are all in the store already is not made again for nothing."""
    for digest, job in jobs.items():
        if isinstance(job, BuildJob) and frontier.state(digest) is NodeState.READY:
            users = [d for d, other in jobs.items() if digest in other.needs]
            if users and all(frontier.state(d) is NodeState.DONE for d in users):
                frontier.done(digest)


def _ordered(done: set[str], jobs: dict[str, BuildJob | EvalJob]) -> list[str]:
    return [digest for digest in jobs if digest in done]


def _smaller(job: BuildJob | EvalJob) -> BuildJob | EvalJob:
    """The same job with half the batch."""
    if isinstance(job, BuildJob):
        return job
    size = max(1, (job.tuning.batch_size or 32) // 2)
    tuning = EngineTuning.model_validate({**job.tuning.model_dump(), "batch_size": size})
    return job.model_copy(update={"tuning": tuning})
