"""Attempts: starts and ends. One outcome is accepted per job, from any attempt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from orchestrator.errors import RunError, StoreError
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.ids import new_id
from orchestrator.store.records import (
    Acceptance,
    AttemptRecord,
    AttemptState,
    BuildOutcome,
    EarlyOutcome,
    EvalOutcome,
    Failure,
    FailureClass,
    NotStarted,
    RunLease,
    Success,
)
from orchestrator.store.rows import (
    AnyRow,
    Row,
    attempt_record,
    build_row,
    evaluation_row,
    job_of,
    outcome_row,
    protocol_of,
    score_rows,
    sequence_row,
)
from orchestrator.store.runs import fill, holds
from orchestrator.store.tables import (
    attempts,
    builds,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    runs,
    scores,
    sequences,
)

# Queries per job, built once: SQLAlchemy takes longer to build one than SQLite to execute it.
_DRIVER = (
    sa.select(runs.c.ended_as, runs.c.lease_owner, runs.c.lease_token, runs.c.cancel_requested_at)
    .where(runs.c.id == sa.bindparam("of_run"))
    .with_for_update(read=True)
)
_JOB = (
    sa.select(jobs.c.digest)
    .join(run_jobs, run_jobs.c.job_digest == jobs.c.digest)
    .where(jobs.c.digest == sa.bindparam("of_job"), run_jobs.c.run_id == sa.bindparam("of_run"))
    # Without locking the key: transactions that create runs may refer to the job concurrently.
    .with_for_update(of=jobs, key_share=True)
)
_OUTCOME = sa.select(outcomes.c.attempt_id).where(outcomes.c.job_digest == sa.bindparam("of_job"))
_ATTEMPT = sa.select(attempts).where(attempts.c.id == sa.bindparam("of_attempt"))
_ATTEMPTS = (
    sa.select(attempts).where(attempts.c.job_digest == sa.bindparam("of_job")).with_for_update(of=attempts)
)
_ATTEMPT_AND_JOB = (
    sa.select(
        jobs,
        run_jobs.c.spec,
        run_jobs.c.live_layers,
        protocols.c.spec.label("protocol"),
    )
    .select_from(attempts)
    .join(jobs, jobs.c.digest == attempts.c.job_digest)
    .join(run_jobs, (run_jobs.c.job_digest == jobs.c.digest) & (run_jobs.c.run_id == attempts.c.run_id))
    .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
    .where(attempts.c.id == sa.bindparam("of_attempt"))
    .with_for_update(of=jobs, key_share=True)
)
_CLOSE = attempts.update().where(attempts.c.id == sa.bindparam("of_attempt"))


class Attempts(StorePart):
    """Methods of the store for attempts and their outcomes."""

    def start_attempt(
        self, lease: RunLease, job_digest: str, *, node: str | None = None, worker: str | None = None
    ) -> AttemptRecord | NotStarted:
        """Start an attempt, or return why not: job done, held by a live attempt, or lease of the run lost.

        A running attempt without a heartbeat for `lease_s` counts as lost and is closed.
        """
        attempt_id = new_id()

        def work(connection: sa.Connection) -> AttemptRecord | NotStarted:
            refusal = _may_drive(connection, lease)
            if refusal is not None:
                return refusal
            # Locks the job: its attempts start and finish one at a time.
            if connection.execute(_JOB, {"of_job": job_digest, "of_run": lease.run_id}).one_or_none() is None:
                raise StoreError(f"The run {lease.run_id} has no job {job_digest}.")
            earlier = connection.execute(_ATTEMPTS, {"of_job": job_digest}).all()
            existing = next((row for row in earlier if row.id == attempt_id), None)
            if existing is not None:
                return attempt_record(existing)
            if connection.execute(_OUTCOME, {"of_job": job_digest}).one_or_none() is not None:
                return NotStarted.JOB_DONE
            now = clock(connection)
            if not self._clear(connection, earlier, now):
                return NotStarted.HELD
            values: Row = {
                "id": attempt_id,
                "job_digest": job_digest,
                "run_id": lease.run_id,
                "number": 1 + max((row.number for row in earlier), default=0),
                "state": AttemptState.RUNNING,
                "node": node,
                "worker": worker,
                "started_at": now,
                "heartbeat_at": now,
            }
            fill(connection, attempts, [values])
            empty = dict.fromkeys(("ended_at", "failure_class", "message", "log_tail", "will_retry"))
            return AttemptRecord(**values, **empty)

        return self._database.write(work)

    def finish_attempt(self, attempt_id: str, outcome: Success) -> Acceptance:
        """Store an outcome, its scores and the attempt's end in one transaction.

        The outcome of an attempt that counted as lost is accepted if the job has none. A second outcome of a
        job is not stored. An outcome that contradicts its job is refused, and the attempt fails.
        """

        def work(connection: sa.Connection) -> Acceptance:
            row = connection.execute(_ATTEMPT_AND_JOB, {"of_attempt": attempt_id}).one_or_none()
            if row is None:
                raise _no_attempt(attempt_id)
            now = clock(connection)
            # Read after locking the job: another attempt's outcome may have been stored meanwhile.
            stored = connection.execute(_OUTCOME, {"of_job": row.digest}).one_or_none()
            if stored is not None and stored.attempt_id == attempt_id:
                return Acceptance.ACCEPTED
            node = {"node": outcome.hardware.host, "ended_at": now}
            if stored is not None:
                _close(connection, attempt_id, {"state": AttemptState.SUPERSEDED, **node})
                return Acceptance.ALREADY_THERE
            protocols_by_digest = {row.protocol_digest: protocol_of(row.protocol)} if row.protocol else {}
            contradiction = _contradiction(job_of(row, protocols_by_digest), outcome)
            if contradiction is not None:
                failed = {
                    "state": AttemptState.FAILED,
                    "failure_class": FailureClass.WRONG_RESULT,
                    "message": contradiction,
                }
                _close(connection, attempt_id, {**failed, "will_retry": False, **node})
                return Acceptance.REFUSED
            fill(connection, outcomes, [outcome_row(row.digest, attempt_id, outcome, now)])
            _insert_details(connection, row.digest, outcome)
            no_failure = {"failure_class": None, "message": None, "log_tail": None, "will_retry": None}
            _close(connection, attempt_id, {"state": AttemptState.SUCCEEDED, **no_failure, **node})
            return Acceptance.ACCEPTED

        return self._database.write(work)

    def fail_attempt(self, attempt_id: str, failure: Failure, *, will_retry: bool) -> bool:
        """Record a failure; False if the attempt was closed before, for example as lost."""
        state = (
            AttemptState.CANCELLED if failure.failure_class is FailureClass.CANCELLED else AttemptState.FAILED
        )
        if failure.failure_class is FailureClass.LOST_NODE:
            state = AttemptState.LOST

        def work(connection: sa.Connection) -> bool:
            attempt = connection.execute(_ATTEMPT, {"of_attempt": attempt_id}).one_or_none()
            if attempt is None:
                raise _no_attempt(attempt_id)
            if attempt.state != AttemptState.RUNNING:
                return bool(attempt.state == state and attempt.message == failure.message)
            values: Row = {
                "state": state,
                "ended_at": clock(connection),
                "failure_class": failure.failure_class,
                "message": failure.message,
                "log_tail": failure.log_tail,
                "will_retry": will_retry,
                "node": failure.node or attempt.node,
            }
            _close(connection, attempt_id, values)
            return True

        return self._database.write(work)

    def attempts(self, job_digest: str) -> tuple[AttemptRecord, ...]:
        """All attempts of a job, oldest first."""
        return self._attempts(attempts.c.job_digest == job_digest)

    def running_attempts(self, run_id: str | None = None) -> tuple[AttemptRecord, ...]:
        """Running attempts of one run or of all runs."""
        running = attempts.c.state == AttemptState.RUNNING
        return self._attempts(running if run_id is None else running & (attempts.c.run_id == run_id))

    def failed_attempts(self, run_id: str, *, limit: int = 100, offset: int = 0) -> tuple[AttemptRecord, ...]:
        """Failed and lost attempts of a run, oldest first."""
        failed = attempts.c.state.in_((AttemptState.FAILED, AttemptState.LOST))
        return self._attempts((attempts.c.run_id == run_id) & failed, limit=limit, offset=offset)

    def _attempts(
        self, condition: sa.ColumnElement[bool], *, limit: int | None = None, offset: int = 0
    ) -> tuple[AttemptRecord, ...]:
        query = sa.select(attempts).where(condition).order_by(attempts.c.job_digest, attempts.c.number)
        query = query.limit(limit).offset(offset) if limit is not None else query
        return self._database.read(
            lambda connection: tuple(attempt_record(row) for row in connection.execute(query))
        )

    def _clear(self, connection: sa.Connection, earlier: Sequence[AnyRow], now: datetime) -> bool:
        """Whether no live attempt holds the job; one without heartbeats is closed as lost."""
        row = next((row for row in earlier if row.state == AttemptState.RUNNING), None)
        if row is None:
            return True
        if row.heartbeat_at + timedelta(seconds=self.lease_s) > now:
            return False
        lost = {
            "state": AttemptState.LOST,
            "ended_at": now,
            "message": "Its driver stopped sending heartbeats.",
        }
        _close(connection, row.id, lost)
        return True


def _may_drive(connection: sa.Connection, lease: RunLease) -> NotStarted | None:
    """Why this lease must not start attempts, or None; locks the run's row for the transaction."""
    row = connection.execute(_DRIVER, {"of_run": lease.run_id}).one_or_none()
    if row is None or not holds(row, lease):
        return NotStarted.LEASE_LOST
    return NotStarted.RUN_CANCELLED if row.cancel_requested_at is not None else None


def _no_attempt(attempt_id: str) -> RunError:
    return RunError(f"There is no attempt {attempt_id} in this store.")


def _close(connection: sa.Connection, attempt_id: str, values: Row) -> None:
    connection.execute(_CLOSE, {"of_attempt": attempt_id, **values})


def _contradiction(job: BuildJob | EvalJob, outcome: Success) -> str | None:
    """Why the outcome does not belong to this job, or None."""
    if isinstance(job, BuildJob):
        return (
            None
            if isinstance(outcome, BuildOutcome) and outcome.artifact == job.digest
            else (f"The outcome is not that of the build {job.digest}.")
        )
    if isinstance(outcome, EvalOutcome | EarlyOutcome):
        return outcome.contradiction(job)
    return "A build cannot be the outcome of an evaluation."


def _insert_details(connection: sa.Connection, job_digest: str, outcome: Success) -> None:
    if isinstance(outcome, BuildOutcome):
        fill(connection, builds, [build_row(job_digest, outcome)])
        return
    if isinstance(outcome, EvalOutcome):
        fill(connection, evaluations, [evaluation_row(job_digest, outcome)])
        fill(connection, scores, score_rows(job_digest, outcome.evaluation.scores))
    if (sequence := sequence_row(job_digest, outcome)) is not None:
        fill(connection, sequences, [sequence])
