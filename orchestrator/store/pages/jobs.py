"""Queries of the dashboard about jobs."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.store.base import StorePart
from orchestrator.store.joins import (
    candidates_of_job,
    first_candidate,
    job_state,
    jobs_of_candidate,
    planned_jobs,
    protocols_of,
)
from orchestrator.store.pages.answers import JobDetail, JobRow
from orchestrator.store.records import CandidateRecord, JobState
from orchestrator.store.rows import candidate_record, job_of
from orchestrator.store.tables import (
    candidates,
    jobs,
    protocols,
    run_jobs,
    runs,
)


class JobQuestions(StorePart):
    """Methods of `Pages` for jobs."""

    def job_list(
        self,
        run_id: str,
        *,
        state: JobState | None = None,
        position: int | None = None,
        limit: int = 25,
        offset: int = 0,
    ) -> tuple[int, tuple[JobRow, ...]]:
        """Number of a run's jobs in a state, and one page of them in order; optionally of one candidate."""
        state_of_job = job_state(run_id)
        condition = run_jobs.c.run_id == run_id
        if state is not None:
            condition &= state_of_job == state.value
        if position is not None:
            condition &= run_jobs.c.job_digest.in_(jobs_of_candidate(run_id, position))
        matching = sa.select(run_jobs.c.job_digest, run_jobs.c.position).where(condition)
        page = matching.order_by(run_jobs.c.position).limit(limit).offset(offset).subquery()
        query = (
            sa.select(
                jobs.c.digest,
                jobs.c.kind,
                protocols.c.suite,
                protocols.c.benchmark,
                first_candidate(run_jobs.c.run_id, run_jobs.c.job_digest).label("candidate"),
                state_of_job.label("state"),
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
        count = sa.select(sa.func.count()).select_from(run_jobs).where(condition)

        def work(connection: sa.Connection) -> tuple[int, tuple[JobRow, ...]]:
            rows = tuple(JobRow.model_validate(dict(row._mapping)) for row in connection.execute(query).all())
            return connection.scalar(count) or 0, rows

        return self._database.read(work)

    def job_detail(self, digest: str, run_id: str | None = None) -> JobDetail | None:
        """A job as planned by a run, by default the newest that has it; None if there is none."""

        def work(connection: sa.Connection) -> JobDetail | None:
            holders = _runs_with(connection, digest)
            run = run_id if run_id in holders else (holders[0] if holders else None)
            if run is None:
                return None
            row = connection.execute(planned_jobs(run).where(jobs.c.digest == digest)).one()
            protocols_by_digest = protocols_of(connection, [row.protocol_digest])
            return JobDetail(
                run_id=run,
                job=job_of(row, protocols_by_digest),
                candidates=_served(connection, run, digest),
                other_runs=tuple(r for r in holders if r != run),
            )

        return self._database.read(work)


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
    query = candidates_of_job(run_id, digest, candidates).limit(20)
    return tuple(candidate_record(row) for row in connection.execute(query))
