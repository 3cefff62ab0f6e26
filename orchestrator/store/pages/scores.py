"""Queries of the dashboard about candidates and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from evals.scores import PROBE_SUITE
from orchestrator.store.base import StorePart
from orchestrator.store.joins import JOBS_OF_RUNS, job_state, protocols_of
from orchestrator.store.pages.answers import Column, engine_words
from orchestrator.store.records import (
    CandidateRecord,
    JobState,
    Protocol,
)
from orchestrator.store.rows import among, candidate_record
from orchestrator.store.tables import (
    candidate_jobs,
    candidates,
    evaluations,
    jobs,
    protocols,
    run_jobs,
)


class ScoreQuestions(StorePart):
    """Methods of `Pages` for candidates."""

    def columns(self, run_id: str) -> tuple[Column, ...]:
        """The benchmarks of a run in its order."""
        first = sa.func.min(run_jobs.c.position)
        query = (
            sa.select(protocols.c.digest, first)
            .select_from(JOBS_OF_RUNS.join(protocols, protocols.c.digest == jobs.c.protocol_digest))
            .where(run_jobs.c.run_id == run_id)
            .group_by(protocols.c.digest)
            .order_by(first)
        )

        def work(connection: sa.Connection) -> tuple[Column, ...]:
            digests = [row.digest for row in connection.execute(query)]
            specs = protocols_of(connection, digests)
            columns_in_order = [_column(specs[digest]) for digest in digests]
            return tuple(dict.fromkeys(columns_in_order))

        return self._database.read(work)

    def base_of(self, run_id: str) -> CandidateRecord | None:
        """The base candidate of a run, with which the others are compared."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id)
        query = query.order_by(candidates.c.is_base.desc(), candidates.c.position).limit(1)
        return self._database.read(lambda c: _candidate_or_none(c, query))

    def candidate(self, run_id: str, position: int) -> CandidateRecord | None:
        """One candidate of a run."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id, candidates.c.position == position)
        return self._database.read(lambda c: _candidate_or_none(c, query))

    def count_candidates(self, run_id: str) -> int:
        """Number of candidates of a run, including the base."""
        query = sa.select(sa.func.count()).select_from(candidates).where(candidates.c.run_id == run_id)
        return self._database.read(lambda c: c.scalar(query) or 0)

    def candidate_names(self, run_id: str) -> dict[int, str]:
        """Names of all candidates of a run, by position."""
        query = sa.select(candidates.c.position, candidates.c.name).where(candidates.c.run_id == run_id)
        query = query.order_by(candidates.c.position)
        return self._database.read(lambda c: {row.position: row.name for row in c.execute(query)})

    def search_candidates(self, run_id: str, text: str, limit: int = 50) -> tuple[CandidateRecord, ...]:
        """Candidates of a run whose name contains the text, in the run's order."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id)
        if text:
            query = query.where(candidates.c.name.icontains(text, autoescape=True))
        query = query.order_by(candidates.c.position).limit(limit)
        return self._database.read(lambda c: tuple(candidate_record(row) for row in c.execute(query)))

    def column_scores(self, run_id: str, column: Column) -> dict[int, float]:
        """Candidate position to normalized score (of a probe: its value) in one column."""
        return self.scores_in_columns(run_id, (column,))[column]

    def scores_in_columns(self, run_id: str, columns: Sequence[Column]) -> dict[Column, dict[int, float]]:
        """Candidate position to normalized score (of a probe: its value) in each of some columns."""

        def work(connection: sa.Connection) -> dict[Column, dict[int, float]]:
            digests = _protocols_in(connection, run_id, columns)
            scores: dict[Column, dict[int, float]] = {column: {} for column in columns}
            targets = {
                digest: (scores[column], column.suite == PROBE_SUITE) for digest, column in digests.items()
            }
            query = (
                sa.select(
                    candidate_jobs.c.candidate,
                    jobs.c.protocol_digest,
                    evaluations.c.raw,
                    evaluations.c.normalized,
                )
                .select_from(
                    candidate_jobs.join(jobs, jobs.c.digest == candidate_jobs.c.job_digest).join(
                        evaluations, evaluations.c.job_digest == candidate_jobs.c.job_digest
                    )
                )
                .where(
                    candidate_jobs.c.run_id == run_id,
                    among(connection, jobs.c.protocol_digest, set(digests)),
                )
            )
            for position, digest, raw, normalized in connection.execute(query):
                by_position, is_probe = targets[digest]
                by_position[position] = raw if is_probe else normalized
            return scores

        return self._database.read(work)

    def unscored(self, run_id: str, columns: Sequence[Column]) -> frozenset[int]:
        """Positions of the candidates of which an evaluation in one of these columns has failed finally."""
        failed = (
            sa.select(candidate_jobs.c.candidate)
            .select_from(
                JOBS_OF_RUNS.join(protocols, protocols.c.digest == jobs.c.protocol_digest).join(
                    candidate_jobs,
                    (candidate_jobs.c.run_id == run_jobs.c.run_id)
                    & (candidate_jobs.c.job_digest == run_jobs.c.job_digest),
                )
            )
            .where(
                run_jobs.c.run_id == run_id,
                _in_columns(columns),
                job_state(run_id) == JobState.FAILED.value,
            )
        )
        return self._database.read(lambda c: frozenset(c.scalars(failed)))


def _protocols_in(connection: sa.Connection, run_id: str, columns: Sequence[Column]) -> dict[str, Column]:
    """Digests of the protocols of a run that are in these columns, with their column."""
    query = (
        sa.select(protocols.c.digest, protocols.c.suite, protocols.c.benchmark, protocols.c.engine_digest)
        .distinct()
        .select_from(JOBS_OF_RUNS.join(protocols, protocols.c.digest == jobs.c.protocol_digest))
        .where(run_jobs.c.run_id == run_id, _in_columns(columns))
    )
    by_key = {(c.suite, c.benchmark, c.engine_digest): c for c in columns}
    return {
        row.digest: by_key[row.suite, row.benchmark, row.engine_digest] for row in connection.execute(query)
    }


def _in_columns(columns: Sequence[Column]) -> sa.ColumnElement[bool]:
    return sa.or_(
        *(
            (protocols.c.suite == column.suite)
            & (protocols.c.benchmark == column.benchmark)
            & (protocols.c.engine_digest == column.engine_digest)
            for column in columns
        )
    )


def _column(protocol: Protocol) -> Column:
    engine = protocol.engine
    return Column(
        suite=protocol.suite,
        benchmark=protocol.benchmark,
        benchmark_digest=protocol.benchmark_digest,
        engine_digest=engine.digest,
        engine_key=engine.digest_without_length,
        engine=engine_words(protocol),
    )


def _candidate_or_none(connection: sa.Connection, query: sa.Select[Any]) -> CandidateRecord | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else candidate_record(row)
