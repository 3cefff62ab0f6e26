"""Questions about jobs."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.base import StorePart
from orchestrator.store.pages.records import JobDetail, JobRow, JobState
from orchestrator.store.pages.shared import first_candidate, protocols_of
from orchestrator.store.records import (
    AttemptState,
    CandidateRecord,
)
from orchestrator.store.rows import candidate_record, job_of
from orchestrator.store.tables import (
    attempts,
    candidate_jobs,
    candidates,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    runs,
)


class JobQuestions(StorePart):
    """The part of `Pages` that is about jobs."""

    def job_list(
        self,
        run_id: str,
        *,
        state: JobState | None = None,
        position: int | None = None,
        limit: int = 25,
        offset: int = 0,
    ) -> tuple[int, tuple[JobRow, ...]]:
        """How many jobs of a run stand so, and a part of them in the run's order; of one candidate, where given."""
        stands = _stands(run_id)
        which = run_jobs.c.run_id == run_id
        if state is not None:
            which &= stands == state.value
        if position is not None:
            which &= run_jobs.c.job_digest.in_(
                sa.select(candidate_jobs.c.job_digest).where(
                    candidate_jobs.c.run_id == run_id, candidate_jobs.c.candidate == position
                )
            )
        found = sa.select(run_jobs.c.job_digest, run_jobs.c.position).where(which)
        page = found.order_by(run_jobs.c.position).limit(limit).offset(offset).subquery()
        query = (
            sa.select(
                jobs.c.digest,
                jobs.c.kind,
                protocols.c.suite,
                protocols.c.benchmark,
                first_candidate(run_jobs.c.run_id, run_jobs.c.job_digest).label("candidate"),
                stands.label("state"),
            )
            .select_from(
                page.join(
                    run_jobs, (run_jobs.c.run_id == run_id) & (run_jobs.c.job_digest == page.c.job_digest)
                )
                .join(jobs, jobs.c.digest == page.c.job_digest)
                .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
            )
            .order_by(page.c.position)
        )
        count = sa.select(sa.func.count()).select_from(run_jobs).where(which)

        def work(connection: sa.Connection) -> tuple[int, tuple[JobRow, ...]]:
            rows = tuple(JobRow.model_validate(dict(row._mapping)) for row in connection.execute(query).all())
            return connection.scalar(count) or 0, rows

        return self._database.read(work)

    def job_detail(self, digest: str, run_id: str | None = None) -> JobDetail | None:
        """A job as a run wants it; without a run, as the newest one that has it does."""

        def work(connection: sa.Connection) -> JobDetail | None:
            holders = _runs_with(connection, digest)
            run = run_id if run_id in holders else (holders[0] if holders else None)
            if run is None:
                return None
            mine = sa.select(jobs, run_jobs.c.spec, run_jobs.c.live_layers).join(
                run_jobs, run_jobs.c.job_digest == jobs.c.digest
            )
            row = connection.execute(mine.where(jobs.c.digest == digest, run_jobs.c.run_id == run)).one()
            known = protocols_of(connection, [row.protocol_digest] if row.protocol_digest else [])
            return JobDetail(
                run_id=run,
                job=job_of(row, known),
                candidates=_served(connection, run, digest),
                other_runs=tuple(r for r in holders if r != run),
            )

        return self._database.read(work)


def _stands(run_id: str) -> sa.ColumnElement[str]:
    """The state of a run's job, as `Store.progress` counts it."""
    mine = attempts.c.job_digest == run_jobs.c.job_digest
    last = (
        sa.select(attempts.c.will_retry.is_(sa.false()))
        .where(mine, attempts.c.run_id == run_id)
        .order_by(attempts.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    return sa.case(
        (sa.exists().where(outcomes.c.job_digest == run_jobs.c.job_digest), JobState.DONE.value),
        (sa.exists().where(mine, attempts.c.state == AttemptState.RUNNING), JobState.RUNNING.value),
        (last, JobState.FAILED.value),
        else_=JobState.WAITING.value,
    )


def _runs_with(connection: sa.Connection, digest: str) -> list[str]:
    query = (
        sa.select(runs.c.id)
        .join(run_jobs, run_jobs.c.run_id == runs.c.id)
        .where(run_jobs.c.job_digest == digest)
        .order_by(runs.c.created_at.desc())
        .limit(20)
    )
    return list(connection.scalars(query))


def _served(connection: sa.Connection, run_id: str, digest: str) -> tuple[CandidateRecord, ...]:
    query = (
        sa.select(candidates)
        .join(
            candidate_jobs,
            (candidate_jobs.c.run_id == candidates.c.run_id)
            & (candidate_jobs.c.candidate == candidates.c.position),
        )
        .where(candidate_jobs.c.run_id == run_id, candidate_jobs.c.job_digest == digest)
        .order_by(candidates.c.position)
        .limit(20)
    )
    return tuple(candidate_record(row) for row in connection.execute(query))
