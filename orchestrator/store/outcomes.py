"""Outcomes of jobs: completion, builds, evaluations and scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from evals.scores import Evaluation, Score
from evals.stats.sequence import LookSequence
from orchestrator.store.base import StorePart
from orchestrator.store.joins import (
    EVALUATED,
    EVALUATION_COLUMNS,
    jobs_of_candidate,
    planned_jobs,
    protocols_of,
)
from orchestrator.store.leaderboard import EvaluationRecord
from orchestrator.store.records import BuildOutcome, EvalOutcome, PlannedJob, Protocol, Success
from orchestrator.store.rows import (
    AnyRow,
    among,
    benchmark_score,
    evaluation_record,
    hardware_record,
    job_of,
    score_record,
    stored_part,
)
from orchestrator.store.sequences import early_outcomes, looks_of
from orchestrator.store.tables import (
    builds,
    candidate_jobs,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    scores,
)


class Results(StorePart):
    """Methods of the store for outcomes."""

    def done(self, digests: Iterable[str]) -> frozenset[str]:
        """Those of the given jobs that have an outcome."""
        job_digests = list(digests)

        def work(connection: sa.Connection) -> frozenset[str]:
            is_given = among(connection, outcomes.c.job_digest, job_digests)
            return frozenset(connection.scalars(sa.select(outcomes.c.job_digest).where(is_given)))

        return self._database.read(work)

    def evaluated(self, run_id: str | None = None) -> tuple[str, ...]:
        """Sorted digests of all stored evaluations, or of those that one run needs."""
        query = sa.select(evaluations.c.job_digest).order_by(evaluations.c.job_digest)
        if run_id is not None:
            jobs_of_run = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == run_id)
            query = query.where(evaluations.c.job_digest.in_(jobs_of_run))
        return self._database.read(lambda connection: tuple(connection.scalars(query)))

    def outcomes(self, digests: Iterable[str]) -> dict[str, Success]:
        """The outcomes of the given jobs, by digest; jobs without one are omitted."""
        job_digests = list(digests)

        def work(connection: sa.Connection) -> dict[str, Success]:
            early = early_outcomes(connection, job_digests)
            return _builds(connection, job_digests) | _evaluations(connection, job_digests) | early

        return self._database.read(work)

    def forget_builds(self, digests: Iterable[str]) -> int:
        """Delete the outcomes of builds with evicted artifacts, so that they run again; returns the count."""
        job_digests = list(digests)

        def work(connection: sa.Connection) -> int:
            built = sa.select(builds.c.job_digest).where(among(connection, builds.c.job_digest, job_digests))
            forgotten = connection.scalars(built).all()
            connection.execute(builds.delete().where(among(connection, builds.c.job_digest, forgotten)))
            return connection.execute(
                outcomes.delete().where(among(connection, outcomes.c.job_digest, forgotten))
            ).rowcount

        return self._database.write(work)

    def run_jobs(self, run_id: str, *, candidate: int | None = None) -> tuple[PlannedJob, ...]:
        """The planned jobs of a run in its order, or of its candidate at one position."""

        def work(connection: sa.Connection) -> tuple[PlannedJob, ...]:
            served: dict[str, list[int]] = {}
            pairs = sa.select(candidate_jobs.c.job_digest, candidate_jobs.c.candidate)
            pairs = pairs.where(candidate_jobs.c.run_id == run_id)
            planned = planned_jobs(run_id)
            if candidate is not None:
                candidate_digests = jobs_of_candidate(run_id, candidate)
                pairs = pairs.where(candidate_jobs.c.job_digest.in_(candidate_digests))
                planned = planned.where(run_jobs.c.job_digest.in_(candidate_digests))
            for digest, position in connection.execute(pairs):
                served.setdefault(digest, []).append(position)
            rows = connection.execute(planned.order_by(run_jobs.c.position)).all()
            by_digest = protocols_of(connection, (row.protocol_digest for row in rows))
            return tuple(
                PlannedJob(job=job_of(row, by_digest), candidates=tuple(sorted(served.get(row.digest, ()))))
                for row in rows
            )

        return self._database.read(work)

    def protocols(self, digests: Iterable[str]) -> dict[str, Protocol]:
        """Protocols by their digests; unknown ones are omitted."""
        protocol_digests = set(digests)
        return self._database.read(lambda connection: protocols_of(connection, protocol_digests))

    def evaluations(self, digests: Iterable[str]) -> dict[str, EvaluationRecord]:
        """Evaluations of the given jobs, sorted by digest, without subset scores."""
        job_digests = list(digests)

        def work(connection: sa.Connection) -> dict[str, EvaluationRecord]:
            query = sa.select(*EVALUATION_COLUMNS).select_from(EVALUATED)
            query = query.where(among(connection, evaluations.c.job_digest, job_digests))
            query = query.order_by(evaluations.c.job_digest)
            return {row.job_digest: evaluation_record(row) for row in connection.execute(query)}

        return self._database.read(work)

    def scores(self, digests: Iterable[str]) -> dict[str, tuple[Score, ...]]:
        """The subset scores of the given evaluation jobs, by digest."""
        job_digests = list(digests)
        return self._database.read(lambda connection: _scores(connection, job_digests))


def _scores(connection: sa.Connection, digests: list[str]) -> dict[str, tuple[Score, ...]]:
    query = (
        sa.select(scores, protocols.c.benchmark)
        .join(jobs, jobs.c.digest == scores.c.job_digest)
        .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
        .where(among(connection, scores.c.job_digest, digests))
        .order_by(scores.c.job_digest, scores.c.position)
    )
    scores_by_job: dict[str, list[Score]] = {}
    for row in connection.execute(query):
        scores_by_job.setdefault(row.job_digest, []).append(score_record(row, row.benchmark))
    return {digest: tuple(job_scores) for digest, job_scores in scores_by_job.items()}


def _builds(connection: sa.Connection, digests: list[str]) -> dict[str, Success]:
    query = sa.select(builds, *_common()).join(outcomes, outcomes.c.job_digest == builds.c.job_digest)
    return {
        row.job_digest: BuildOutcome(
            artifact=row.job_digest,
            path=row.path,
            size_bytes=row.size_bytes,
            parameters=row.parameters,
            layers=row.layers,
            **_shared(row),
        )
        for row in connection.execute(query.where(among(connection, builds.c.job_digest, digests)))
    }


def _evaluations(connection: sa.Connection, digests: list[str]) -> dict[str, Success]:
    query = sa.select(*EVALUATION_COLUMNS, outcomes.c.started_at).select_from(EVALUATED)
    rows = connection.execute(query.where(among(connection, evaluations.c.job_digest, digests))).all()
    details = _scores(connection, [row.job_digest for row in rows])
    protocols_by_digest = protocols_of(connection, (row.protocol_digest for row in rows))
    looks = looks_of(connection, [row.job_digest for row in rows])
    return {
        row.job_digest: _eval_outcome(
            row,
            looks.get(row.job_digest),
            stored_part(protocols_by_digest, row.protocol_digest, "protocol"),
            stored_part(details, row.job_digest, "scores"),
        )
        for row in rows
    }


def _eval_outcome(
    row: AnyRow, looks: LookSequence | None, protocol: Protocol, details: tuple[Score, ...]
) -> EvalOutcome:
    evaluation = Evaluation(
        suite=protocol.suite,
        benchmark_digest=protocol.benchmark_digest,
        engine=protocol.engine,
        settings=protocol.settings,
        scores=details,
        result=benchmark_score(row),
        n_requests=row.n_requests,
        n_replayed=row.n_replayed,
        duration_s=row.duration_s,
    )
    return EvalOutcome(
        evaluation=evaluation,
        samples_path=row.samples_path,
        samples_sha256=row.samples_sha256,
        sequence=looks,
        **_shared(row),
    )


def _common() -> tuple[sa.Column[Any], ...]:
    return (outcomes.c.hardware, outcomes.c.started_at, outcomes.c.ended_at)


def _shared(row: AnyRow) -> dict[str, Any]:
    """The fields of both kinds of outcome."""
    return {
        "hardware": hardware_record(row.hardware),
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }
