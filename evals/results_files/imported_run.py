"""What a result file made elsewhere says, and what it comes to under a suite."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from evals.claims.facts import Facts
from evals.claims.records import Measurement
from evals.engine import Frozen
from evals.scores import SuiteScore


class FileFormat(StrEnum):
    """Kinds of result files."""

    BOARD_V1 = "Open LLM Leaderboard v1 result"
    DETAILS_CARD = "leaderboard details card"
    HARNESS_OLD = "lm-eval result before 0.4"
    HARNESS = "lm-eval result"


class TaskResult(Frozen):
    """One task of a result file, as it stands there."""

    key: str = Field(description="Key in the file, for example 'harness|arc:challenge|25'.")
    metrics: dict[str, float] = Field(
        description="Value of each metric, its filter after a comma where it has one."
    )
    stderrs: dict[str, float] = Field(
        default_factory=dict, description="Standard errors of the metrics that have one."
    )
    version: str | None = Field(default=None, description="Task version; null where the file has none.")
    shots: int | None = Field(
        default=None, ge=0, description="Few-shot examples; null where the file has none."
    )
    n: int | None = Field(
        default=None, ge=0, description="Documents that were evaluated; null where unknown."
    )
    n_full: int | None = Field(
        default=None, ge=0, description="Documents that the task has; null where unknown."
    )
    prompts_hash: str | None = Field(
        default=None, description="lm-eval's hash over the task's documents and prompts."
    )
    nan_metrics: tuple[str, ...] = Field(default=(), description="Metrics whose value is not a number.")


class ResultFile(Frozen):
    """A result file, read."""

    source: str = Field(description="Name of the file, for people.")
    format: FileFormat = Field(description="Kind of file.")
    checkpoint: str = Field(description="What was evaluated, as the file says.")
    revision: str | None = Field(default=None, description="Commit of the checkpoint, where the file has it.")
    measured_at: AwareDatetime | None = Field(default=None, description="When it was measured, where known.")
    facts: Facts = Field(description="What is known of how all its tasks were run.")
    tasks: tuple[TaskResult, ...] = Field(description="The tasks, groups included.")
    groups: tuple[str, ...] = Field(default=(), description="Keys of tasks that are means over others.")
    limit: int | None = Field(
        default=None, ge=1, description="Most documents of a task that were run; null for all or unknown."
    )


class ImportedBenchmark(Frozen):
    """One benchmark of a result file under a suite."""

    suite: str = Field(description="The suite.")
    measurement: Measurement = Field(description="Its scores and result with what is known of them.")
    stage: str | None = Field(
        default=None, description="Scoring stage, for a benchmark that had several; null if unknown."
    )
    stage_reason: str | None = Field(default=None, description="How the stage is known.")
    primary: bool = Field(default=True, description="Whether it is the benchmark's main result in this file.")
    problems: tuple[str, ...] = Field(default=(), description="What is missing or doubtful, in sentences.")
    unfit: str | None = Field(
        default=None, description="Why the figure, though the board shows it, must not be compared."
    )


class ImportedRun(Frozen):
    """A result file and what it comes to under every suite that knows its tasks."""

    file: ResultFile = Field(description="The file.")
    benchmarks: tuple[ImportedBenchmark, ...] = Field(
        description="Every benchmark that it has, in the suites' order."
    )
    suites: tuple[SuiteScore, ...] = Field(
        description="Columns and average of each suite that it has benchmarks of."
    )
    ignored: tuple[str, ...] = Field(description="Tasks that no suite knows.")
    problems: tuple[str, ...] = Field(description="What is wrong with the file as a whole.")
    samples: tuple[str, ...] = Field(default=(), description="Files with its samples.")
