"""What the pages' own questions are answered with."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.job import BuildJob, EvalJob, JobKind
from orchestrator.store.records import AttemptRecord, CandidateRecord, JobState


class Column(Frozen):
    """One benchmark of a run as one engine scores it: a column of its tables."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    benchmark_digest: str = Field(description="Digest of its definition.")
    engine_digest: str = Field(description="Digest of the engine's settings.")
    engine_key: str = Field(
        description="Digest of the same without the longest sequence, in which suites of one run differ."
    )
    engine: str = Field(description="The engine in words.")


class Pace(Frozen):
    """How fast outcomes come in."""

    window_s: float = Field(description="Seconds that were looked at.")
    jobs: int = Field(description="Outcomes in that time.")


class Work(Frozen):
    """An attempt and what it is about."""

    attempt: AttemptRecord = Field(description="The attempt.")
    run_name: str = Field(description="Name of the run's sweep.")
    kind: JobKind = Field(description="What the job does.")
    candidate: str | None = Field(description="Name of the first candidate that needs it.")
    suite: str | None = Field(description="Suite of an evaluation.")
    benchmark: str | None = Field(description="Benchmark of an evaluation.")


class Arrivals(Frozen):
    """Outcomes that came in during a step of time."""

    at: datetime = Field(description="Start of the step, on the store's clock.")
    kind: JobKind = Field(description="What the jobs did.")
    count: int = Field(description="How many came in.")


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
