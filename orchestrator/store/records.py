"""Records of the store: runs, candidates, jobs, attempts and outcomes.

Derived states are computed when read and never stored: a job is done when its outcome exists, a run is
interrupted when it has not ended and no driver holds its lease.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from evals.early import EarlyEvaluation
from evals.engine import AUTO_ATTENTION, EngineSpec, Frozen, digest_of
from evals.scores import EvalSettings, Evaluation
from evals.stats.sequence import LookSequence
from orchestrator.display.text_safety import ForeignText
from orchestrator.plan.job import BenchmarkIdentity, BuildJob, EvalJob, JobKind
from orchestrator.provenance import Hardware, Provenance
from orchestrator.store.ids import new_id
from recipes.layer_visit import Layers
from recipes.origin import MadeFrom


class RunState(StrEnum):
    """State of a run."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


class AttemptState(StrEnum):
    """State of an attempt. `superseded`: ended after another attempt's outcome had been accepted."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class FailureClass(StrEnum):
    """Classes of failure, which determine whether and how a job is retried."""

    OUT_OF_MEMORY = "out_of_memory"
    TOO_LARGE = "too_large"
    BUSY_GPU = "busy_gpu"
    BROKEN_ENGINE = "broken_engine"
    BAD_NODE = "bad_node"
    ENGINE_START = "engine_start"
    BAD_CHECKPOINT = "bad_checkpoint"
    LIVE_REFUSED = "live_refused"
    PATH_REFUSED = "path_refused"
    BAD_INPUT = "bad_input"
    CHANGED_INPUT = "changed_input"
    LOST_NODE = "lost_node"
    HUNG_ENGINE = "hung_engine"
    FULL_DISK = "full_disk"
    LOST_STORE = "lost_store"
    WRONG_RESULT = "wrong_result"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Acceptance(StrEnum):
    """Result of handing an outcome to the store."""

    ACCEPTED = "accepted"
    ALREADY_THERE = "already_there"
    REFUSED = "refused"


class NotStarted(StrEnum):
    """Why an attempt could not be started."""

    JOB_DONE = "job_done"
    HELD = "held"
    LEASE_LOST = "lease_lost"
    RUN_CANCELLED = "run_cancelled"


class NewRun(Frozen):
    """A new run; the store adds the times."""

    id: str = Field(default_factory=new_id, description="Id of the run in commands; later runs sort later.")
    name: str = Field(description="Name of the sweep.")
    sweep: str = Field(description="Text of the sweep file.")
    sweep_digest: str = Field(description="Digest of what the sweep asks for.")
    provenance: Provenance = Field(
        description="Versions, commit, machine and command of the process that made the run."
    )
    plan: str = Field(default="{}", description="The plan's summary as JSON.")


class RunRecord(NewRun):
    """A stored run."""

    state: RunState = Field(description="State of the run, derived from its end and its lease.")
    created_at: AwareDatetime = Field(description="When the run was stored, on the store's clock.")
    started_at: AwareDatetime | None = Field(description="When a driver first took its lease; null if never.")
    ended_at: AwareDatetime | None = Field(description="When it ended; null while it has not.")
    cancel_requested_at: AwareDatetime | None = Field(
        description="When its cancellation was requested; null if it was not."
    )
    owner: str | None = Field(
        description="Driver that holds or last held the lease; null if it was released."
    )
    lease_expires_at: AwareDatetime | None = Field(
        description="When the driver's lease expires unless it is renewed."
    )


class CandidateRecord(Frozen):
    """A candidate of a run: the base, or a recipe or layer path that is compared with it."""

    position: int = Field(ge=0, description="Index in the sweep; the base is usually 0.")
    name: str = Field(description="Name in tables.")
    is_base: bool = Field(description="Whether the others are compared with this one.")
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that makes them.")
    layer_path: Layers | None = Field(
        default=None, description="Source layers in order; null means all layers, once each."
    )
    recipe: str | None = Field(
        default=None, description="Canonical text of the recipe; null for an unchanged checkpoint."
    )
    layers: int | None = Field(
        default=None, ge=0, description="Layers of a forward pass; null if not known yet."
    )
    parameters: int | None = Field(default=None, ge=0, description="Parameters of the checkpoint when built.")
    made_from: tuple[MadeFrom, ...] = Field(
        default=(), description="What its weights were made from, as far as it is recorded."
    )


class PlannedJob(Frozen):
    """A job of a run and the candidates that it serves."""

    job: BuildJob | EvalJob = Field(discriminator="kind", description="The job.")
    candidates: tuple[int, ...] = Field(description="Positions of the candidates that need its outcome.")


class RunLease(Frozen):
    """The right to drive a run; every write of a driver presents it."""

    run_id: str = Field(description="The run.")
    owner: str = Field(description="The process that drives it.")
    token: int = Field(description="Number of the run's owner; older tokens are invalid.")


class Renewal(Frozen):
    """Result of renewing a driver's lease."""

    held: bool = Field(description="Whether the driver still holds the lease; if not, it must stop.")
    cancel_requested: bool = Field(description="Whether the cancellation of the run was requested.")
    lost: tuple[str, ...] = Field(
        description="Ids of the given attempts that are no longer running in the store."
    )


class Protocol(BenchmarkIdentity):
    """Everything that a score depends on except the weights and the layer path.

    Two scores are comparable if their protocols are equal; otherwise `differences` lists the fields.
    """

    engine: EngineSpec = Field(description="The engine and its settings.")

    @classmethod
    def of(cls, job: EvalJob) -> Protocol:
        """The protocol of an evaluation job."""
        return cls(engine=job.engine, **job.identity_fields())

    @property
    def digest(self) -> str:
        """Identity of the protocol."""
        return digest_of(self)

    def differences(self, other: Protocol) -> tuple[str, ...]:
        """Names of the differing fields, with dots for nested ones, for example 'settings.limit'."""
        return tuple(_differences(self, other, ""))


def _differences(
    left_record: Frozen | EngineSpec | EvalSettings, right_record: object, prefix: str
) -> list[str]:
    """Names of the fields in which two records of the same class differ."""
    names: list[str] = []
    for name in type(left_record).model_fields:
        left, right = getattr(left_record, name), getattr(right_record, name)
        if left == right:
            continue
        if isinstance(left, EngineSpec | EvalSettings):
            names += _differences(left, right, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


class BuildOutcome(Frozen):
    """Outcome of a build."""

    artifact: str = Field(description="Digest of the artifact, equal to the job's digest.")
    path: str = Field(description="The checkpoint's directory, relative to MERGEBOARD_HOME.")
    size_bytes: int = Field(ge=0, description="Size on disk in bytes.")
    parameters: int = Field(ge=0, description="Parameters of the checkpoint.")
    layers: int = Field(ge=0, description="Layers of the checkpoint.")
    hardware: Hardware = Field(description="Machine that it ran on.")
    started_at: AwareDatetime = Field(description="When the work began, on the worker's clock.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")


class EvalOutcome(Frozen):
    """Outcome of an evaluation."""

    evaluation: Evaluation = Field(description="The scores and what they were measured with.")
    samples_path: str = Field(description="Parquet file of the samples, relative to MERGEBOARD_HOME.")
    samples_sha256: str = Field(description="sha256 of that file.")
    hardware: Hardware = Field(description="Machine that it ran on.")
    started_at: AwareDatetime = Field(description="When the work began, on the worker's clock.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")
    engine_start_s: float | None = Field(
        default=None,
        description="Engine start in seconds; null if it was already open. Not stored with the outcome.",
    )
    sequence: LookSequence | None = Field(
        default=None, description="The looks at it, if it could have stopped early and did not."
    )

    def contradiction(self, job: EvalJob) -> str | None:
        """Why this is not an outcome of the job, as a sentence; None if it is."""
        got = self.evaluation
        if (other := _measured_otherwise(job, got)) is not None:
            return other
        if {got.result.benchmark, *(score.benchmark for score in got.scores)} != {job.benchmark}:
            return f"The result is of another benchmark than {job.benchmark}."
        numbers = [got.result.raw, got.result.normalized, *(score.value for score in got.scores)]
        if not all(math.isfinite(number) for number in numbers):
            return "The result holds a score that is not a number."
        return None


class EarlyOutcome(Frozen):
    """Outcome of an evaluation that stopped early. It has no score, so that it can stand in no table beside whole ones."""

    early: EarlyEvaluation = Field(description="The looks and the decision.")
    hardware: Hardware = Field(description="Machine that it ran on.")
    started_at: AwareDatetime = Field(description="When the work began, on the worker's clock.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")
    engine_start_s: float | None = Field(
        default=None,
        description="Engine start in seconds; null if it was already open. Not stored with the outcome.",
    )

    def contradiction(self, job: EvalJob) -> str | None:
        """Why this is not an outcome of the job, as a sentence; None if it is."""
        if job.decide is None:
            return "The evaluation stopped early, and the job asks for the whole benchmark."
        if self.early.sequence.plan != job.decide.plan:
            return "The evaluation stopped early by another rule than the job's."
        if (self.early.sequence.part is not None) is not (
            job.decide.items is not None or job.decide.part is not None
        ):
            return "The evaluation is a part that was asked for a race, and the job is none, or the other way round."
        if self.early.benchmark != job.benchmark:
            return f"The result is of another benchmark than {job.benchmark}."
        return _measured_otherwise(job, self.early)


def _measured_otherwise(job: EvalJob, got: Evaluation | EarlyEvaluation) -> str | None:
    """What was measured with other settings than the job's, as a sentence; None if nothing was."""
    planned = (job.suite, job.benchmark_digest, job.engine, job.settings)
    engine = got.engine
    if job.engine.attention_backend == AUTO_ATTENTION:
        # The plan left the backend to the engine, which reports its choice.
        engine = engine.model_copy(update={"attention_backend": AUTO_ATTENTION})
    measured = (got.suite, got.benchmark_digest, engine, got.settings)
    if measured == planned:
        return None
    names = ("suite", "benchmark_digest", "engine", "settings")
    wrong = [n for n, w, m in zip(names, planned, measured, strict=True) if m != w]
    return f"The result was measured with another {' and '.join(wrong)} than the job asks for."


class Failure(Frozen):
    """Failure of an attempt."""

    failure_class: FailureClass = Field(description="Class of the failure.")
    message: ForeignText = Field(description="The failure in one sentence.")
    log_tail: ForeignText = Field(default="", description="Last lines of the attempt's log.")
    node: str | None = Field(default=None, description="Host on which it happened, if known.")
    batch_size: int | None = Field(
        default=None, description="Sequences per batch of the failed engine, if known; not stored."
    )
    jobs: int = Field(
        default=1,
        ge=1,
        description="Number of jobs in the failed batch, any of which may be the cause; not stored.",
    )


Success = BuildOutcome | EvalOutcome | EarlyOutcome
Outcome = BuildOutcome | EvalOutcome | EarlyOutcome | Failure


class AttemptRecord(Frozen):
    """An attempt at a job."""

    id: str = Field(description="Id of the attempt; also the name of its log.")
    job_digest: str = Field(description="The job.")
    run_id: str = Field(description="The run whose driver started it.")
    number: int = Field(ge=1, description="Number of the attempt at the job, over all runs.")
    state: AttemptState = Field(description="State of the attempt.")
    node: str | None = Field(description="Host that it ran on, if known.")
    worker: str | None = Field(description="Worker process or actor, if known.")
    started_at: datetime = Field(description="When it was started, on the store's clock.")
    heartbeat_at: datetime = Field(description="Last heartbeat of its driver, on the store's clock.")
    ended_at: datetime | None = Field(description="When it ended, on the store's clock.")
    failure_class: FailureClass | None = Field(description="Class of the failure that ended it.")
    message: str | None = Field(description="The failure in one sentence.")
    log_tail: str | None = Field(description="Last lines of its log, if it failed.")
    will_retry: bool | None = Field(description="Whether the scheduler planned a retry after this failure.")


class JobState(StrEnum):
    """State of a job of a run."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "waiting"


class JobCounts(Frozen):
    """Number of jobs of a run by state. Another run may have executed a job that is done."""

    run_id: str = Field(description="The run.")
    total: int = Field(description="Jobs of the run.")
    done: int = Field(description="Jobs whose outcome is in the store.")
    running: int = Field(description="Jobs with a live attempt, of this run or of another.")
    failed: int = Field(description="Jobs that failed in this run and will not be retried.")

    @property
    def waiting(self) -> int:
        """Jobs that have not started, wait for a retry, or depend on a failed job."""
        return self.total - self.done - self.running - self.failed


class Usage(Frozen):
    """Time and GPU time that a run has used on one node, or on all nodes.

    Includes lost and failed attempts, but not outcomes that another run computed.
    """

    node: str | None = Field(description="Host name; null if unknown.")
    attempts: int = Field(description="Number of attempts, including running ones.")
    job_s: float = Field(description="Seconds of work of engines and builds; a batch counts once.")
    gpu_s: float = Field(description="GPU seconds: seconds of work times reserved GPUs; 0 without GPUs.")

    @classmethod
    def total(cls, usage: Iterable[Usage]) -> Usage:
        """All nodes together."""
        parts = list(usage)
        return cls(
            node=None,
            attempts=sum(part.attempts for part in parts),
            job_s=sum(part.job_s for part in parts),
            gpu_s=sum(part.gpu_s for part in parts),
        )


class FailureCount(Frozen):
    """Number of failures of one class."""

    failure_class: FailureClass = Field(description="Class of the failure.")
    count: int = Field(description="Number of attempts that failed with this class.")


class CandidateInRun(Frozen):
    """A candidate with its run."""

    run_id: str = Field(description="The run.")
    run_name: str = Field(description="Name of the run's sweep.")
    candidate: CandidateRecord = Field(description="The candidate.")


def job_kind(job: BuildJob | EvalJob) -> JobKind:
    """Kind of a job, as the enum."""
    return JobKind(job.kind)
