"""Attempts: starting one, and what becomes of it. An outcome is taken once per job, whoever brings it."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from orchestrator.errors import RunError, StoreError
from orchestrator.jobs import BuildJob, EvalJob
from orchestrator.records import (
    Acceptance,
    AttemptRecord,
    AttemptState,
    BuildOutcome,
    EvalOutcome,
    Failure,
    FailureClass,
    NotStarted,
    Protocol,
    RunLease,
    Success,
    new_id,
)
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.rows import (
    AnyRow,
    Row,
    attempt_record,
    build_row,
    evaluation_row,
    job_of,
    outcome_row,
    score_rows,
)
from orchestrator.store.runs import fill, holds
from orchestrator.tables import (
    attempts,
    builds,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    runs,
    scores,
)


class Attempts(StorePart):
    """The part of the store that is about attempts and their outcomes."""

    def start_attempt(
        self, lease: RunLease, job_digest: str, *, node: str | None = None, worker: str | None = None
    ) -> AttemptRecord | NotStarted:
        """Start an attempt, or say why not: the job is done, another live attempt holds it, or the run is not ours.

        An attempt whose driver has not vouched for it for `lease_s` counts as lost and makes room.
        """
        attempt_id = new_id()

        def work(connection: sa.Connection) -> AttemptRecord | NotStarted:
            refusal = _may_drive(connection, lease)
            if refusal is not None:
                return refusal
            _lock_job(connection, lease.run_id, job_digest)
            known = connection.execute(sa.select(attempts).where(attempts.c.id == attempt_id)).one_or_none()
            if known is not None:
                return attempt_record(known)
            done = sa.select(outcomes.c.job_digest).where(outcomes.c.job_digest == job_digest)
            if connection.execute(done).one_or_none() is not None:
                return NotStarted.JOB_DONE
            if not self._clear(connection, job_digest):
                return NotStarted.HELD
            return _insert(connection, attempt_id, lease.run_id, job_digest, node, worker)

        return self._database.write(work)

    def place_attempt(self, attempt_id: str, *, node: str, worker: str | None = None) -> None:
        """Note where an attempt runs, once that is known."""
        change = attempts.update().where(attempts.c.id == attempt_id).values(node=node, worker=worker)
        self._database.write(lambda connection: connection.execute(change) and None)

    def finish_attempt(self, attempt_id: str, outcome: Success) -> Acceptance:
        """Take an outcome: it, its scores and the attempt's end in one transaction.

        The outcome of an attempt that was thought dead is taken if the job has none. A second outcome of a job is
        not stored. An outcome that contradicts its job is refused and the attempt fails with the reason.
        """

        def work(connection: sa.Connection) -> Acceptance:
            attempt = _attempt(connection, attempt_id)
            _lock_job(connection, attempt.run_id, attempt.job_digest)
            now = clock(connection)
            there = connection.execute(
                sa.select(outcomes.c.attempt_id).where(outcomes.c.job_digest == attempt.job_digest)
            ).one_or_none()
            if there is not None and there.attempt_id == attempt_id:
                return Acceptance.ACCEPTED
            node = {"node": outcome.hardware.host, "ended_at": now}
            if there is not None:
                _close(connection, attempt_id, {"state": AttemptState.SUPERSEDED, **node})
                return Acceptance.ALREADY_THERE
            wrong = _contradiction(_job(connection, attempt.run_id, attempt.job_digest), outcome)
            if wrong is not None:
                failed = {
                    "state": AttemptState.FAILED,
                    "failure_class": FailureClass.WRONG_RESULT,
                    "message": wrong,
                }
                _close(connection, attempt_id, {**failed, "will_retry": False, **node})
                return Acceptance.REFUSED
            fill(connection, outcomes, [outcome_row(attempt.job_digest, attempt_id, outcome, now)])
            _insert_details(connection, attempt.job_digest, outcome)
            nothing_wrong = {"failure_class": None, "message": None, "log_tail": None, "will_retry": None}
            _close(connection, attempt_id, {"state": AttemptState.SUCCEEDED, **nothing_wrong, **node})
            return Acceptance.ACCEPTED

        return self._database.write(work)

    def fail_attempt(self, attempt_id: str, failure: Failure, *, will_retry: bool) -> bool:
        """Note a failure; False where the attempt had been closed before, for example as lost."""
        state = (
            AttemptState.CANCELLED if failure.failure_class is FailureClass.CANCELLED else AttemptState.FAILED
        )
        if failure.failure_class is FailureClass.LOST_NODE:
            state = AttemptState.LOST

        def work(connection: sa.Connection) -> bool:
            attempt = _attempt(connection, attempt_id)
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
        """All attempts at a job, first to last."""
        return self._attempts(attempts.c.job_digest == job_digest)

    def running_attempts(self, run_id: str | None = None) -> tuple[AttemptRecord, ...]:
        """Attempts that are running, of one run or of all."""
        running = attempts.c.state == AttemptState.RUNNING
        return self._attempts(running if run_id is None else running & (attempts.c.run_id == run_id))

    def failed_attempts(self, run_id: str, *, limit: int = 100, offset: int = 0) -> tuple[AttemptRecord, ...]:
        """Attempts of a run that failed or were lost, first to last."""
        bad = attempts.c.state.in_((AttemptState.FAILED, AttemptState.LOST))
        return self._attempts((attempts.c.run_id == run_id) & bad, limit=limit, offset=offset)

    def _attempts(
        self, which: sa.ColumnElement[bool], *, limit: int | None = None, offset: int = 0
    ) -> tuple[AttemptRecord, ...]:
        query = sa.select(attempts).where(which).order_by(attempts.c.job_digest, attempts.c.number)
        query = query.limit(limit).offset(offset) if limit is not None else query
        return self._database.read(
            lambda connection: tuple(attempt_record(row) for row in connection.execute(query))
        )

    def _clear(self, connection: sa.Connection, job_digest: str) -> bool:
        """Whether no live attempt holds the job; one that nobody vouches for is closed as lost."""
        held = (attempts.c.job_digest == job_digest) & (attempts.c.state == AttemptState.RUNNING)
        row = connection.execute(sa.select(attempts).where(held).with_for_update()).one_or_none()
        if row is None:
            return True
        now = clock(connection)
        if row.heartbeat_at + timedelta(seconds=self.lease_s) > now:
            return False
        lost = {"state": AttemptState.LOST, "ended_at": now, "message": "Nobody vouched for it any more."}
        _close(connection, row.id, lost)
        return True


def _may_drive(connection: sa.Connection, lease: RunLease) -> NotStarted | None:
    """Why this lease must not start anything; the run's row stays as it is until the transaction ends."""
    query = sa.select(runs.c.ended_as, runs.c.lease_owner, runs.c.lease_token, runs.c.cancel_requested_at)
    row = connection.execute(query.where(runs.c.id == lease.run_id).with_for_update(read=True)).one_or_none()
    if row is None or not holds(row, lease):
        return NotStarted.LEASE_LOST
    return NotStarted.RUN_CANCELLED if row.cancel_requested_at is not None else None


def _lock_job(connection: sa.Connection, run_id: str, job_digest: str) -> None:
    """Starting and finishing a job's attempts is one at a time."""
    query = (
        sa.select(jobs.c.digest)
        .join(run_jobs, run_jobs.c.job_digest == jobs.c.digest)
        .where(jobs.c.digest == job_digest, run_jobs.c.run_id == run_id)
        # Not the key: runs that are being written down refer to the job meanwhile.
        .with_for_update(of=jobs, key_share=True)
    )
    if connection.execute(query).one_or_none() is None:
        raise StoreError(f"The run {run_id} has no job {job_digest}.")


def _job(connection: sa.Connection, run_id: str, job_digest: str) -> BuildJob | EvalJob:
    """The job, locked before, as the run wants it."""
    query = (
        sa.select(jobs, run_jobs.c.spec, run_jobs.c.live_layers, protocols.c.spec.label("protocol"))
        .join(run_jobs, run_jobs.c.job_digest == jobs.c.digest)
        .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
        .where(jobs.c.digest == job_digest, run_jobs.c.run_id == run_id)
    )
    row = connection.execute(query).one()
    known = {row.protocol_digest: Protocol.model_validate_json(row.protocol)} if row.protocol else {}
    return job_of(row, known)


def _attempt(connection: sa.Connection, attempt_id: str) -> AnyRow:
    row = connection.execute(sa.select(attempts).where(attempts.c.id == attempt_id)).one_or_none()
    if row is None:
        raise RunError(f"There is no attempt {attempt_id} in this store.")
    return row


def _insert(
    connection: sa.Connection,
    attempt_id: str,
    run_id: str,
    job_digest: str,
    node: str | None,
    worker: str | None,
) -> AttemptRecord:
    now = clock(connection)
    last = connection.scalar(
        sa.select(sa.func.max(attempts.c.number)).where(attempts.c.job_digest == job_digest)
    )
    values: Row = {
        "id": attempt_id,
        "job_digest": job_digest,
        "run_id": run_id,
        "number": (last or 0) + 1,
        "state": AttemptState.RUNNING,
        "node": node,
        "worker": worker,
        "started_at": now,
        "heartbeat_at": now,
    }
    nothing = dict.fromkeys(("ended_at", "failure_class", "message", "log_tail", "will_retry"))
    connection.execute(attempts.insert(), values)
    return AttemptRecord(**values, **nothing)


def _close(connection: sa.Connection, attempt_id: str, values: Row) -> None:
    connection.execute(attempts.update().where(attempts.c.id == attempt_id).values(values))


def _contradiction(job: BuildJob | EvalJob, outcome: Success) -> str | None:
    """Why the outcome cannot be this job's, or None."""
    if isinstance(job, BuildJob):
        return (
            None
            if isinstance(outcome, BuildOutcome) and outcome.artifact == job.digest
            else (f"The outcome is not that of the build {job.digest}.")
        )
    if isinstance(outcome, EvalOutcome):
        return outcome.contradiction(job)
    return "A build cannot be the outcome of an evaluation."


def _insert_details(connection: sa.Connection, job_digest: str, outcome: Success) -> None:
    if isinstance(outcome, BuildOutcome):
        fill(connection, builds, [build_row(job_digest, outcome)])
        return
    fill(connection, evaluations, [evaluation_row(job_digest, outcome)])
    fill(connection, scores, score_rows(job_digest, outcome.evaluation.scores))
