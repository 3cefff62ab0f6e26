"""Measured, running and open work of runs, grouped by what determines its duration."""

from __future__ import annotations

import functools
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.durations import Workload
from orchestrator.provenance import Hardware
from orchestrator.store.base import StorePart
from orchestrator.store.database import clock
from orchestrator.store.joins import job_state
from orchestrator.store.records import AttemptState, JobState
from orchestrator.store.rows import among, protocol_of
from orchestrator.store.tables import (
    attempts,
    builds,
    candidate_jobs,
    candidates,
    evaluations,
    jobs,
    outcomes,
    protocols,
    run_jobs,
)

# Number of latest measured evaluations that are used.
_LATEST = 500


class OpenWork(Frozen):
    """Jobs of a run that have not begun, of one workload and one engine."""

    workload: Workload = Field(description="Properties that determine the duration of each job.")
    engine: tuple[str, str] | None = Field(
        description="Digests of weights and engine: jobs with the same share an engine; null for builds."
    )
    count: int = Field(description="How many jobs.")


class MeasuredWork(Frozen):
    """A finished job."""

    workload: Workload = Field(description="Properties that determine its duration.")
    on_gpu: bool = Field(description="Whether its machine had a GPU.")
    duration_s: float = Field(description="Duration in seconds, without the engine's start.")


class RunningWork(Frozen):
    """A running attempt of a run."""

    workload: Workload = Field(description="Properties that determine its duration.")
    engine: tuple[str, str] | None = Field(description="Digests of weights and engine; null for a build.")
    job_digest: str = Field(description="The job.")
    worker: str = Field(description="Id of the engine that its batch shares, or of the attempt.")
    elapsed_s: float = Field(description="Seconds since it was started, on the store's clock.")


class WorkQuestions(StorePart):
    """Methods of the store for measured, running and open work."""

    def open_work(self, run_id: str) -> tuple[OpenWork, ...]:
        """Jobs of a run that are neither done, nor running, nor failed for good."""
        parameters = _parameters(run_id)
        query = (
            sa.select(
                protocols.c.spec,
                protocols.c.engine_digest,
                jobs.c.weights_digest,
                parameters.label("parameters"),
                sa.func.count().label("count"),
            )
            .select_from(run_jobs)
            .join(jobs, jobs.c.digest == run_jobs.c.job_digest)
            .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
            .where(run_jobs.c.run_id == run_id, job_state(run_id) == JobState.WAITING.value)
            .group_by(protocols.c.spec, protocols.c.engine_digest, jobs.c.weights_digest, "parameters")
        )
        return self._database.read(
            lambda connection: tuple(
                OpenWork(
                    workload=_workload(row.spec, row.parameters),
                    engine=(row.weights_digest, row.engine_digest) if row.spec else None,
                    count=row.count,
                )
                for row in connection.execute(query)
            )
        )

    def running_jobs(self, run_id: str) -> tuple[RunningWork, ...]:
        """The running attempts of a run, oldest first."""
        query = (
            sa.select(
                protocols.c.spec,
                protocols.c.engine_digest,
                jobs.c.weights_digest,
                _parameters(run_id).label("parameters"),
                attempts.c.id,
                attempts.c.worker,
                attempts.c.started_at,
                run_jobs.c.job_digest,
            )
            .select_from(run_jobs)
            .join(attempts, attempts.c.job_digest == run_jobs.c.job_digest)
            .join(jobs, jobs.c.digest == run_jobs.c.job_digest)
            .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
            .where(run_jobs.c.run_id == run_id, attempts.c.run_id == run_id)
            .where(attempts.c.state == AttemptState.RUNNING)
            .order_by(attempts.c.started_at, attempts.c.id)
        )

        def work(connection: sa.Connection) -> tuple[RunningWork, ...]:
            now = clock(connection)
            return tuple(
                RunningWork(
                    workload=_workload(row.spec, row.parameters),
                    engine=(row.weights_digest, row.engine_digest) if row.spec else None,
                    job_digest=row.job_digest,
                    worker=row.worker or row.id,
                    elapsed_s=max(0.0, (now - row.started_at).total_seconds()),
                )
                for row in connection.execute(query)
            )

        return self._database.read(work)

    def now(self) -> datetime:
        """The time on the store's clock."""
        return self._database.read(clock)

    def job_labels(self, run_id: str, digests: Collection[str]) -> dict[str, str]:
        """Descriptions of a run's jobs by digest: `base: smoke bbh`, `build merged`."""
        name = (
            sa.select(candidates.c.name)
            .join(
                candidate_jobs,
                (candidate_jobs.c.run_id == candidates.c.run_id)
                & (candidate_jobs.c.candidate == candidates.c.position),
            )
            .where(candidate_jobs.c.run_id == run_id, candidate_jobs.c.job_digest == jobs.c.digest)
            .order_by(candidates.c.position)
            .limit(1)
            .correlate(jobs)
            .scalar_subquery()
        )

        def work(connection: sa.Connection) -> dict[str, str]:
            query = (
                sa.select(jobs.c.digest, name.label("name"), protocols.c.suite, protocols.c.benchmark)
                .join(protocols, protocols.c.digest == jobs.c.protocol_digest, isouter=True)
                .where(among(connection, jobs.c.digest, list(digests)))
            )
            return {
                row.digest: f"{row.name}: {row.suite} {row.benchmark}" if row.suite else f"build {row.name}"
                for row in connection.execute(query)
            }

        return self._database.read(work)

    def measured_work(self, run_id: str | None = None) -> tuple[MeasuredWork, ...]:
        """Latest evaluations of a run or of all, without replayed requests; for one run also its builds."""
        query = (
            sa.select(
                protocols.c.spec,
                sa.func.max(candidates.c.parameters).label("parameters"),
                sa.func.max(outcomes.c.hardware).label("hardware"),
                sa.func.max(evaluations.c.duration_s).label("duration_s"),
                sa.func.max(outcomes.c.accepted_at).label("at"),
            )
            .select_from(outcomes)
            .join(evaluations, evaluations.c.job_digest == outcomes.c.job_digest)
            .join(jobs, jobs.c.digest == outcomes.c.job_digest)
            .join(protocols, protocols.c.digest == jobs.c.protocol_digest)
            .join(candidate_jobs, candidate_jobs.c.job_digest == outcomes.c.job_digest)
            .join(
                candidates,
                (candidates.c.run_id == candidate_jobs.c.run_id)
                & (candidates.c.position == candidate_jobs.c.candidate),
            )
            .where(evaluations.c.n_replayed == 0)
            .group_by(outcomes.c.job_digest, protocols.c.spec)
            .order_by(sa.desc("at"), outcomes.c.job_digest)
            .limit(_LATEST)
        )
        built = (
            sa.select(outcomes.c.hardware, outcomes.c.started_at, outcomes.c.ended_at)
            .join(builds, builds.c.job_digest == outcomes.c.job_digest)
            .join(run_jobs, run_jobs.c.job_digest == outcomes.c.job_digest)
            .where(run_jobs.c.run_id == run_id)
            .limit(_LATEST)
        )
        if run_id is not None:
            query = query.where(candidate_jobs.c.run_id == run_id)

        def work(connection: sa.Connection) -> tuple[MeasuredWork, ...]:
            evaluated = [
                MeasuredWork(
                    workload=_workload(row.spec, row.parameters),
                    on_gpu=_has_gpus(row.hardware),
                    duration_s=row.duration_s,
                )
                for row in connection.execute(query)
            ]
            built_work = [
                MeasuredWork(
                    workload=Workload(),
                    on_gpu=_has_gpus(row.hardware),
                    duration_s=(row.ended_at - row.started_at).total_seconds(),
                )
                for row in (connection.execute(built) if run_id is not None else ())
            ]
            # Oldest first, since `Durations` keeps only the last measurements.
            return (*built_work, *reversed(evaluated))

        return self._database.read(work)


def _parameters(run_id: str) -> sa.ScalarSelect[int]:
    """Parameters of the largest candidate of a run that needs a job."""
    return (
        sa.select(sa.func.max(candidates.c.parameters))
        .join(
            candidate_jobs,
            (candidate_jobs.c.run_id == candidates.c.run_id)
            & (candidate_jobs.c.candidate == candidates.c.position),
        )
        .where(candidate_jobs.c.run_id == run_id, candidate_jobs.c.job_digest == run_jobs.c.job_digest)
        .correlate(run_jobs)
        .scalar_subquery()
    )


def _workload(spec: str | None, parameters: int | None) -> Workload:
    if spec is None:
        return Workload()
    protocol = protocol_of(spec)
    return Workload(
        suite=protocol.suite,
        benchmark=protocol.benchmark,
        limit=protocol.settings.limit,
        parameters=parameters,
        engine=protocol.engine.kind,
        tensor_parallel=protocol.engine.tensor_parallel,
    )


@functools.lru_cache(maxsize=256)
def _has_gpus(hardware: str) -> bool:
    return bool(Hardware.model_validate_json(hardware).gpus)
