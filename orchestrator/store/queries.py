"""Queries for tables, cards and pages. Their cost is proportional to their result or to one run."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from evals.scores import PROBE_SUITE
from orchestrator.errors import RunError
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.joins import EVALUATED, EVALUATION_COLUMNS, SCORED, job_state
from orchestrator.store.leaderboard import CandidateScores, LeaderboardPage, LeaderboardQuery, SortKey
from orchestrator.store.records import (
    CandidateInRun,
    CandidateRecord,
    FailureClass,
    FailureCount,
    JobCounts,
    JobState,
    Usage,
)
from orchestrator.store.rows import candidate_record, evaluation_record, hardware_record, protocol_of
from orchestrator.store.tables import (
    attempts,
    candidate_jobs,
    candidates,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    runs,
)

_SHOWN_RUNS = 5
"""Most runs that are named if a prefix matches several."""


class Queries(StorePart):
    """Methods of the store for queries over many rows."""

    def progress(self, run_id: str) -> JobCounts:
        """Number of jobs of a run by state."""

        def work(connection: sa.Connection) -> JobCounts:
            state = job_state(run_id).label("state")
            query = sa.select(state, sa.func.count()).select_from(run_jobs).where(run_jobs.c.run_id == run_id)
            counts = {JobState(row[0]): row[1] for row in connection.execute(query.group_by(state))}
            return JobCounts(
                run_id=run_id,
                total=sum(counts.values()),
                done=counts.get(JobState.DONE, 0),
                running=counts.get(JobState.RUNNING, 0),
                failed=counts.get(JobState.FAILED, 0),
            )

        return self._database.read(work)

    def usage(self, run_id: str) -> tuple[Usage, ...]:
        """Time and GPU time of a run by node, the busiest first."""
        spec, hardware = protocols.c.spec.label("protocol"), outcomes.c.hardware
        query = (
            sa.select(
                attempts.c.node,
                attempts.c.worker,
                attempts.c.id,
                attempts.c.started_at,
                attempts.c.ended_at,
                jobs.c.protocol_digest,
            )
            .join(jobs, jobs.c.digest == attempts.c.job_digest)
            .where(attempts.c.run_id == run_id)
            .order_by(attempts.c.started_at)
        )
        used = sa.select(run_jobs.c.job_digest).where(run_jobs.c.run_id == run_id)
        specs = sa.select(protocols.c.digest, spec).where(
            protocols.c.digest.in_(sa.select(jobs.c.protocol_digest).where(jobs.c.digest.in_(used)))
        )
        machines = sa.select(hardware).where(outcomes.c.job_digest.in_(used)).distinct()

        def work(connection: sa.Connection) -> tuple[Usage, ...]:
            now = clock(connection)
            gpus = {
                row.digest: protocol_of(row.protocol).engine.tensor_parallel
                for row in connection.execute(specs)
            }
            has_gpus = {m.host for m in map(hardware_record, connection.scalars(machines)) if m.gpus}
            by_node: dict[str | None, tuple[int, float, float]] = {}
            served: dict[str, datetime] = {}
            for node, worker, attempt, started, ended, protocol in connection.execute(query):
                # Attempts of one batch overlap on their engine: count its time once.
                begun = max(started, served.get(worker or attempt, started))
                seconds = max(0.0, ((ended or now) - begun).total_seconds())
                served[worker or attempt] = max(begun, ended or now)
                gpus_held = gpus.get(protocol, 0) if node in has_gpus else 0
                count, job_s, gpu_s = by_node.get(node, (0, 0.0, 0.0))
                by_node[node] = (count + 1, job_s + seconds, gpu_s + gpus_held * seconds)
            order = sorted(by_node.items(), key=lambda item: -item[1][1])
            return tuple(Usage(node=n, attempts=c, job_s=j, gpu_s=g) for n, (c, j, g) in order)

        return self._database.read(work)

    def failures(self, run_id: str) -> tuple[FailureCount, ...]:
        """Number of failed attempts of a run by failure class, most frequent first."""
        kind, count = attempts.c.failure_class, sa.func.count().label("count")
        query = sa.select(kind, count).where(attempts.c.run_id == run_id, kind.is_not(None)).group_by(kind)
        query = query.order_by(count.desc(), kind)
        return self._database.read(
            lambda connection: tuple(
                FailureCount(failure_class=FailureClass(row[0]), count=row[1])
                for row in connection.execute(query)
            )
        )

    def candidates(self, run_id: str) -> tuple[CandidateRecord, ...]:
        """The candidates of a run, in the sweep's order."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id).order_by(candidates.c.position)
        return self._database.read(
            lambda connection: tuple(candidate_record(row) for row in connection.execute(query))
        )

    def find_run(self, text: str) -> str:
        """Id of the run with this id or unique prefix; RunError if none or several match."""
        query = (
            sa.select(runs.c.id)
            .where(runs.c.id.startswith(text, autoescape=True))
            .order_by(runs.c.id != text, runs.c.created_at.desc(), runs.c.id)
            .limit(_SHOWN_RUNS + 1)
        )
        rows = self._database.read(lambda connection: connection.scalars(query).all())
        ids = [str(row) for row in rows if str(row).startswith(text)]  # SQLite's LIKE ignores case
        if text and text in ids:
            return text
        if not text or not ids:
            raise RunError(f"There is no run {text!r} in the store; `mergeboard status` lists the runs.")
        if len(ids) > 1:
            shown = ", ".join(ids[:_SHOWN_RUNS]) + (", ..." if len(ids) > _SHOWN_RUNS else "")
            raise RunError(f"Several runs begin with {text!r}: {shown}; give more of the id.")
        return ids[0]

    def find_candidates(
        self, text: str, *, run_id: str | None = None, scored: bool = False, limit: int = 20
    ) -> tuple[CandidateInRun, ...]:
        """Candidates with this name or weights digest, newest runs first; optionally of one run.

        With `scored`, only those with a benchmark score; probes do not count.
        """
        query = (
            sa.select(candidates, runs.c.name.label("run_name"))
            .join(runs, runs.c.id == candidates.c.run_id)
            .where(sa.or_(candidates.c.name == text, candidates.c.weights_digest == text))
            .order_by(runs.c.created_at.desc(), runs.c.id.desc(), candidates.c.position)
            .limit(limit)
        )
        if run_id is not None:
            query = query.where(candidates.c.run_id == run_id)
        if scored:
            of_candidate = (candidate_jobs.c.run_id == candidates.c.run_id) & (
                candidate_jobs.c.candidate == candidates.c.position
            )
            query = query.where(
                sa.exists().select_from(SCORED).where(of_candidate, protocols.c.suite != PROBE_SUITE)
            )

        def work(connection: sa.Connection) -> tuple[CandidateInRun, ...]:
            return tuple(
                CandidateInRun(run_id=row.run_id, run_name=row.run_name, candidate=candidate_record(row))
                for row in connection.execute(query)
            )

        return self._database.read(work)

    def candidate_scores(self, run_id: str, position: int) -> CandidateScores:
        """One candidate of a run with its evaluations."""
        return self.scores_of_candidates(run_id, (position,))[0]

    def scores_of_candidates(self, run_id: str, positions: Collection[int]) -> tuple[CandidateScores, ...]:
        """Candidates of a run with all their evaluations, in the run's order."""

        def work(connection: sa.Connection) -> tuple[CandidateScores, ...]:
            condition = (candidates.c.run_id == run_id) & candidates.c.position.in_(positions)
            query = sa.select(candidates).where(condition).order_by(candidates.c.position)
            return tuple(_with_evaluations(connection, run_id, connection.execute(query).all(), sa.true()))

        return self._database.read(work)

    def leaderboard_total(self, query: LeaderboardQuery) -> int:
        """Number of the candidates of all pages."""
        return self._database.read(lambda connection: _count(connection, query))

    def leaderboard(self, query: LeaderboardQuery) -> LeaderboardPage:
        """One page of a run's candidates with their evaluations."""

        def work(connection: sa.Connection) -> LeaderboardPage:
            where = _matches(query)
            n_rows = _count(connection, query)
            page = (
                _sorted(query, connection.dialect.name).where(where).limit(query.limit).offset(query.offset)
            )
            return LeaderboardPage(
                total=n_rows,
                rows=tuple(
                    _with_evaluations(
                        connection, query.run_id, connection.execute(page).all(), _shown_evaluations(query)
                    )
                ),
            )

        return self._database.read(work)


def _matches(query: LeaderboardQuery) -> sa.ColumnElement[bool]:
    """Condition for the candidates of a leaderboard, on any of its pages."""
    where = candidates.c.run_id == query.run_id
    if query.search:
        where &= candidates.c.name.icontains(query.search, autoescape=True)
    if query.positions is not None:
        where &= candidates.c.position.in_(query.positions)
    if query.without:
        where &= candidates.c.position.not_in(query.without)
    return where


def _count(connection: sa.Connection, query: LeaderboardQuery) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(candidates).where(_matches(query))) or 0


def _shown_evaluations(query: LeaderboardQuery) -> sa.ColumnElement[bool]:
    """Condition for the evaluations that a leaderboard shows."""
    conditions: list[sa.ColumnElement[bool]] = [sa.true()]
    if query.suite is not None:
        conditions.append(protocols.c.suite == query.suite)
    if query.engine_digest is not None:
        conditions.append(protocols.c.engine_digest == query.engine_digest)
    return sa.and_(*conditions)


def _sorted(query: LeaderboardQuery, dialect: str) -> sa.Select[Any]:
    """Select candidates in the query's order; those without a value come last."""
    # By code point, as SQLite does: PostgreSQL would sort by its database's locale.
    name = sa.collate(candidates.c.name, "C") if dialect == "postgresql" else candidates.c.name
    plain: dict[SortKey, sa.ColumnElement[Any]] = {
        SortKey.POSITION: candidates.c.position,
        SortKey.NAME: name,
        SortKey.LAYERS: candidates.c.layers,
        SortKey.PARAMETERS: candidates.c.parameters,
    }
    first: tuple[sa.ColumnElement[Any], ...] = ()
    if query.sort in plain:
        key = plain[query.sort]
        selected = sa.select(candidates)
    else:
        condition = _shown_evaluations(query)
        if query.sort is SortKey.BENCHMARK:
            condition &= protocols.c.benchmark == query.benchmark
        value = (
            sa.func.sum(evaluations.c.duration_s)
            if query.sort is SortKey.DURATION
            else sa.func.avg(evaluations.c.normalized)
        )
        values = (
            sa.select(
                candidate_jobs.c.candidate,
                value.label("value"),
                sa.func.count().label("n_benchmarks"),
            )
            .select_from(SCORED)
            .where(candidate_jobs.c.run_id == query.run_id, condition)
            .group_by(candidate_jobs.c.candidate)
            .subquery()
        )
        key = values.c.value
        if query.sort is SortKey.MEAN:
            # A mean over fewer benchmarks is another quantity: it ranks after all means over more.
            first = (values.c.n_benchmarks.desc(),)
        selected = sa.select(candidates).join(
            values, values.c.candidate == candidates.c.position, isouter=True
        )
    order = key.desc() if query.descending else key.asc()
    return selected.order_by(key.is_(None), *first, order, candidates.c.position)


def _with_evaluations(
    connection: sa.Connection, run_id: str, rows: Any, condition: sa.ColumnElement[bool]
) -> list[CandidateScores]:
    """Candidates with their evaluations in the plan's order, by a single query."""
    records = [candidate_record(row) for row in rows]
    served = candidate_jobs.join(
        run_jobs,
        (run_jobs.c.run_id == candidate_jobs.c.run_id)
        & (run_jobs.c.job_digest == candidate_jobs.c.job_digest),
    )
    query = (
        sa.select(candidate_jobs.c.candidate, *EVALUATION_COLUMNS)
        .select_from(served.join(EVALUATED, evaluations.c.job_digest == candidate_jobs.c.job_digest))
        .where(
            candidate_jobs.c.run_id == run_id,
            candidate_jobs.c.candidate.in_([c.position for c in records]),
            condition,
        )
        .order_by(candidate_jobs.c.candidate, run_jobs.c.position)
    )
    grouped: dict[int, list[Any]] = {}
    for row in connection.execute(query):
        grouped.setdefault(row.candidate, []).append(evaluation_record(row))
    return [CandidateScores(candidate=c, evaluations=tuple(grouped.get(c.position, ()))) for c in records]
