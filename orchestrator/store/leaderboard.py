"""Records of a leaderboard: the query, its rows, and the stored evaluations in them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from evals.engine import Frozen
from evals.scores import BenchmarkScore
from orchestrator.provenance import Hardware
from orchestrator.store.records import CandidateRecord
from recipes.layer_visit import Layers


class EvaluationRecord(Frozen):
    """A stored evaluation, without its subset scores."""

    job_digest: str = Field(description="The job that it is the outcome of.")
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that makes them.")
    layer_path: Layers | None = Field(description="Source layers in order; null: all, once each.")
    protocol_digest: str = Field(description="Digest of all else that the score depends on.")
    engine_digest: str = Field(description="Digest of the engine's settings.")
    suite: str = Field(description="Name of the suite.")
    result: BenchmarkScore = Field(description="The benchmark's aggregate result, as on its leaderboard.")
    samples_path: str = Field(description="Parquet file of the samples, relative to MERGEBOARD_HOME.")
    samples_sha256: str = Field(description="sha256 of that file.")
    n_requests: int = Field(description="Number of requests.")
    n_replayed: int = Field(description="Of these, requests whose answers came from the journal.")
    duration_s: float = Field(description="Wall-clock seconds, without engine start.")
    hardware: Hardware = Field(description="Machine that it ran on.")
    ended_at: AwareDatetime = Field(description="When the work ended, on the worker's clock.")


class CandidateScores(Frozen):
    """A row of a leaderboard: a candidate and its evaluations."""

    candidate: CandidateRecord = Field(description="The candidate.")
    evaluations: tuple[EvaluationRecord, ...] = Field(
        description="Its evaluations, in the order of the plan."
    )


class SortKey(StrEnum):
    """Sort key of a leaderboard."""

    POSITION = "position"
    NAME = "name"
    LAYERS = "layers"
    PARAMETERS = "parameters"
    MEAN = "mean"
    BENCHMARK = "benchmark"
    DURATION = "duration"


class LeaderboardQuery(Frozen):
    """Query for a part of a run's leaderboard."""

    run_id: str = Field(description="The run.")
    suite: str | None = Field(default=None, description="Only this suite; null means all.")
    engine_digest: str | None = Field(default=None, description="Only scores of this engine; null means all.")
    sort: SortKey = Field(
        default=SortKey.POSITION,
        description="Sort key of the rows; candidates without a value come last, and those with a mean over fewer "
        "benchmarks than others after these.",
    )
    benchmark: str | None = Field(
        default=None, description="The benchmark to sort by, for the key `benchmark`."
    )
    descending: bool = Field(default=False, description="Whether the largest values come first.")
    search: str | None = Field(default=None, description="Only candidates whose name contains this text.")
    positions: tuple[int, ...] | None = Field(
        default=None, description="Only candidates at these positions of the run; null means all."
    )
    without: tuple[int, ...] = Field(default=(), description="Positions of candidates to leave out.")
    offset: int = Field(default=0, ge=0, description="Number of rows to skip.")
    limit: int = Field(default=100, ge=1, le=10_000, description="Maximum number of rows.")


class LeaderboardPage(Frozen):
    """A part of a run's leaderboard."""

    total: int = Field(description="Number of rows of the whole leaderboard.")
    rows: tuple[CandidateScores, ...] = Field(description="The requested rows, in order.")
