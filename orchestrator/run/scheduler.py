"""Drives one run: starts ready jobs, stores outcomes, retries failures.

The only writer of outcomes. Its state follows from the plan and the store, so that another scheduler can
replace one that died.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence

from orchestrator.cluster import Batch, Executor, Finished, Seat
from orchestrator.errors import RunError, StoreError, StoreLost
from orchestrator.plan.decide import Evidence
from orchestrator.plan.durations import Durations
from orchestrator.plan.job import EvalJob, Task
from orchestrator.plan.plan import Plan
from orchestrator.run.additions import Additions
from orchestrator.run.artifact_use import ArtifactUse
from orchestrator.run.base_answers import BaseAnswers
from orchestrator.run.built_instead import BuiltInstead
from orchestrator.run.job_state import NodeState, job_labels
from orchestrator.run.lease import take_lease
from orchestrator.run.outlook import RunOutlook
from orchestrator.run.progress import (
    FailedAttempt,
    JobProgress,
    Observer,
    Reporter,
    RunProgress,
    RunSummary,
    Watchdog,
)
from orchestrator.run.reporting import Reporting
from orchestrator.run.retries import as_retried, is_retried, pause_s
from orchestrator.run.run_jobs import RunJobs
from orchestrator.run.start_order import start_order
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import (
    Acceptance,
    Failure,
    FailureClass,
    NotStarted,
    RunLease,
    RunState,
    Success,
)
from recipes.artifact import ArtifactStore

_POLL_S = 0.5
# Seconds between checks of a job that another run executes.
_ELSEWHERE_S = 2.0
# Longest wait for a store that does not answer or whose disk is full; engines stay open meanwhile.
_STORE_PATIENCE_S = 1800.0

__all__ = [
    "JobProgress",
    "Observer",
    "Reporter",
    "RunProgress",
    "RunSummary",
    "Scheduler",
    "job_labels",
]


class Scheduler:
    """Executes one plan as one run; holds the run's lease from `run` to its end."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        *,
        run_id: str,
        settings: Settings,
        reporter: Reporter,
        durations: Durations | None = None,
        observers: Sequence[Observer] = (),
        watchdog: Watchdog | None = None,
        evidence: Sequence[Evidence] = (),
        additions: Additions | None = None,
    ) -> None:
        """`evidence` orders the benchmarks of evaluations that may stop early, after those that the sweep puts first."""
        self._additions = additions
        self._store = store
        self._plan = plan
        self._run_id = run_id
        self._settings = settings
        self._durations = durations or Durations({}, on_gpu=False)
        outlook = RunOutlook(self._durations, plan.jobs)
        self._reporting = Reporting(reporter, observers, watchdog or Watchdog(), outlook, settings.journals)
        self._evidence = evidence
        self._inbox: deque[Finished] = deque()
        self._arrived: deque[Plan] = deque()
        self._away_since: float | None = None
        self._waits_for: str | None = None
        self._artifacts = ArtifactUse(ArtifactStore(settings.artifacts))
        self._jobs = RunJobs(store, self._artifacts, plan)
        self._frontier = self._jobs.frontier
        self._base_answers = BaseAnswers(store, settings.home)
        self._instead = BuiltInstead(store, plan, settings)
        # Digests of the jobs that run, wait for a retry, or are executed by another run: few among thousands.
        self._running: set[str] = set()
        self._resting: set[str] = set()
        self._elsewhere: set[str] = set()
        self._last_beat = float("-inf")

    def nothing_to_do(self) -> RunSummary | None:
        """End the run and return its summary if all evaluations are in the store; None if work is left."""
        evals = {e.job.digest for e in self._plan.evals}
        done = self._store.done(evals)
        if not evals or done != evals or (self._additions is not None and not self._additions.ended):
            return None
        if self._store.run(self._run_id).state is not RunState.DONE:
            self._store.finish_run(take_lease(self._store, self._run_id), RunState.DONE)
        self._jobs.cached = len(done)
        return self._summary(len(done))

    def run(self, executor: Executor) -> RunSummary:
        """Run until no job can run any more; the summary lists failures."""
        lease = take_lease(self._store, self._run_id)
        try:
            self._jobs.begin(self._in_order())
            self._loop(lease, executor)
        except BaseException:
            executor.cancel()
            with contextlib.suppress(StoreError):
                self._store.release_lease(lease)
            raise
        finally:
            self._artifacts.close()
        executor.cancel()
        self._report()
        self._store.finish_run(lease, RunState.FAILED if self._jobs.failed else RunState.DONE)
        return self._summary(self._frontier.count(NodeState.DONE))

    def _loop(self, lease: RunLease, executor: Executor) -> None:
        while not (self._frontier.finished and self._has_grown):
            try:
                self._grow(lease, executor)
                self._build_refused(lease, executor)
                self._step(lease, executor)
                self._away_since = self._waits_for = None
            except StoreLost as error:
                self._wait_for_store(error, executor)
            self._report(executor)

    @property
    def _has_grown(self) -> bool:
        """Whether no further jobs will be added to the run."""
        return not self._arrived and (self._additions is None or self._additions.ended)

    def _grow(self, lease: RunLease, executor: Executor) -> None:
        """Take the jobs that the run's additions adds; those in the store are done at once."""
        if self._additions is None:
            return
        if not self._arrived:
            self._arrived.extend(self._additions.more(lease, self._frontier.state))
        while self._arrived:
            # Removed only when its jobs are in the frontier: the store may be lost in between.
            self._add(self._arrived[0], self._additions.later, executor)
            self._arrived.popleft()

    def _add(self, plan: Plan, later: Mapping[str, int], executor: Executor) -> None:
        new = self._jobs.join(plan.jobs, job_labels(plan))
        executor.expect(plan.needs, later)
        self._instead.add(plan)
        self._reporting.outlook.add(new, later)

    def _build_refused(self, lease: RunLease, executor: Executor) -> None:
        """Let evaluations whose layer path an engine refuses read built checkpoints, whose builds join the run."""
        if not self._instead.is_due:
            return
        waiting = {
            digest: job
            for digest, state in self._jobs.items()
            if isinstance(job := state.job, EvalJob)
            and job.tuning.sets_paths
            and self._frontier.state(digest) in (NodeState.WAITING, NodeState.READY)
        }
        changes = self._instead.changes(waiting)
        if not (changes.evals or changes.unbuildable):
            self._instead.is_due = False
            return
        if changes.builds and not self._store.add_builds(lease, changes.builds):
            raise self._taken_over()
        builds = {digest: job for digest, (job, _) in changes.builds.items()}
        new = self._jobs.join(builds, changes.labels, changes.evals)
        later = self._additions.later if self._additions is not None else {}
        if self._additions is not None:
            self._additions.take_builds(changes.builds)
        executor.expect(changes.needs, later)
        self._reporting.outlook.add({**new, **changes.evals}, later)
        for digest, changed in changes.evals.items():
            self._jobs[digest].job = changed
            self._resting.discard(digest)
            self._frontier.require(digest, changed.artifacts)
        for digest, reason in changes.unbuildable.items():
            self._fail_unbuilt(lease, digest, reason)
        self._instead.is_due = False

    def _fail_unbuilt(self, lease: RunLease, digest: str, reason: str) -> None:
        """Store that an evaluation failed because its layer path can neither run live nor be built."""
        attempt = self._store.start_attempt(lease, digest)
        if isinstance(attempt, NotStarted):
            self._not_started(attempt, digest)
            return
        self._jobs[digest].attempt_id = attempt.id
        self._resting.discard(digest)
        self._running.add(digest)
        self._frontier.started(digest)
        failure = Failure(failure_class=FailureClass.BAD_INPUT, message=reason)
        self._inbox.append(Finished(attempt_id=attempt.id, job_digest=digest, outcome=failure))

    def _step(self, lease: RunLease, executor: Executor) -> None:
        self._beat(lease)
        self._start(lease, executor)
        self._inbox.extend(executor.wait(_POLL_S))
        while self._inbox:
            # Removed from the inbox only when stored: the store may be lost in between.
            self._take(self._inbox[0])
            self._inbox.popleft()
        self._look_elsewhere()

    def _wait_for_store(self, error: StoreLost, executor: Executor) -> None:
        """Collect results while the store does not answer; raises `error` after `_STORE_PATIENCE_S`."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._reporting.failed(FailureClass.LOST_STORE)
        if now - self._away_since > _STORE_PATIENCE_S:
            raise error
        self._waits_for = str(error)
        self._inbox.extend(executor.wait(min(30.0, 1.0 + (now - self._away_since) / 10)))

    def _in_order(self) -> list[str]:
        jobs = {digest: self._jobs.job(digest) for digest in self._jobs}
        return start_order(self._plan, jobs, self._durations, self._evidence)

    def _start(self, lease: RunLease, executor: Executor) -> None:
        self._wake()
        ready = self._jobs.ready
        homeless = executor.homeless(ready)
        for digest, reason in homeless.items():
            self._jobs[digest].message = reason
            self._frontier.failed(digest)
        for batch in executor.pick(self._jobs.ready if homeless else ready):
            tasks, lost = self._begin(lease, batch, executor.seat_of(batch))
            if tasks:
                self._reporting.began([task.job for task in tasks])
                executor.submit(tasks)
            if lost is not None:
                raise lost

    def _wake(self) -> None:
        """Make jobs ready whose pause is over, unless a late result has completed them."""
        now = time.monotonic()
        for digest in [digest for digest in self._resting if self._jobs[digest].has_rested(now)]:
            self._resting.discard(digest)
            if self._frontier.state(digest) is NodeState.WAITING:
                self._frontier.again(digest)

    def _begin(self, lease: RunLease, batch: Batch, seat: Seat) -> tuple[list[Task], StoreLost | None]:
        """Store a batch's attempts, without jobs that cannot start; returns early if the store is lost."""
        tasks: list[Task] = []
        for job in batch:
            try:
                attempt = self._store.start_attempt(lease, job.digest, node=seat.node, worker=seat.worker)
            except StoreLost as error:
                return tasks, error
            if isinstance(attempt, NotStarted):
                self._not_started(attempt, job.digest)
                continue
            self._jobs[job.digest].attempt_id, self._jobs[job.digest].node = attempt.id, seat.node
            self._running.add(job.digest)
            self._frontier.started(job.digest)
            base, known = self._base_answers.of(job)
            if known is not None:
                self._inbox.append(Finished(attempt_id=attempt.id, job_digest=job.digest, outcome=known))
                continue
            tasks.append(Task(attempt_id=attempt.id, job=job, suite=self._plan.suite_of(job), base=base))
        return tasks, None

    def _not_started(self, reason: NotStarted, digest: str) -> None:
        if reason is NotStarted.LEASE_LOST:
            raise self._taken_over()
        if reason is NotStarted.RUN_CANCELLED:
            raise self._cancelled()
        # Done, or executed by another run, whose outcome this run will use.
        self._elsewhere.add(digest)
        self._frontier.rest(digest)

    def _take(self, finished: Finished) -> None:
        """Store an attempt's result; only then does the job count as done."""
        digest = finished.job_digest
        state = self._jobs[digest]
        current = state.attempt_id == finished.attempt_id
        if isinstance(finished.outcome, Failure):
            if current:
                self._failed(finished, finished.outcome)
        elif self._store.finish_attempt(finished.attempt_id, finished.outcome) is Acceptance.REFUSED:
            message = self._store.attempts(digest)[-1].message
            state.message = message or "The result does not fit its job."
            self._frontier.failed(digest)
        elif self._frontier.state(digest) is not NodeState.DONE:
            # An outcome that arrives twice, or after another attempt's, counts once.
            self._done(digest, finished.outcome)
        self._reporting.attempt_ended()
        if current:
            state.attempt_id = None
            self._running.discard(digest)
            self._reporting.forget(digest)

    def _done(self, digest: str, outcome: Success) -> None:
        job = self._jobs.job(digest)
        self._frontier.done(digest)
        self._artifacts.built(digest)
        self._artifacts.ended(digest, job)
        self._reporting.finished(job, outcome)
        shutil.rmtree(self._settings.journals / digest, ignore_errors=True)

    def _failed(self, finished: Finished, failure: Failure) -> None:
        digest = finished.job_digest
        state, kind = self._jobs[digest], failure.failure_class
        count = state.failures[kind] + 1
        is_refused = self._instead.takes(state.job, failure)
        will_retry = is_refused or is_retried(kind, count)
        self._store.fail_attempt(finished.attempt_id, failure, will_retry=will_retry)
        state.failures[kind] = count
        self._reporting.failed(kind)
        if not is_refused:  # a note tells of it
            self._reporting.tell_failed(
                FailedAttempt(
                    label=state.label, failure_class=kind, message=failure.message, retried=will_retry
                )
            )
        if self._frontier.state(digest) is not NodeState.RUNNING:
            # A late result of an earlier attempt has been accepted or refused meanwhile.
            return
        if not will_retry:
            state.message = failure.message
            self._frontier.failed(digest)
            self._artifacts.ended(digest, state.job)
            return
        if is_refused:
            self._frontier.rest(digest)
            return
        state.job = as_retried(state.job, failure, count)
        self._rest(digest, pause_s(kind, count))
        self._frontier.rest(digest)

    def _rest(self, digest: str, seconds: float) -> None:
        self._jobs[digest].rest(seconds)
        self._resting.add(digest)

    def _look_elsewhere(self) -> None:
        """Use the outcomes of jobs that another run executes; retry the others later: they may be lost."""
        if not self._elsewhere:
            return
        for digest in self._store.done(self._elsewhere):
            self._elsewhere.discard(digest)
            self._frontier.done(digest)
        if self._elsewhere and not self._running:
            time.sleep(_POLL_S)
        for digest in self._elsewhere:
            self._rest(digest, _ELSEWHERE_S)
        self._elsewhere.clear()

    def _beat(self, lease: RunLease) -> None:
        now = time.monotonic()
        if now - self._last_beat < self._store.lease_s / 10:
            return
        self._last_beat = now
        renewal = self._store.renew(lease, [a for d in self._running if (a := self._jobs[d].attempt_id)])
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
        failed = self._jobs.failed
        return RunSummary(
            run_id=self._run_id,
            done=done,
            cached=self._jobs.cached,
            failed=failed,
            labels={digest: self._jobs[digest].label for digest in failed},
            blocked=self._frontier.count(NodeState.BLOCKED),
            duration_s=time.monotonic() - self._reporting.started,
            notes=self._instead.notes,
        )

    def _report(self, executor: Executor | None = None) -> None:
        """Report the progress, at once without an executor, and end its hung engines; their jobs come back as failures and are retried."""
        hung = self._reporting.update(
            self._frontier,
            self._jobs,
            self._running,
            waits_for=self._waits_for,
            notes=self._instead.notes,
            at_once=executor is None,
        )
        for digest, failure in hung:
            attempt = self._jobs[digest].attempt_id
            if executor is not None and attempt is not None:
                self._reporting.forget(digest)
                executor.give_up(attempt, failure)
