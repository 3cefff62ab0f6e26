"""Result records of the dashboard's queries."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, Field

from evals.engine import Frozen
from orchestrator.plan.job import BuildJob, EvalJob, JobKind
from orchestrator.store.records import AttemptRecord, CandidateRecord, FailureClass, JobState, Protocol


class Column(Frozen):
    """A column of a run's tables: one benchmark on one engine."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    benchmark_digest: str = Field(description="Digest of its definition.")
    engine_digest: str = Field(description="Digest of the engine's settings.")
    engine_key: str = Field(
        description="Digest of the same without the maximum length, in which suites of one run differ."
    )
    engine: str = Field(description="The engine in words.")


class ProbedRun(Frozen):
    """A run that asked probes, by what its base was asked: runs of one scan have these in common."""

    run_id: str = Field(description="The run.")
    created_at: AwareDatetime = Field(description="When it was stored.")
    weights_digest: str = Field(description="Digest of the base's weights.")
    engine_key: str = Field(description="Digest of the engine's settings without its maximum length.")
    probes: frozenset[str] = Field(description="Names of the probes.")
    n_paths: int = Field(description="Number of candidates besides the base.")
    plan: str = Field(description="The plan's summary as JSON.")


def engine_words(protocol: Protocol) -> str:
    """The engine of a protocol for display: kind, version, dtype."""
    engine = protocol.engine
    return f"{engine.kind} {engine.version}, {engine.dtype}"


class Pace(Frozen):
    """Rate of new outcomes."""

    window_s: float = Field(description="Length of the time window in seconds.")
    jobs: int = Field(description="Number of outcomes in the window.")


class Work(Frozen):
    """An attempt with its run and job."""

    attempt: AttemptRecord = Field(description="The attempt.")
    run_name: str = Field(description="Name of the run's sweep.")
    kind: JobKind = Field(description="What the job does.")
    candidate: str | None = Field(description="Name of the first candidate that needs it.")
    suite: str | None = Field(description="Suite of an evaluation.")
    benchmark: str | None = Field(description="Benchmark of an evaluation.")
    engine: str | None = Field(default=None, description="The engine in words; null for a build.")


class FailureGroup(Frozen):
    """The attempts of a run that failed with one message."""

    failure_class: FailureClass | None = Field(description="Class of the failures; null for lost attempts.")
    message: str = Field(description="The latest message.")
    log_tail: str | None = Field(description="Last lines of the log of the latest of them.")
    attempts: int = Field(description="Number of failed attempts.")
    jobs: int = Field(description="Number of jobs without a result among them.")
    job_digest: str = Field(description="The job of the latest of them.")


class Arrivals(Frozen):
    """Outcomes accepted in one time step."""

    at: datetime = Field(description="Start of the time step, on the store's clock.")
    kind: JobKind = Field(description="Kind of the jobs.")
    count: int = Field(description="Number of outcomes.")


class JobRow(Frozen):
    """A job in a list."""

    digest: str = Field(description="The job.")
    kind: JobKind = Field(description="What it does.")
    candidate: str | None = Field(description="Name of the first candidate that needs it.")
    suite: str | None = Field(description="Suite of an evaluation.")
    benchmark: str | None = Field(description="Benchmark of an evaluation.")
    state: JobState = Field(description="State of the job in the run.")


class JobDetail(Frozen):
    """A job as planned by one run, with the candidates that need it."""

    run_id: str = Field(description="The run.")
    job: BuildJob | EvalJob = Field(description="The job.")
    candidates: tuple[CandidateRecord, ...] = Field(
        description="Candidates of the run that need it, at most 20."
    )
    other_runs: tuple[str, ...] = Field(description="Other runs that share it, newest first, at most 20.")
