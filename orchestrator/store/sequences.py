"""The looks at evaluations that may stop early, and what stopping saved."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from evals.early import EarlyEvaluation
from evals.engine import Frozen
from evals.stats.sequence import LookSequence
from orchestrator.display.format import about
from orchestrator.store.base import StorePart
from orchestrator.store.joins import protocols_of
from orchestrator.store.records import EarlyOutcome, Protocol
from orchestrator.store.rows import AnyRow, among, hardware_record, protocol_of, stored_part
from orchestrator.store.tables import (
    candidate_jobs,
    candidates,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    searches,
    sequences,
)


class SequenceRecord(Frozen):
    """The looks at one benchmark of one candidate of a run."""

    run_id: str = Field(description="The run.")
    position: int = Field(description="Position of the candidate in the run.")
    candidate: str = Field(description="Name of the candidate.")
    job_digest: str = Field(description="The evaluation.")
    engine_key: str = Field(description="Digest of its engine without the maximum sequence length.")
    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    title: str = Field(description="Display name of the benchmark.")
    early: bool = Field(description="Whether the evaluation stopped before its end, so that it has no score.")
    n_requests: int = Field(description="Number of requests that were asked.")
    duration_s: float = Field(description="Seconds of the evaluation without the engine's start.")
    sequence: LookSequence = Field(description="The looks and the decision.")


class Savings(Frozen):
    """What early stops of a run saved."""

    comparisons: int = Field(description="Evaluations that could stop early and are done.")
    early: int = Field(description="Of these, evaluations that stopped early.")
    asked: int = Field(description="Documents that they asked.")
    whole: int = Field(description="Documents that they would have asked as wholes.")
    spent_s: float = Field(description="Seconds that they took.")
    saved_s: float = Field(
        description="Estimated seconds that the documents not asked would have taken, at the rate of those of their benchmark."
    )

    @property
    def share(self) -> float:
        """Share of the documents that was not asked."""
        return 1 - self.asked / self.whole if self.whole else 0.0

    @property
    def sentence(self) -> str:
        """What was saved, in one sentence."""
        return (
            f"{self.early} of {self.comparisons} evaluations stopped early, decided: {self.asked:,} of {self.whole:,} documents asked "
            f"({self.share:.0%} saved, {about(self.saved_s) or 'no time'})"
        )


class Sequences(StorePart):
    """Methods of the store for looks and early stops."""

    def sequences(self, run_id: str, *, candidate: int | None = None) -> tuple[SequenceRecord, ...]:
        """The looks at the evaluations of a run, or of one of its candidates, against the base, in the order of its jobs.

        None for a search: its merges are compared with each other, and its own tables tell. Parts of probes that a race asked are not
        among them: they were looked at together (`orchestrator.compare.races`).
        """
        at_candidate = candidate_jobs.c.candidate == candidate if candidate is not None else sa.true()
        query = (
            sa.select(
                sequences,
                candidate_jobs.c.candidate,
                candidates.c.name,
                protocols.c.suite,
                protocols.c.benchmark,
                protocols.c.spec.label("protocol"),
            )
            .select_from(_OF_RUN)
            .where(candidate_jobs.c.run_id == run_id, at_candidate)
            .where(candidate_jobs.c.run_id.not_in(sa.select(searches.c.run_id)))
            .order_by(candidate_jobs.c.candidate, run_jobs.c.position)
        )

        def work(connection: sa.Connection) -> tuple[SequenceRecord, ...]:
            rows = ((row, LookSequence.model_validate_json(row.spec)) for row in connection.execute(query))
            return tuple(
                SequenceRecord(
                    run_id=run_id,
                    position=row.candidate,
                    candidate=row.name,
                    job_digest=row.job_digest,
                    engine_key=protocol_of(row.protocol).engine.digest_without_length,
                    suite=row.suite,
                    benchmark=row.benchmark,
                    title=row.title,
                    early=row.early,
                    n_requests=row.n_requests,
                    duration_s=row.duration_s,
                    sequence=sequence,
                )
                for row, sequence in rows
                if sequence.part is None
            )

        return self._database.read(work)

    def latest_errors(self, limit: int) -> tuple[tuple[str, str, int, float], ...]:
        """Suite, benchmark, number of documents and standard error in points of the last look of the newest sequences."""
        query = (
            sa.select(protocols.c.suite, protocols.c.benchmark, sequences.c.spec)
            .join(jobs, jobs.c.digest == sequences.c.job_digest)
            .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
            .join(outcomes, outcomes.c.job_digest == sequences.c.job_digest)
            .order_by(outcomes.c.accepted_at.desc())
            .limit(limit)
        )

        def work(connection: sa.Connection) -> tuple[tuple[str, str, int, float], ...]:
            read = [
                (row.suite, row.benchmark, LookSequence.model_validate_json(row.spec).last)
                for row in connection.execute(query)
            ]
            return tuple(
                (suite, benchmark, last.n, last.stderr_points)
                for suite, benchmark, last in read
                if last is not None and last.stderr_points is not None
            )

        return self._database.read(work)

    def savings(self, run_id: str) -> Savings | None:
        """What early stops of a run saved so far; None if none of its evaluations could stop early.

        The parts of a probe that a race asks of a path one after another, and the rest, count as one evaluation.
        """
        of_run = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == run_id)
        key = (jobs.c.weights_digest, jobs.c.layer_path, jobs.c.protocol_digest)
        looked = (
            sa.select(*key, sequences.c.n, sequences.c.n_whole, sequences.c.duration_s, sequences.c.title)
            .join(jobs, jobs.c.digest == sequences.c.job_digest)
            .where(sequences.c.job_digest.in_(of_run))
        )
        whole = (
            sa.select(*key, evaluations.c.job_digest, evaluations.c.duration_s, sequences.c.n)
            .select_from(
                evaluations.join(jobs, jobs.c.digest == evaluations.c.job_digest).outerjoin(
                    sequences, sequences.c.job_digest == evaluations.c.job_digest
                )
            )
            .where(evaluations.c.job_digest.in_(of_run))
        )

        def work(connection: sa.Connection) -> tuple[list[AnyRow], list[AnyRow]]:
            rows = list(connection.execute(looked))
            return rows, list(connection.execute(whole)) if rows else []

        rows, wholes = self._database.read(work)
        if not rows:
            return None
        works: dict[tuple[Any, ...], _Work] = {}
        for row in rows:
            works.setdefault(tuple(row[:3]), _Work(row.title, row.n_whole)).add(row.n, row.duration_s)
        for row in wholes:
            if (work_of := works.get(tuple(row[:3]))) is not None:
                work_of.is_whole = True
                work_of.add(work_of.n_whole, row.duration_s if row.n is None else 0.0)
        return _savings(list(works.values()))


@dataclass
class _Work:
    """One evaluation that could stop early: what was asked, in one go or in several."""

    title: str
    n_whole: int
    n: int = 0
    spent_s: float = 0.0
    is_whole: bool = False

    def add(self, n: int, seconds: float) -> None:
        """Add what was asked until `n` documents."""
        self.n = max(self.n, n)
        self.spent_s += seconds


def _savings(works: Sequence[_Work]) -> Savings:
    spent: dict[str, float] = defaultdict(float)
    asked: Counter[str] = Counter()
    for item in works:
        spent[item.title] += item.spent_s
        asked[item.title] += item.n
    return Savings(
        comparisons=len(works),
        early=sum(not item.is_whole for item in works),
        asked=asked.total(),
        whole=sum(item.n_whole for item in works),
        spent_s=sum(spent.values()),
        saved_s=sum((w.n_whole - w.n) * spent[w.title] / asked[w.title] for w in works if asked[w.title]),
    )


_OF_RUN = (
    candidate_jobs.join(
        run_jobs,
        (run_jobs.c.run_id == candidate_jobs.c.run_id)
        & (run_jobs.c.job_digest == candidate_jobs.c.job_digest),
    )
    .join(
        candidates,
        (candidates.c.run_id == candidate_jobs.c.run_id)
        & (candidates.c.position == candidate_jobs.c.candidate),
    )
    .join(sequences, sequences.c.job_digest == candidate_jobs.c.job_digest)
    .join(jobs, jobs.c.digest == candidate_jobs.c.job_digest)
    .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
)


def early_outcomes(connection: sa.Connection, digests: Collection[str]) -> dict[str, EarlyOutcome]:
    """The outcomes of the given jobs that stopped early."""
    query = (
        sa.select(
            sequences,
            jobs.c.protocol_digest,
            outcomes.c.hardware,
            outcomes.c.started_at,
            outcomes.c.ended_at,
        )
        .join(jobs, jobs.c.digest == sequences.c.job_digest)
        .join(outcomes, outcomes.c.job_digest == sequences.c.job_digest)
        .where(sequences.c.early, among(connection, sequences.c.job_digest, digests))
    )
    rows = connection.execute(query).all()
    by_digest = protocols_of(connection, (row.protocol_digest for row in rows))
    return {
        row.job_digest: _early_outcome(row, stored_part(by_digest, row.protocol_digest, "protocol"))
        for row in rows
    }


def looks_of(connection: sa.Connection, digests: Collection[str]) -> dict[str, LookSequence]:
    """The looks at the given evaluations, by job; those that could not stop early are omitted."""
    query = sa.select(sequences.c.job_digest, sequences.c.spec).where(
        among(connection, sequences.c.job_digest, digests)
    )
    return {row.job_digest: LookSequence.model_validate_json(row.spec) for row in connection.execute(query)}


def _early_outcome(row: AnyRow | Any, protocol: Protocol) -> EarlyOutcome:
    return EarlyOutcome(
        early=EarlyEvaluation(
            suite=protocol.suite,
            benchmark=protocol.benchmark,
            title=row.title,
            benchmark_digest=protocol.benchmark_digest,
            engine=protocol.engine,
            settings=protocol.settings,
            sequence=LookSequence.model_validate_json(row.spec),
            n_requests=row.n_requests,
            n_replayed=row.n_replayed,
            duration_s=row.duration_s,
        ),
        hardware=hardware_record(row.hardware),
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
