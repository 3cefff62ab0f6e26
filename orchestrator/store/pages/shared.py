"""Pieces of SQL that several questions are made of."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from orchestrator.store.records import (
    Protocol,
)
from orchestrator.store.tables import (
    candidate_jobs,
    candidates,
    jobs,
    protocols,
    run_jobs,
)


def first_candidate(run_id: sa.ColumnElement[str], job_digest: sa.ColumnElement[str]) -> sa.ScalarSelect[Any]:
    """Name of the first candidate of a run that needs a job."""
    return (
        sa.select(candidates.c.name)
        .join(
            candidate_jobs,
            (candidate_jobs.c.run_id == candidates.c.run_id)
            & (candidate_jobs.c.candidate == candidates.c.position),
        )
        .where(candidate_jobs.c.run_id == run_id, candidate_jobs.c.job_digest == job_digest)
        .order_by(candidates.c.position)
        .limit(1)
        .scalar_subquery()
    )


def jobs_of_runs() -> sa.Join:
    """Jobs by way of the runs that have them."""
    return run_jobs.join(jobs, jobs.c.digest == run_jobs.c.job_digest)


def protocols_of(connection: sa.Connection, digests: list[str]) -> dict[str, Protocol]:
    """Protocols by their digests."""
    query = sa.select(protocols.c.digest, protocols.c.spec).where(protocols.c.digest.in_(digests))
    return {row.digest: Protocol.model_validate_json(row.spec) for row in connection.execute(query)}
