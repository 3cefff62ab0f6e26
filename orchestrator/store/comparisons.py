"""Comparisons that are kept: one row per base, candidate and engine of a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects import postgresql, sqlite

from evals.engine import Frozen
from evals.scores import PROBE_SUITE
from orchestrator.store.base import StorePart
from orchestrator.store.joins import SCORED, protocols_of
from orchestrator.store.tables import (
    candidate_jobs,
    comparisons,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    runs,
)

_ID = ("run_id", "base", "candidate", "engine_key")


class ScoredCandidate(Frozen):
    """The evaluations of a candidate by one engine so far, without probes."""

    position: int = Field(description="Position of the candidate in its run.")
    engine_key: str = Field(description="Digest of the engine without its maximum sequence length.")
    suites: tuple[str, ...] = Field(description="Names of the suites, in the plan's order.")
    jobs: tuple[str, ...] = Field(description="Digests of the evaluations, in the plan's order.")


class KeptComparison(Frozen):
    """A stored comparison of a candidate with a base of the same run, by one engine."""

    run_id: str = Field(description="The run.")
    base: int = Field(description="Position of the base.")
    candidate: int = Field(description="Position of the candidate.")
    engine_key: str = Field(description="Digest of the engine without its maximum sequence length.")
    key: str = Field(description="Digest of all that the comparison depends on.")
    spec: str = Field(description="The comparison, uncorrected, as JSON.")


class KeptComparisons(StorePart):
    """Methods of the store for kept comparisons."""

    def scored_candidates(self, run_id: str) -> tuple[ScoredCandidate, ...]:
        """The evaluations of every candidate of a run so far, per engine, in the run's order; without probes."""
        query = (
            sa.select(candidate_jobs.c.candidate, jobs.c.digest, jobs.c.protocol_digest)
            .select_from(
                SCORED.join(
                    run_jobs,
                    (run_jobs.c.run_id == candidate_jobs.c.run_id)
                    & (run_jobs.c.job_digest == candidate_jobs.c.job_digest),
                )
            )
            .where(candidate_jobs.c.run_id == run_id, protocols.c.suite != PROBE_SUITE)
            .order_by(candidate_jobs.c.candidate, run_jobs.c.position)
        )

        def work(connection: sa.Connection) -> tuple[ScoredCandidate, ...]:
            rows = connection.execute(query).all()
            specs = protocols_of(connection, {row.protocol_digest for row in rows})
            place = {d: (p.engine.digest_without_length, p.suite) for d, p in specs.items()}
            grouped: dict[tuple[int, str], tuple[dict[str, None], list[str]]] = {}
            for candidate, digest, protocol in rows:
                engine, suite = place[protocol]
                suites, digests = grouped.setdefault((candidate, engine), ({}, []))
                suites[suite] = None
                digests.append(digest)
            return tuple(
                ScoredCandidate.model_construct(
                    position=position, engine_key=engine, suites=tuple(suites), jobs=tuple(digests)
                )
                for (position, engine), (suites, digests) in grouped.items()
            )

        return self._database.read(work)

    def count_evaluations(self, run_id: str) -> int:
        """Number of evaluations of a run's jobs so far: evaluations are never changed, so an equal number means no news."""
        query = (
            sa.select(sa.func.count())
            .select_from(run_jobs.join(evaluations, evaluations.c.job_digest == run_jobs.c.job_digest))
            .where(run_jobs.c.run_id == run_id)
        )
        return self._database.read(lambda c: c.scalar(query) or 0)

    def open_candidates(self, run_id: str) -> frozenset[int]:
        """Positions of the candidates that need a job of the run without an outcome."""
        has_outcome = sa.exists().where(outcomes.c.job_digest == candidate_jobs.c.job_digest)
        query = sa.select(candidate_jobs.c.candidate).distinct()
        query = query.where(candidate_jobs.c.run_id == run_id, ~has_outcome)
        return self._database.read(lambda c: frozenset(c.scalars(query)))

    def kept_keys(self, run_id: str, base: int) -> dict[tuple[int, str], str]:
        """Keys of the kept comparisons with a base, by candidate's position and engine."""
        table = comparisons.c
        query = sa.select(table.candidate, table.engine_key, table.key)
        query = query.where(table.run_id == run_id, table.base == base)
        return self._database.read(
            lambda connection: {(row[0], row[1]): row[2] for row in connection.execute(query)}
        )

    def kept_comparisons(
        self, run_id: str, base: int, candidates: Collection[int] | None = None
    ) -> tuple[KeptComparison, ...]:
        """Kept comparisons with a base, of all candidates or of those at some positions."""
        query = sa.select(comparisons).where(comparisons.c.run_id == run_id, comparisons.c.base == base)
        if candidates is not None:
            query = query.where(comparisons.c.candidate.in_(candidates))
        return self._database.read(
            lambda connection: tuple(
                KeptComparison.model_construct(**row._mapping) for row in connection.execute(query)
            )
        )

    def latest_comparisons(self, limit: int) -> tuple[str, ...]:
        """Kept comparisons of the newest runs as JSON, uncorrected."""
        query = sa.select(comparisons.c.spec).join(runs, runs.c.id == comparisons.c.run_id)
        query = query.order_by(runs.c.created_at.desc(), comparisons.c.candidate).limit(limit)
        return self._database.read(lambda connection: tuple(connection.scalars(query)))

    def keep_comparisons(self, records: Sequence[KeptComparison]) -> None:
        """Store comparisons; each replaces an earlier one of the same pair and engine."""
        rows = [record.model_dump() for record in records]

        def work(connection: sa.Connection) -> None:
            insert = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(comparisons)
            changed = {name: insert.excluded[name] for name in ("key", "spec")}
            connection.execute(insert.on_conflict_do_update(index_elements=_ID, set_=changed), rows)

        if rows:
            self._database.write(work)
