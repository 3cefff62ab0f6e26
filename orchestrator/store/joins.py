"""SQL expressions that several queries of the store share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from orchestrator.store.records import AttemptState, JobState, Protocol
from orchestrator.store.rows import among, protocol_of
from orchestrator.store.tables import (
    attempts,
    candidate_jobs,
    candidates,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
)

EVALUATION_COLUMNS = (
    *evaluations.c,
    jobs.c.weights_digest,
    jobs.c.layer_path,
    jobs.c.protocol_digest,
    protocols.c.engine_digest,
    protocols.c.suite,
    protocols.c.benchmark,
    outcomes.c.hardware,
    outcomes.c.ended_at,
)
EVALUATED = (
    evaluations.join(jobs, jobs.c.digest == evaluations.c.job_digest)
    .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
    .join(outcomes, outcomes.c.job_digest == evaluations.c.job_digest)
)
"""Evaluations with their jobs, protocols and outcomes; `EVALUATION_COLUMNS` are what a record of one takes."""
JOBS_OF_RUNS = run_jobs.join(jobs, jobs.c.digest == run_jobs.c.job_digest)
"""Jobs joined with their runs."""
SCORED = (
    candidate_jobs.join(jobs, jobs.c.digest == candidate_jobs.c.job_digest)
    .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
    .join(evaluations, evaluations.c.job_digest == jobs.c.digest)
)
"""Evaluations joined with the candidates that need them."""
IS_DONE = sa.exists().where(outcomes.c.job_digest == run_jobs.c.job_digest)
"""Whether a run's job has an outcome. With IN, SQLite would scan the outcomes of all runs."""


def job_state(run_id: str) -> sa.ColumnElement[str]:
    """The `JobState` of a run's job, as an SQL expression; the only definition."""
    attempts_at_it = attempts.c.job_digest == run_jobs.c.job_digest
    last_has_failed = (
        sa.select(attempts.c.will_retry.is_(sa.false()))
        .where(attempts_at_it, attempts.c.run_id == run_id)
        .order_by(attempts.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    is_running = sa.exists().where(attempts_at_it, attempts.c.state == AttemptState.RUNNING)
    return sa.case(
        (IS_DONE, JobState.DONE.value),
        (is_running, JobState.RUNNING.value),
        (last_has_failed, JobState.FAILED.value),
        else_=JobState.WAITING.value,
    )


def planned_jobs(run_id: str) -> sa.Select[Any]:
    """The jobs of a run with its part of each, as rows for `rows.job_of`."""
    return (
        sa.select(jobs, run_jobs.c.spec, run_jobs.c.live_layers)
        .select_from(JOBS_OF_RUNS)
        .where(run_jobs.c.run_id == run_id)
    )


def jobs_of_candidate(run_id: str, position: int) -> sa.Select[tuple[str]]:
    """Digests of the jobs that a candidate of a run needs."""
    return sa.select(candidate_jobs.c.job_digest).where(
        candidate_jobs.c.run_id == run_id, candidate_jobs.c.candidate == position
    )


def candidates_of_job(run_id: sa.ColumnElement[str] | str, job_digest: Any, *columns: Any) -> sa.Select[Any]:
    """These columns of the candidates of a run that need a job, in the run's order."""
    needed = (candidate_jobs.c.run_id == candidates.c.run_id) & (
        candidate_jobs.c.candidate == candidates.c.position
    )
    return (
        sa.select(*columns)
        .join_from(candidates, candidate_jobs, needed)
        .where(candidate_jobs.c.run_id == run_id, candidate_jobs.c.job_digest == job_digest)
        .order_by(candidates.c.position)
    )


def first_candidate(run_id: sa.ColumnElement[str], job_digest: sa.ColumnElement[str]) -> sa.ScalarSelect[Any]:
    """Name of the first candidate of a run that needs a job."""
    return candidates_of_job(run_id, job_digest, candidates.c.name).limit(1).scalar_subquery()


def first_candidates(connection: sa.Connection, run_id: str, digests: Iterable[str]) -> dict[str, str]:
    """Name of the first candidate of a run that needs each of these jobs, by the job's digest.

    For many jobs at once: `first_candidate` looks through the run's candidates for each of them.
    """
    first = (
        sa.select(candidate_jobs.c.job_digest, sa.func.min(candidate_jobs.c.candidate).label("position"))
        .where(candidate_jobs.c.run_id == run_id, among(connection, candidate_jobs.c.job_digest, digests))
        .group_by(candidate_jobs.c.job_digest)
        .subquery()
    )
    query = sa.select(first.c.job_digest, candidates.c.name).join_from(
        first, candidates, (candidates.c.run_id == run_id) & (candidates.c.position == first.c.position)
    )
    return {row.job_digest: row.name for row in connection.execute(query)}


def protocols_of(connection: sa.Connection, digests: Iterable[str | None]) -> dict[str, Protocol]:
    """Protocols by their digests; unknown digests and None are omitted."""
    protocol_digests = {digest for digest in digests if digest is not None}
    query = sa.select(protocols.c.digest, protocols.c.spec).where(
        among(connection, protocols.c.digest, protocol_digests)
    )
    return {row.digest: protocol_of(row.spec) for row in connection.execute(query)}
