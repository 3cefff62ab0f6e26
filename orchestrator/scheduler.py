"""Drives one run: starts what is ready, writes what comes back, retries what deserves it.

The only writer of outcomes. Everything that it knows is either in the plan or in the store, so that a
scheduler that dies is replaced by another one that reads both again.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

from pydantic import Field

from evals.engine import EngineTuning
from orchestrator.errors import RunError, StoreError
from orchestrator.executors import Batch, Executor, Finished
from orchestrator.frontier import Frontier, NodeState
from orchestrator.jobs import BuildJob, EvalJob, Frozen, Task
from orchestrator.plan import Plan
from orchestrator.records import (
    Acceptance,
    Failure,
    FailureClass,
    NotStarted,
    RunLease,
    RunState,
    new_owner,
    owner_is_gone,
)
from orchestrator.settings import Settings
from orchestrator.store import Store
from recipes.artifact import ArtifactStore

# How often a job is tried again after a failure of each class; classes that are not here are never retried.
RETRIES = {
    FailureClass.LOST_NODE: 3,
    FailureClass.OUT_OF_MEMORY: 3,
    FailureClass.HUNG_ENGINE: 2,
    FailureClass.FULL_DISK: 1,
    FailureClass.UNKNOWN: 1,
}
_BACKOFF_S = {FailureClass.FULL_DISK: 20.0, FailureClass.LOST_NODE: 1.0}
_POLL_S = 0.5


class JobProgress(Frozen):
    """How far one running job is, or several that run as one batch."""

    digest: str = Field(description="The job, or the first of the batch.")
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
    """Executes one plan as one run; holds the run's lease from `run` to its end."""

    def __init__(
        self, store: Store, plan: Plan, *, run_id: str, settings: Settings, reporter: Reporter
    ) -> None:
        self._store = store
        self._plan = plan
        self._run_id = run_id
        self._settings = settings
        self._reporter = reporter
        self._artifacts = ArtifactStore(settings.artifacts)
        self._jobs = dict(plan.jobs)
        self._failures: Counter[tuple[str, FailureClass]] = Counter()
        self._messages: dict[str, str] = {}
        self._not_before: dict[str, float] = {}
        self._attempts: dict[str, str] = {}
        self._batches: list[tuple[str, ...]] = []
        self._labels = job_labels(plan)
        self._elsewhere: set[str] = set()
        self._started = time.monotonic()
        self._last_beat = float("-inf")
        self._ran = 0
        self._cached = 0
        self._frontier = Frontier({})

    def nothing_to_do(self) -> RunSummary | None:
        """The summary of a run whose evaluations are all in the store and that has ended; None where work is left."""
        record = self._store.run(self._run_id)
        evals = {e.job.digest for e in self._plan.evals}
        done = self._store.done(evals)
        if done != evals or record.state is not RunState.DONE:
            return None
        self._cached = len(done)
        return self._summary(len(done))

    def run(self, executor: Executor) -> RunSummary:
        """Go on until nothing is left that could still run; the summary tells what failed."""
        lease = take_lease(self._store, self._run_id)
        self._frontier = self._first_frontier()
        try:
            self._loop(lease, executor)
        except BaseException:
            executor.cancel()
            with contextlib.suppress(StoreError):
                self._store.release_lease(lease)
            raise
        executor.cancel()
        self._report()
        self._store.finish_run(lease, RunState.FAILED if self._messages else RunState.DONE)
        return self._summary(self._frontier.count(NodeState.DONE))

    def _loop(self, lease: RunLease, executor: Executor) -> None:
        while not self._frontier.finished:
            self._beat(lease)
            self._start(lease, executor)
            for finished in executor.wait(_POLL_S):
                self._take(finished)
            self._look_elsewhere()
            self._report()

    def _first_frontier(self) -> Frontier:
        """What is done already; a build whose artifact was evicted is done again if something still needs it."""
        done = set(self._store.done(self._jobs))
        evicted = {
            d for d in done if isinstance(self._jobs[d], BuildJob) and self._artifacts.lookup(d) is None
        }
        pending = {other for d, job in self._jobs.items() if d not in done for other in job.needs}
        if evicted & pending:
            self._store.forget_builds(evicted & pending)
            done -= evicted & pending
        self._cached = len(done)
        frontier = Frontier(
            {digest: job.needs for digest, job in self._jobs.items()},
            done=[d for d in self._jobs if d in done],
        )
        return frontier

    def _start(self, lease: RunLease, executor: Executor) -> None:
        now = time.monotonic()
        ready = [
            d
            for d in self._frontier.ready()
            if self._not_before.get(d, 0.0) <= now and d not in self._elsewhere
        ]
        for batch in executor.pick([self._jobs[digest] for digest in ready]):
            tasks = self._begin(lease, batch)
            if tasks:
                self._batches.append(tuple(task.job.digest for task in tasks))
                executor.submit(tasks)

    def _begin(self, lease: RunLease, batch: Batch) -> list[Task]:
        """Write down the attempts at a batch; jobs that cannot start now are left out."""
        tasks = []
        for job in batch:
            attempt = self._store.start_attempt(lease, job.digest)
            if isinstance(attempt, NotStarted):
                self._not_started(attempt, job.digest)
                continue
            self._attempts[job.digest] = attempt.id
            self._frontier.started(job.digest)
            tasks.append(Task(attempt_id=attempt.id, job=job))
        return tasks

    def _not_started(self, reason: NotStarted, digest: str) -> None:
        if reason is NotStarted.LEASE_LOST:
            raise self._taken_over()
        if reason is NotStarted.RUN_CANCELLED:
            raise self._cancelled()
        # Done, or held by a live attempt of another run: its outcome will serve this run as well.
        self._elsewhere.add(digest)

    def _take(self, finished: Finished) -> None:
        """Write down what came back; only then is the job done."""
        digest = finished.job_digest
        self._attempts.pop(digest, None)
        if isinstance(finished.outcome, Failure):
            self._failed(finished, finished.outcome)
            return
        if self._store.finish_attempt(finished.attempt_id, finished.outcome) is Acceptance.REFUSED:
            wrong = self._store.attempts(digest)[-1].message
            self._messages[digest] = wrong or "The result does not fit its job."
            self._frontier.failed(digest)
            return
        self._ran += 1
        self._frontier.done(digest)
        shutil.rmtree(self._settings.journals / digest, ignore_errors=True)

    def _failed(self, finished: Finished, failure: Failure) -> None:
        digest = finished.job_digest
        kind = failure.failure_class
        self._failures[digest, kind] += 1
        count = self._failures[digest, kind]
        again = count <= RETRIES.get(kind, 0)
        self._store.fail_attempt(finished.attempt_id, failure, will_retry=again)
        if not again:
            self._messages[digest] = failure.message
            self._frontier.failed(digest)
            return
        if kind is FailureClass.OUT_OF_MEMORY:
            self._jobs[digest] = _smaller(self._jobs[digest])
        self._not_before[digest] = time.monotonic() + min(60.0, _BACKOFF_S.get(kind, 2.0) * 2 ** (count - 1))
        self._frontier.again(digest)

    def _look_elsewhere(self) -> None:
        """Jobs that another run holds: take over their outcome, or try again, since their attempt may be lost."""
        if not self._elsewhere:
            return
        for digest in self._store.done(self._elsewhere):
            self._elsewhere.discard(digest)
            self._frontier.done(digest)
        if self._elsewhere and not self._attempts:
            time.sleep(_POLL_S)
        now = time.monotonic()
        for digest in self._elsewhere:
            self._not_before[digest] = now + 2.0
        self._elsewhere.clear()

    def _beat(self, lease: RunLease) -> None:
        now = time.monotonic()
        if now - self._last_beat < self._store.lease_s / 10:
            return
        self._last_beat = now
        renewal = self._store.renew(lease, list(self._attempts.values()))
        if not renewal.held:
            raise self._taken_over()
        if renewal.cancel_requested:
            self._store.finish_run(lease, RunState.CANCELLED)
            raise self._cancelled()

    def _taken_over(self) -> RunError:
        return RunError(
            f"Run {self._run_id} was taken over by another process; this one stops, nothing is lost."
        )

    def _cancelled(self) -> RunError:
        return RunError(
            f"Run {self._run_id} was cancelled; what was finished is kept, and `mergeboard resume {self._run_id}` goes on."
        )

    def _summary(self, done: int) -> RunSummary:
        return RunSummary(
            run_id=self._run_id,
            done=done,
            cached=self._cached,
            failed=dict(self._messages),
            blocked=self._frontier.count(NodeState.BLOCKED),
            duration_s=time.monotonic() - self._started,
        )

    def _report(self) -> None:
        self._batches = [batch for batch in self._batches if any(d in self._attempts for d in batch)]
        running = tuple(self._progress(batch) for batch in self._batches)
        counts = {state: self._frontier.count(state) for state in NodeState}
        elapsed = time.monotonic() - self._started
        self._reporter.update(RunProgress(counts=counts, running=running, elapsed_s=elapsed, ran=self._ran))

    def _progress(self, batch: tuple[str, ...]) -> JobProgress:
        digest = batch[0]
        label = self._labels[digest] + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
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


def job_labels(plan: Plan) -> dict[str, str]:
    """What each job does, for people, by digest."""
    labels: dict[str, str] = {}
    for candidate in plan.candidates:
        if candidate.build is not None:
            labels.setdefault(candidate.build.digest, f"build {candidate.name}")
    for planned in plan.evals:
        job = planned.job
        labels.setdefault(job.digest, f"{planned.candidate}: {job.suite} {job.benchmark}")
    return labels


def take_lease(store: Store, run_id: str) -> RunLease:
    """Become the run's driver; a driver that died on this machine is replaced at once, another when its lease ends."""
    owner = new_owner()
    first_expiry = store.run(run_id).lease_expires_at
    while True:
        record = store.run(run_id)
        dead = record.owner if record.owner is not None and owner_is_gone(record.owner) else None
        lease = store.take_lease(run_id, owner, instead_of=dead, reopen=True)
        if lease is not None:
            return lease
        if record.owner is not None and (is_local(record.owner) or record.lease_expires_at != first_expiry):
            host, process, _ = record.owner.rsplit(":", 2)
            raise RunError(
                f"Run {run_id} is driven by process {process} on {host}; `mergeboard watch {run_id}` shows it and "
                f"`mergeboard cancel {run_id}` stops it."
            )
        time.sleep(0.5)


def is_local(owner: str) -> bool:
    """Whether an owner, `host:process:chance`, is a process of this machine."""
    return owner.rsplit(":", 2)[0] == platform.node()


def _smaller(job: BuildJob | EvalJob) -> BuildJob | EvalJob:
    """The same job with half the batch."""
    if isinstance(job, BuildJob):
        return job
    size = max(1, (job.tuning.batch_size or 32) // 2)
    tuning = EngineTuning.model_validate({**job.tuning.model_dump(), "batch_size": size})
    return job.model_copy(update={"tuning": tuning})
