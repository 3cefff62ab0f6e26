"""What the store remembers, as values: runs, candidates, jobs, attempts and outcomes.

A state that follows from other facts is derived when it is read and never stored: a job is done when its
outcome is there, a run is interrupted when it has not ended and nobody holds its lease.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from evals.engine import AUTO_ATTENTION, EngineSpec, Frozen, digest_of
from evals.scores import BenchmarkScore, EvalSettings, Evaluation
from orchestrator.display.text_safety import ForeignText
from orchestrator.plan.job import BenchmarkIdentity, BuildJob, EvalJob, JobKind
from orchestrator.provenance import Hardware, Provenance

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """A short id whose order is the order of time: nine characters of milliseconds, six of chance."""
    value = (int(time.time() * 1000) << 30) | secrets.randbits(30)
    digits = []
    for _ in range(15):
        value, digit = divmod(value, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


class RunState(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


class AttemptState(StrEnum):
    """Where an attempt stands. `superseded` came back after another attempt's outcome had been taken."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class FailureClass(StrEnum):
    """Kinds of failure; each says whether and how a job is tried again."""

    OUT_OF_MEMORY = "out_of_memory"
    TOO_LARGE = "too_large"
    BUSY_GPU = "busy_gpu"
    BROKEN_ENGINE = "broken_engine"
    BAD_NODE = "bad_node"
    ENGINE_START = "engine_start"
    BAD_CHECKPOINT = "bad_checkpoint"
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
    """What became of an outcome that was handed to the store."""

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
    """A run as it is handed to the store; the store adds the times."""

    id: str = Field(default_factory=new_id, description="Name of the run in commands; later runs sort later.")
    name: str = Field(description="Name of the sweep.")
    sweep: str = Field(description="Text of the sweep file.")
    sweep_digest: str = Field(description="Digest of what the sweep asks for.")
    provenance: Provenance = Field(
        description="Versions, commit, machine and command of the process that made the run."
    )
    plan: str = Field(default="{}", description="The plan's summary as JSON.")


class RunRecord(NewRun):
    """A run as the store knows it."""

    state: RunState = Field(description="Where the run stands; derived from its end and its lease.")
    created_at: AwareDatetime = Field(description="When the run was written, on the store's clock.")
    started_at: AwareDatetime | None = Field(description="When a driver first took it.")
    ended_at: AwareDatetime | None = Field(description="When it ended; null while it has not.")
    cancel_requested_at: AwareDatetime | None = Field(
        description="When someone asked for its end; null if nobody did."
    )
    owner: str | None = Field(
        description="Driver that holds the lease or held it last; null if it was given back."
    )
    lease_expires_at: AwareDatetime | None = Field(
        description="When the driver's lease ends unless it is renewed."
    )


class CandidateRecord(Frozen):
    """One thing that is scored in a run: the base, or a recipe or layer path that is compared with it."""

    position: int = Field(ge=0, description="Place in the sweep; the base is usually 0.")
    name: str = Field(description="Name for tables.")
    is_base: bool = Field(description="Whether the others are compared with this one.")
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that makes them.")
    layer_path: tuple[int, ...] | None = Field(
        default=None, description="Source layers in order; null is all, once."
    )
    recipe: str | None = Field(
        default=None, description="Canonical text of the recipe; null for a checkpoint as it is."
    )
    layers: int | None = Field(
        default=None, ge=0, description="Layers of a forward pass; null where not known yet."
    )
    parameters: int | None = Field(default=None, ge=0, description="Parameters of the checkpoint when built.")


class PlannedJob(Frozen):
    """A job of a run and the candidates that it serves."""

    job: BuildJob | EvalJob = Field(discriminator="kind", description="What is to be done.")
    candidates: tuple[int, ...] = Field(description="Positions of the candidates that need its outcome.")


class RunLease(Frozen):
    """The right to drive a run; every write of a driver shows it."""

    run_id: str = Field(description="The run.")
    owner: str = Field(description="The process that drives it.")
    token: int = Field(description="Counts the owners of the run; an older token has no right any more.")


class Renewal(Frozen):
    """What a driver learns when it renews its lease."""

    held: bool = Field(description="Whether the lease is still this driver's; if not it must stop driving.")
    cancel_requested: bool = Field(description="Whether someone asked for the end of the run.")
    lost: tuple[str, ...] = Field(
        description="Ids of the given attempts that are not running any more for the store."
    )


class Protocol(BenchmarkIdentity):
    """Everything that a score depends on besides the weights and the layer path.

    Two scores may be compared when their protocols are equal; where they are not, `differences` says why.
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
        """Names of the fields that differ, nested ones with dots, for example 'settings.limit'."""
        return tuple(_differences(self, other, ""))


def _differences(mine: Frozen | EngineSpec | EvalSettings, other: object, prefix: str) -> list[str]:
    """Names of the fields in which two records of one class differ."""
    found: list[str] = []
    for name in type(mine).model_fields:
        left, right = getattr(mine, name), getattr(other, name)
        if left == right:
            continue
        if isinstance(left, EngineSpec | EvalSettings):
            found += _differences(left, right, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


class BuildOutcome(Frozen):
    """What a build gave."""

    artifact: str = Field(description="Digest that names the artifact; the job's own.")
    path: str = Field(description="The checkpoint's directory, relative to MERGEBOARD_HOME.")
    size_bytes: int = Field(ge=0, description="Bytes that it takes on disk.")
    parameters: int = Field(ge=0, description="Parameters of the checkpoint.")
    layers: int = Field(ge=0, description="Layers of the checkpoint.")
    hardware: Hardware = Field(description="The machine that it ran on.")
    started_at: AwareDatetime = Field(description="When the work began, on the worker's clock.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")


class EvalOutcome(Frozen):
    """What an evaluation gave."""

    evaluation: Evaluation = Field(description="The scores and what they were measured with.")
    samples_path: str = Field(description="Parquet file of the samples, relative to MERGEBOARD_HOME.")
    samples_sha256: str = Field(description="sha256 of that file.")
    hardware: Hardware = Field(description="The machine that it ran on.")
    started_at: AwareDatetime = Field(description="When the work began, on the worker's clock.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")
    engine_start_s: float | None = Field(
        default=None,
        description="Seconds that its engine took to start; null where it was open already. Not stored with the outcome.",
    )

    def contradiction(self, job: EvalJob) -> str | None:
        """Why this cannot be the outcome of the job, as a sentence; None where it can."""
        wanted = (job.suite, job.benchmark_digest, job.engine, job.settings)
        got = self.evaluation
        engine = got.engine
        if job.engine.attention_backend == AUTO_ATTENTION:
            # The plan left the backend to the engine, which tells the one that it chose.
            engine = engine.model_copy(update={"attention_backend": AUTO_ATTENTION})
        measured = (got.suite, got.benchmark_digest, engine, got.settings)
        if measured != wanted:
            names = ("suite", "benchmark_digest", "engine", "settings")
            wrong = [n for n, w, m in zip(names, wanted, measured, strict=True) if m != w]
            return f"The result was measured with another {' and '.join(wrong)} than the job asks for."
        if {got.result.benchmark, *(score.benchmark for score in got.scores)} != {job.benchmark}:
            return f"The result is of another benchmark than {job.benchmark}."
        numbers = [got.result.raw, got.result.normalized, *(score.value for score in got.scores)]
        if not all(math.isfinite(number) for number in numbers):
            return "The result holds a score that is not a number."
        return None


class Failure(Frozen):
    """Why an attempt gave no outcome."""

    failure_class: FailureClass = Field(description="What kind of failure it was.")
    message: ForeignText = Field(description="One sentence.")
    log_tail: ForeignText = Field(default="", description="Last lines of the attempt's log.")
    node: str | None = Field(default=None, description="Machine that it happened on, where known.")
    batch_size: int | None = Field(
        default=None, description="Sequences per batch of the engine that failed, where known; not stored."
    )
    jobs: int = Field(
        default=1,
        ge=1,
        description="Jobs that ran together when it happened, any of which may be its cause; not stored.",
    )


Success = BuildOutcome | EvalOutcome
Outcome = BuildOutcome | EvalOutcome | Failure


class AttemptRecord(Frozen):
    """One try at one job."""

    id: str = Field(description="Id of the attempt; also the name of its log.")
    job_digest: str = Field(description="The job.")
    run_id: str = Field(description="The run whose driver started it.")
    number: int = Field(ge=1, description="Counts the attempts at the job, over all runs.")
    state: AttemptState = Field(description="Where it stands.")
    node: str | None = Field(description="Machine that it ran on, where known.")
    worker: str | None = Field(description="Worker process or actor, where known.")
    started_at: datetime = Field(description="When it was started, on the store's clock.")
    heartbeat_at: datetime = Field(description="When its driver last vouched for it, on the store's clock.")
    ended_at: datetime | None = Field(description="When it ended, on the store's clock.")
    failure_class: FailureClass | None = Field(description="What kind of failure ended it.")
    message: str | None = Field(description="The failure in one sentence.")
    log_tail: str | None = Field(description="Last lines of its log, where it failed.")
    will_retry: bool | None = Field(
        description="Whether the scheduler meant to try again after this failure."
    )


class JobState(StrEnum):
    """Where a job of a run stands."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "waiting"


class JobCounts(Frozen):
    """How many jobs of a run stand where. A job that is done may have been done by another run."""

    run_id: str = Field(description="The run.")
    total: int = Field(description="Jobs of the run.")
    done: int = Field(description="Jobs whose outcome is in the store.")
    running: int = Field(description="Jobs with a live attempt, of this run or of another.")
    failed: int = Field(description="Jobs that failed in this run and will not be tried again.")

    @property
    def waiting(self) -> int:
        """Jobs that have not started or wait to be tried again, or for a job that has failed."""
        return self.total - self.done - self.running - self.failed


class Usage(Frozen):
    """What a run has taken of one node so far, or of all: the one count of its GPU-hours.

    Lost and failed attempts are included, outcomes that another run has paid for are not.
    """

    node: str | None = Field(description="The machine; null where it is not known.")
    attempts: int = Field(description="Attempts, running ones included.")
    job_s: float = Field(description="Seconds that engines and builds worked on them; a batch counts once.")
    gpu_s: float = Field(description="The same times the GPUs that they held; 0 where there are none.")

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
    """How often one kind of failure has happened."""

    failure_class: FailureClass = Field(description="The kind of failure.")
    count: int = Field(description="Attempts that ended so.")


class EvaluationRecord(Frozen):
    """A stored evaluation, without the scores of its subsets."""

    job_digest: str = Field(description="The job that it is the outcome of.")
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that makes them.")
    layer_path: tuple[int, ...] | None = Field(description="Source layers in order; null is all, once.")
    protocol_digest: str = Field(description="Digest of everything else that the score depends on.")
    engine_digest: str = Field(description="Digest of the engine's settings.")
    suite: str = Field(description="Name of the suite.")
    result: BenchmarkScore = Field(description="The benchmark as its leaderboard shows it.")
    samples_path: str = Field(description="Parquet file of the samples, relative to MERGEBOARD_HOME.")
    samples_sha256: str = Field(description="sha256 of that file.")
    n_requests: int = Field(description="Requests that were needed.")
    n_replayed: int = Field(description="Of these, requests whose answers came from the journal.")
    duration_s: float = Field(description="Wall-clock seconds, engine start left out.")
    hardware: Hardware = Field(description="The machine that it ran on.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")


class CandidateInRun(Frozen):
    """A candidate together with the run that it belongs to."""

    run_id: str = Field(description="The run.")
    run_name: str = Field(description="Name of the run's sweep.")
    candidate: CandidateRecord = Field(description="The candidate.")


class CandidateScores(Frozen):
    """A row of a leaderboard: a candidate and its benchmarks."""

    candidate: CandidateRecord = Field(description="The candidate.")
    evaluations: tuple[EvaluationRecord, ...] = Field(
        description="Its evaluations, in the order of the plan."
    )


class SortKey(StrEnum):
    """What a leaderboard can be sorted by."""

    POSITION = "position"
    NAME = "name"
    LAYERS = "layers"
    PARAMETERS = "parameters"
    MEAN = "mean"
    BENCHMARK = "benchmark"


class LeaderboardQuery(Frozen):
    """Which part of a run's leaderboard is wanted."""

    run_id: str = Field(description="The run.")
    suite: str | None = Field(default=None, description="Only this suite; null is all.")
    engine_digest: str | None = Field(default=None, description="Only scores of this engine; null is all.")
    sort: SortKey = Field(
        default=SortKey.POSITION, description="What the rows are sorted by; candidates without it come last."
    )
    benchmark: str | None = Field(
        default=None, description="The benchmark to sort by, where that is the key."
    )
    descending: bool = Field(default=False, description="Whether the largest come first.")
    search: str | None = Field(default=None, description="Only candidates whose name contains this text.")
    offset: int = Field(default=0, ge=0, description="Rows to leave out at the top.")
    limit: int = Field(default=100, ge=1, le=10_000, description="Most rows to return.")


class LeaderboardPage(Frozen):
    """A part of a run's leaderboard."""

    total: int = Field(description="Rows of the whole leaderboard.")
    rows: tuple[CandidateScores, ...] = Field(description="The rows that were asked for, in order.")


def job_kind(job: BuildJob | EvalJob) -> JobKind:
    """Kind of a job, as the enum."""
    return JobKind(job.kind)
