"""Queries of the overview page: runs, pace, running work, failures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from evals.scores import PROBE_SUITE
from orchestrator.plan.job import JobKind
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.joins import JOBS_OF_RUNS, first_candidates, protocols_of
from orchestrator.store.pages.answers import Arrivals, FailureGroup, Pace, ProbedRun, Work, engine_words
from orchestrator.store.records import (
    AttemptState,
    FailureClass,
)
from orchestrator.store.rows import AnyRow, attempt_record, protocol_of
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

RECENT_S = 600.0


class RunQuestions(StorePart):
    """Methods of `Pages` for runs."""

    def count_runs(self) -> int:
        """Number of runs."""
        return self._database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(runs)) or 0)

    def now(self) -> datetime:
        """The time on the store's clock."""
        return self._database.read(clock)

    def pace(self, run_id: str, window_s: float = RECENT_S) -> Pace:
        """Outcomes of a run accepted in the last `window_s` seconds, or since its start if that is later."""

        def work(connection: sa.Connection) -> Pace:
            now = clock(connection)
            started = connection.scalar(sa.select(runs.c.started_at).where(runs.c.id == run_id)) or now
            seconds = max(1.0, min(window_s, (now - started).total_seconds()))
            since = now - timedelta(seconds=seconds)
            query = (
                sa.select(sa.func.count())
                .select_from(outcomes.join(run_jobs, run_jobs.c.job_digest == outcomes.c.job_digest))
                .where(run_jobs.c.run_id == run_id, outcomes.c.accepted_at > since)
            )
            return Pace(window_s=seconds, jobs=connection.scalar(query) or 0)

        return self._database.read(work)

    def arrivals(self, run_id: str, since: datetime, step_s: float) -> tuple[Arrivals, ...]:
        """Outcomes of a run's jobs per time step from `since` on; empty steps are omitted."""
        seconds = sa.cast(sa.extract("epoch", outcomes.c.accepted_at), sa.Integer)
        # Integer division: casting a quotient rounds on PostgreSQL, but truncates on SQLite.
        step = ((seconds - int(since.timestamp())) // max(1, round(step_s))).label("step")
        query = (
            sa.select(step, jobs.c.kind, sa.func.count().label("count"))
            .select_from(JOBS_OF_RUNS.join(outcomes, outcomes.c.job_digest == jobs.c.digest))
            .where(run_jobs.c.run_id == run_id)
            .group_by(step, jobs.c.kind)
            .order_by(step, jobs.c.kind)
        )

        def work(connection: sa.Connection) -> tuple[Arrivals, ...]:
            width = timedelta(seconds=max(1, round(step_s)))
            return tuple(
                Arrivals(at=since + row.step * width, kind=row.kind, count=row.count)
                for row in connection.execute(query)
                if row.step >= 0
            )

        return self._database.read(work)

    def probe_runs(self) -> tuple[ProbedRun, ...]:
        """The runs whose base was asked probes, newest first; one for each engine of a run."""
        n_paths = (
            sa.select(sa.func.count() - 1)
            .select_from(candidates)
            .where(candidates.c.run_id == runs.c.id)
            .correlate(runs)
            .scalar_subquery()
        )
        query = (
            sa.select(
                runs.c.id, runs.c.created_at, runs.c.plan, n_paths.label("n_paths"), jobs.c.weights_digest,
                protocols.c.digest.label("protocol"),
            )
            .select_from(
                candidates.join(runs, runs.c.id == candidates.c.run_id)
                .join(
                    candidate_jobs,
                    (candidate_jobs.c.run_id == candidates.c.run_id)
                    & (candidate_jobs.c.candidate == candidates.c.position),
                )
                .join(jobs, jobs.c.digest == candidate_jobs.c.job_digest)
                .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
            )
            .where(candidates.c.is_base, jobs.c.layer_path.is_(None), protocols.c.suite == PROBE_SUITE)
            .order_by(runs.c.created_at.desc(), runs.c.id)
        )  # fmt: skip

        any_probe = sa.select(protocols.c.digest).where(protocols.c.suite == PROBE_SUITE).limit(1)

        def work(connection: sa.Connection) -> tuple[ProbedRun, ...]:
            if connection.scalar(any_probe) is None:
                return ()
            rows = connection.execute(query).all()
            specs = protocols_of(connection, {row.protocol for row in rows})
            grouped: dict[tuple[str, str], list[AnyRow]] = {}
            for row in rows:
                key = specs[row.protocol].engine.digest_without_length
                grouped.setdefault((row.id, key), []).append(row)
            return tuple(
                ProbedRun(
                    run_id=run_id,
                    created_at=asked[0].created_at,
                    weights_digest=asked[0].weights_digest,
                    engine_key=key,
                    probes=frozenset(specs[row.protocol].benchmark for row in asked),
                    n_paths=asked[0].n_paths,
                    plan=asked[0].plan,
                )
                for (run_id, key), asked in grouped.items()
            )

        return self._database.read(work)

    def count_jobs(self, run_id: str) -> int:
        """Number of jobs of a run."""
        query = sa.select(sa.func.count()).select_from(run_jobs).where(run_jobs.c.run_id == run_id)
        return self._database.read(lambda c: c.scalar(query) or 0)

    def running_work(self, run_id: str | None = None, limit: int = 100) -> tuple[Work, ...]:
        """Running attempts with their nodes, longest running first."""
        condition = attempts.c.state == AttemptState.RUNNING
        if run_id is not None:
            condition &= attempts.c.run_id == run_id
        return self._work(condition, attempts.c.started_at.asc(), limit, 0)

    def failed_work(
        self, run_id: str, kind: FailureClass | None = None, limit: int = 20, offset: int = 0
    ) -> tuple[Work, ...]:
        """Failed and lost attempts of a run, latest first."""
        bad = attempts.c.state.in_((AttemptState.FAILED, AttemptState.LOST))
        condition = (attempts.c.run_id == run_id) & bad
        if kind is not None:
            condition &= attempts.c.failure_class == kind
        return self._work(condition, attempts.c.ended_at.desc(), limit, offset)

    def failure_groups(self, run_id: str, limit: int = 500) -> tuple[FailureGroup, ...]:
        """Failed and lost attempts of a run by class and message, those with the most jobs first.

        Messages that differ in numbers alone are one group; of very many different ones, the latest `limit`.
        """
        bad = attempts.c.state.in_((AttemptState.FAILED, AttemptState.LOST))
        done = sa.exists().where(outcomes.c.job_digest == attempts.c.job_digest)
        latest = sa.func.max(attempts.c.id)
        query = (
            sa.select(
                attempts.c.failure_class,
                attempts.c.message,
                latest.label("latest"),
                sa.func.count().label("attempts"),
                sa.func.count(sa.distinct(sa.case((~done, attempts.c.job_digest)))).label("jobs"),
            )
            .where(attempts.c.run_id == run_id, bad)
            .group_by(attempts.c.failure_class, attempts.c.message)
            .order_by(sa.desc("latest"))
            .limit(limit)
        )

        def work(connection: sa.Connection) -> tuple[FailureGroup, ...]:
            grouped: dict[tuple[FailureClass | None, str], list[AnyRow]] = {}
            for row in connection.execute(query):
                text = _NUMBERS.sub("#", row.message or "")
                grouped.setdefault((row.failure_class, text), []).append(row)
            groups = [_group(connection, rows) for rows in grouped.values()]
            return tuple(sorted(groups, key=lambda group: (-group.jobs, -group.attempts)))

        return self._database.read(work)

    def confirming_plans(self) -> dict[str, str]:
        """The plan summaries (JSON) of the runs that name the search that they confirm, by run."""
        query = sa.select(runs.c.id, runs.c.plan).where(runs.c.plan.contains('"confirms"'))
        return self._database.read(lambda c: {row.id: row.plan for row in c.execute(query)})

    def run_ids(self) -> tuple[str, ...]:
        """Ids of all runs, newest first."""
        query = sa.select(runs.c.id).order_by(runs.c.created_at.desc(), runs.c.id.desc())
        return self._database.read(lambda c: tuple(c.scalars(query)))

    def _work(
        self, condition: sa.ColumnElement[bool], order: sa.ColumnElement[Any], limit: int, offset: int
    ) -> tuple[Work, ...]:
        query = (
            sa.select(
                attempts,
                jobs.c.kind,
                protocols.c.suite,
                protocols.c.benchmark,
                protocols.c.spec.label("protocol"),
                runs.c.name.label("run_name"),
            )
            .join(jobs, jobs.c.digest == attempts.c.job_digest)
            .join(runs, runs.c.id == attempts.c.run_id)
            .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
            .where(condition)
            .order_by(order, attempts.c.id)
            .limit(limit)
            .offset(offset)
        )

        def work(connection: sa.Connection) -> tuple[Work, ...]:
            rows = connection.execute(query).all()
            names: dict[tuple[str, str], str] = {}
            for run_id in {row.run_id for row in rows}:
                digests = {row.job_digest for row in rows if row.run_id == run_id}
                names |= {(run_id, d): n for d, n in first_candidates(connection, run_id, digests).items()}
            return tuple(_work_record(row, names.get((row.run_id, row.job_digest))) for row in rows)

        return self._database.read(work)


# Digests, sizes and counts in which the messages of one fault differ.
_NUMBERS = re.compile(r"\b[0-9a-f]{8,}\b|\d[\d.,]*")


def _group(connection: sa.Connection, rows: Sequence[AnyRow]) -> FailureGroup:
    """Rows of one message as a group; its text and log are those of the latest attempt."""
    last = connection.execute(sa.select(attempts).where(attempts.c.id == max(r.latest for r in rows))).one()
    return FailureGroup(
        failure_class=last.failure_class,
        message=last.message or "",
        log_tail=last.log_tail,
        attempts=sum(row.attempts for row in rows),
        jobs=sum(row.jobs for row in rows),
        job_digest=last.job_digest,
    )


def _work_record(row: AnyRow, candidate: str | None) -> Work:
    return Work(
        attempt=attempt_record(row),
        run_name=row.run_name,
        kind=JobKind(row.kind),
        candidate=candidate,
        suite=row.suite,
        benchmark=row.benchmark,
        engine=engine_words(protocol_of(row.protocol)) if row.protocol else None,
    )
