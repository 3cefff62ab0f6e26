"""What the pages ask of the store beyond its own questions: read-only, and each bounded by what it returns.

`Pages` is the store opened for reading alone, with these questions added. None of them touches more rows than one
run has, and none returns more than its limit.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from orchestrator.jobs import BuildJob, EvalJob, Frozen, JobKind
from orchestrator.provenance import Hardware
from orchestrator.records import (
    AttemptRecord,
    AttemptState,
    CandidateRecord,
    EvalOutcome,
    FailureClass,
    Protocol,
)
from orchestrator.results import CandidateResult
from orchestrator.store import Store
from orchestrator.store.database import clock
from orchestrator.store.rows import AnyRow, attempt_record, candidate_record, job_of
from orchestrator.tables import (
    attempts,
    builds,
    candidate_jobs,
    candidates,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
    runs,
)

RECENT_S = 600.0


class Column(Frozen):
    """One benchmark of a run as one engine scores it: a column of its tables."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    engine_digest: str = Field(description="Digest of the engine's settings.")
    engine_key: str = Field(
        description="Digest of the same without the longest sequence, in which suites of one run differ."
    )
    engine: str = Field(description="The engine in words.")


class Cost(Frozen):
    """What a run's outcomes have cost, wherever they were made."""

    evaluations: int = Field(description="Evaluations that are done.")
    builds: int = Field(description="Builds that are done.")
    busy_s: float = Field(description="Seconds that workers spent on them.")
    gpu_s: float = Field(description="The same, times the GPUs that each held; 0 on machines without one.")
    n_requests: int = Field(description="Requests that the evaluations needed.")


class Pace(Frozen):
    """How fast outcomes come in."""

    window_s: float = Field(description="Seconds that were looked at.")
    jobs: int = Field(description="Outcomes in that time.")
    n_requests: int = Field(description="Requests behind the evaluations among them.")


class Work(Frozen):
    """An attempt and what it is about."""

    attempt: AttemptRecord = Field(description="The attempt.")
    run_name: str = Field(description="Name of the run's sweep.")
    kind: JobKind = Field(description="What the job does.")
    candidate: str | None = Field(description="Name of the first candidate that needs it.")
    suite: str | None = Field(description="Suite of an evaluation.")
    benchmark: str | None = Field(description="Benchmark of an evaluation.")


class Moment(Frozen):
    """When an outcome came in."""

    at: datetime = Field(description="When the store took it, on its clock.")
    kind: JobKind = Field(description="What the job did.")


class PathScore(Frozen):
    """A candidate of a run with one number."""

    candidate: CandidateRecord = Field(description="The candidate.")
    value: float | None = Field(description="Normalized score, 0 to 100; null where there is none.")


class JobState(StrEnum):
    """Where a job of a run stands."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "waiting"


class JobRow(Frozen):
    """A job in a list."""

    digest: str = Field(description="The job.")
    kind: JobKind = Field(description="What it does.")
    candidate: str | None = Field(description="Name of the first candidate that needs it.")
    suite: str | None = Field(description="Suite of an evaluation.")
    benchmark: str | None = Field(description="Benchmark of an evaluation.")
    state: JobState = Field(description="Where it stands.")


class JobDetail(Frozen):
    """A job as one run wants it, and the candidates that it serves."""

    run_id: str = Field(description="The run.")
    job: BuildJob | EvalJob = Field(description="The job.")
    candidates: tuple[CandidateRecord, ...] = Field(
        description="Candidates of the run that need it, at most 20."
    )
    other_runs: tuple[str, ...] = Field(description="Other runs that share it, newest first, at most 20.")


class Pages(Store):
    """The store as the dashboard sees it."""

    serial: int = 0
    """Tells one opened store from another."""

    def count_runs(self) -> int:
        """How many runs there are."""
        return self._database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(runs)) or 0)

    def now(self) -> datetime:
        """The time on the store's clock."""
        return self._database.read(clock)

    def columns(self, run_id: str) -> tuple[Column, ...]:
        """The benchmarks of a run in its order."""
        first = sa.func.min(run_jobs.c.position)
        query = (
            sa.select(protocols.c.digest, first)
            .select_from(_jobs_of_runs().join(protocols, protocols.c.digest == jobs.c.protocol_digest))
            .where(run_jobs.c.run_id == run_id)
            .group_by(protocols.c.digest)
            .order_by(first)
        )

        def work(connection: sa.Connection) -> tuple[Column, ...]:
            digests = [row.digest for row in connection.execute(query)]
            specs = _protocols(connection, digests)
            found = [_column(specs[digest]) for digest in digests]
            return tuple(dict.fromkeys(found))

        return self._database.read(work)

    def cost(self, run_id: str) -> Cost:
        """What the outcomes of a run's jobs have cost."""
        seconds = sa.func.sum(evaluations.c.duration_s)
        query = (
            sa.select(
                outcomes.c.hardware,
                protocols.c.spec,
                sa.func.count().label("n"),
                seconds.label("seconds"),
                sa.func.sum(evaluations.c.n_requests).label("requests"),
            )
            .select_from(
                _jobs_of_runs()
                .join(outcomes, outcomes.c.job_digest == jobs.c.digest)
                .join(evaluations, evaluations.c.job_digest == jobs.c.digest)
                .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
            )
            .where(run_jobs.c.run_id == run_id)
            .group_by(outcomes.c.hardware, protocols.c.digest, protocols.c.spec)
        )
        built = (
            sa.select(outcomes.c.started_at, outcomes.c.ended_at)
            .join(run_jobs, run_jobs.c.job_digest == outcomes.c.job_digest)
            .join(builds, builds.c.job_digest == outcomes.c.job_digest)
            .where(run_jobs.c.run_id == run_id)
        )

        def work(connection: sa.Connection) -> Cost:
            rows = connection.execute(query).all()
            times = [(row.ended_at - row.started_at).total_seconds() for row in connection.execute(built)]
            return Cost(
                evaluations=sum(row.n for row in rows),
                builds=len(times),
                busy_s=sum(row.seconds for row in rows) + sum(times),
                gpu_s=sum(row.seconds * _gpus(row) for row in rows),
                n_requests=sum(row.requests for row in rows),
            )

        return self._database.read(work)

    def pace(self, run_id: str, window_s: float = RECENT_S) -> Pace:
        """Outcomes of a run that the store took in the last `window_s` seconds."""

        def work(connection: sa.Connection) -> Pace:
            since = clock(connection) - timedelta(seconds=window_s)
            query = (
                sa.select(sa.func.count(), sa.func.sum(evaluations.c.n_requests))
                .select_from(
                    outcomes.join(run_jobs, run_jobs.c.job_digest == outcomes.c.job_digest).join(
                        evaluations, evaluations.c.job_digest == outcomes.c.job_digest, isouter=True
                    )
                )
                .where(run_jobs.c.run_id == run_id, outcomes.c.accepted_at > since)
            )
            count, requests = connection.execute(query).one()
            return Pace(window_s=window_s, jobs=count, n_requests=requests or 0)

        return self._database.read(work)

    def arrivals(self, run_id: str, limit: int = 2000) -> tuple[Moment, ...]:
        """When the last outcomes of a run's jobs came in, latest first."""
        query = (
            sa.select(outcomes.c.accepted_at, jobs.c.kind)
            .select_from(_jobs_of_runs().join(outcomes, outcomes.c.job_digest == jobs.c.digest))
            .where(run_jobs.c.run_id == run_id)
            .order_by(outcomes.c.accepted_at.desc())
            .limit(limit)
        )
        return self._database.read(
            lambda c: tuple(Moment(at=row.accepted_at, kind=row.kind) for row in c.execute(query))
        )

    def running_work(self, run_id: str | None = None, limit: int = 100) -> tuple[Work, ...]:
        """What runs now and where, longest first."""
        which = attempts.c.state == AttemptState.RUNNING
        if run_id is not None:
            which &= attempts.c.run_id == run_id
        return self._work(which, attempts.c.started_at.asc(), limit, 0)

    def failed_work(
        self, run_id: str, kind: FailureClass | None = None, limit: int = 20, offset: int = 0
    ) -> tuple[Work, ...]:
        """Attempts of a run that failed or were lost, latest first."""
        bad = attempts.c.state.in_((AttemptState.FAILED, AttemptState.LOST))
        which = (attempts.c.run_id == run_id) & bad
        if kind is not None:
            which &= attempts.c.failure_class == kind
        return self._work(which, attempts.c.ended_at.desc(), limit, offset)

    def base_of(self, run_id: str) -> CandidateRecord | None:
        """The candidate that a run's others are compared with."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id)
        query = query.order_by(candidates.c.is_base.desc(), candidates.c.position).limit(1)
        return self._database.read(lambda c: _one_candidate(c, query))

    def candidate(self, run_id: str, position: int) -> CandidateRecord | None:
        """One candidate of a run."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id, candidates.c.position == position)
        return self._database.read(lambda c: _one_candidate(c, query))

    def count_candidates(self, run_id: str) -> int:
        """How many candidates a run has, its base among them."""
        query = sa.select(sa.func.count()).select_from(candidates).where(candidates.c.run_id == run_id)
        return self._database.read(lambda c: c.scalar(query) or 0)

    def search_candidates(self, run_id: str, text: str, limit: int = 50) -> tuple[CandidateRecord, ...]:
        """Candidates of a run whose name contains the text, in the run's order."""
        query = sa.select(candidates).where(candidates.c.run_id == run_id)
        if text:
            query = query.where(candidates.c.name.icontains(text, autoescape=True))
        query = query.order_by(candidates.c.position).limit(limit)
        return self._database.read(lambda c: tuple(candidate_record(row) for row in c.execute(query)))

    def path_scores(self, run_id: str, column: Column, limit: int = 20_000) -> tuple[PathScore, ...]:
        """Every candidate of a run with its normalized score in one column."""
        served = (
            sa.select(candidate_jobs.c.candidate, evaluations.c.normalized)
            .select_from(
                candidate_jobs.join(jobs, jobs.c.digest == candidate_jobs.c.job_digest)
                .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
                .join(evaluations, evaluations.c.job_digest == jobs.c.digest)
            )
            .where(
                candidate_jobs.c.run_id == run_id,
                protocols.c.suite == column.suite,
                protocols.c.benchmark == column.benchmark,
                protocols.c.engine_digest == column.engine_digest,
            )
            .subquery()
        )
        query = (
            sa.select(candidates, served.c.normalized)
            .join(served, served.c.candidate == candidates.c.position, isouter=True)
            .where(candidates.c.run_id == run_id)
            .order_by(candidates.c.position)
            .limit(limit)
        )
        return self._database.read(
            lambda c: tuple(
                PathScore(candidate=candidate_record(row), value=row.normalized) for row in c.execute(query)
            )
        )

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
        query = (
            sa.select(
                jobs.c.digest,
                jobs.c.kind,
                protocols.c.suite,
                protocols.c.benchmark,
                _first_candidate(run_jobs.c.run_id, run_jobs.c.job_digest).label("candidate"),
                stands.label("state"),
            )
            .select_from(
                _jobs_of_runs().join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
            )
            .where(which)
            .order_by(run_jobs.c.position)
            .limit(limit)
            .offset(offset)
        )
        count = sa.select(sa.func.count()).select_from(run_jobs).where(which)

        def work(connection: sa.Connection) -> tuple[int, tuple[JobRow, ...]]:
            rows = tuple(JobRow.model_validate(dict(row._mapping)) for row in connection.execute(query).all())
            return connection.scalar(count) or 0, rows

        return self._database.read(work)

    def unscored(self, run_id: str, column: Column) -> frozenset[int]:
        """Candidates of a run whose evaluation in a column has failed for good."""
        failed = (
            sa.select(candidate_jobs.c.candidate)
            .select_from(
                attempts.join(jobs, jobs.c.digest == attempts.c.job_digest)
                .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
                .join(candidate_jobs, candidate_jobs.c.job_digest == jobs.c.digest)
            )
            .where(
                attempts.c.run_id == run_id,
                attempts.c.state == AttemptState.FAILED,
                attempts.c.will_retry.is_(sa.false()),
                candidate_jobs.c.run_id == run_id,
                protocols.c.suite == column.suite,
                protocols.c.benchmark == column.benchmark,
                ~sa.exists().where(outcomes.c.job_digest == jobs.c.digest),
            )
        )
        return self._database.read(lambda c: frozenset(c.scalars(failed)))

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
            known = _protocols(connection, [row.protocol_digest] if row.protocol_digest else [])
            return JobDetail(
                run_id=run,
                job=job_of(row, known),
                candidates=_served(connection, run, digest),
                other_runs=tuple(r for r in holders if r != run),
            )

        return self._database.read(work)

    def result_of(self, run_id: str, position: int, columns: tuple[Column, ...]) -> CandidateResult | None:
        """A candidate's outcomes in some columns, as cards and comparisons take them; None where there are none."""
        who = self.candidate(run_id, position)
        if who is None or not columns:
            return None
        mine = sa.select(candidate_jobs.c.job_digest).where(
            candidate_jobs.c.run_id == run_id, candidate_jobs.c.candidate == position
        )
        query = (
            sa.select(jobs, run_jobs.c.spec, run_jobs.c.live_layers)
            .select_from(_jobs_of_runs().join(protocols, protocols.c.digest == jobs.c.protocol_digest))
            .where(run_jobs.c.run_id == run_id, jobs.c.digest.in_(mine), _in_columns(columns))
            .order_by(run_jobs.c.position)
        )

        def work(connection: sa.Connection) -> list[EvalJob]:
            rows = connection.execute(query).all()
            known = _protocols(connection, [row.protocol_digest for row in rows])
            return [job for row in rows if isinstance(job := job_of(row, known), EvalJob)]

        wanted = self._database.read(work)
        found = self.outcomes([job.digest for job in wanted])
        pairs = [(j, o) for j in wanted if isinstance(o := found.get(j.digest), EvalOutcome)]
        if not pairs:
            return None
        engine = pairs[0][0].engine
        return CandidateResult(run_id=run_id, candidate=who, engine=engine, evaluated=tuple(pairs))

    def _work(
        self, which: sa.ColumnElement[bool], order: sa.ColumnElement[Any], limit: int, offset: int
    ) -> tuple[Work, ...]:
        first = _first_candidate(attempts.c.run_id, attempts.c.job_digest)
        query = (
            sa.select(
                attempts,
                jobs.c.kind,
                protocols.c.suite,
                protocols.c.benchmark,
                runs.c.name.label("run_name"),
                first.label("candidate"),
            )
            .join(jobs, jobs.c.digest == attempts.c.job_digest)
            .join(runs, runs.c.id == attempts.c.run_id)
            .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
            .where(which)
            .order_by(order, attempts.c.id)
            .limit(limit)
            .offset(offset)
        )
        return self._database.read(lambda c: tuple(_work_record(row) for row in c.execute(query)))


def _first_candidate(
    run_id: sa.ColumnElement[str], job_digest: sa.ColumnElement[str]
) -> sa.ScalarSelect[Any]:
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


def _in_columns(columns: tuple[Column, ...]) -> sa.ColumnElement[bool]:
    return sa.or_(
        *(
            (protocols.c.suite == column.suite)
            & (protocols.c.benchmark == column.benchmark)
            & (protocols.c.engine_digest == column.engine_digest)
            for column in columns
        )
    )


def _jobs_of_runs() -> sa.Join:
    return run_jobs.join(jobs, jobs.c.digest == run_jobs.c.job_digest)


def _protocols(connection: sa.Connection, digests: list[str]) -> dict[str, Protocol]:
    query = sa.select(protocols.c.digest, protocols.c.spec).where(protocols.c.digest.in_(digests))
    return {row.digest: Protocol.model_validate_json(row.spec) for row in connection.execute(query)}


def _column(protocol: Protocol) -> Column:
    engine = protocol.engine
    return Column(
        suite=protocol.suite,
        benchmark=protocol.benchmark,
        engine_digest=engine.digest,
        engine_key=engine.model_copy(update={"max_length": None}).digest,
        engine=f"{engine.kind} {engine.version}, {engine.dtype}",
    )


def _gpus(row: AnyRow) -> int:
    """GPUs that an evaluation held: as many as share each layer, where the machine has any."""
    if not Hardware.model_validate_json(row.hardware).gpus:
        return 0
    return Protocol.model_validate_json(row.spec).engine.tensor_parallel


def _one_candidate(connection: sa.Connection, query: sa.Select[Any]) -> CandidateRecord | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else candidate_record(row)


def _work_record(row: AnyRow) -> Work:
    return Work(
        attempt=attempt_record(row),
        run_name=row.run_name,
        kind=JobKind(row.kind),
        candidate=row.candidate,
        suite=row.suite,
        benchmark=row.benchmark,
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
