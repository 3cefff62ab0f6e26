"""The record of an evaluation that stopped early because its comparison was decided. It has no benchmark score."""

from __future__ import annotations

from pydantic import Field

from evals.engine import EngineSpec, Frozen
from evals.scores import EvalSettings
from evals.stats.sequence import LookSequence


class EarlyEvaluation(Frozen):
    """One benchmark on one checkpoint or layer path, asked until its comparison with the base was decided."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark in it.")
    title: str = Field(description="Display name of the benchmark.")
    benchmark_digest: str = Field(description="Digest of the benchmark's definition in the suite.")
    engine: EngineSpec = Field(description="The engine that served it.")
    settings: EvalSettings = Field(description="The settings of the evaluation.")
    sequence: LookSequence = Field(description="The looks and the decision.")
    n_requests: int = Field(ge=0, description="Number of requests that were asked.")
    n_replayed: int = Field(ge=0, description="Number of requests answered from the journal.")
    duration_s: float = Field(ge=0, description="Wall-clock seconds without the engine's start.")
