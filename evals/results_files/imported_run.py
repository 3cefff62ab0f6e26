"""Records of imported result files and of their benchmarks under the suites."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from evals.claims.facts import Facts
from evals.claims.records import Measurement
from evals.engine import Frozen
from evals.scores import Sample, SuiteScore
from evals.suite import Benchmark, OutputKind


class FileFormat(StrEnum):
    """Kinds of result files."""

    BOARD_V1 = "Open LLM Leaderboard v1 result"
    DETAILS_CARD = "leaderboard details card"
    HARNESS_OLD = "lm-eval result before 0.4"
    HARNESS = "lm-eval result"
    LIGHTEVAL = "lighteval result"
    INSPECT = "Inspect log"
    EVERY_EVAL = "Every Eval Ever result"


class TaskResult(Frozen):
    """One task as written in a result file."""

    key: str = Field(description="Key in the file, for example 'harness|arc:challenge|25'.")
    metrics: dict[str, float] = Field(
        description="Value by metric; the name includes the filter after a comma, if there is one."
    )
    stderrs: dict[str, float] = Field(default_factory=dict, description="Standard error by metric.")
    version: str | None = Field(default=None, description="Task version; null if the file has none.")
    shots: int | None = Field(
        default=None, ge=0, description="Number of few-shot examples; null if the file has none."
    )
    n: int | None = Field(default=None, ge=0, description="Number of evaluated documents; null if unknown.")
    n_full: int | None = Field(
        default=None, ge=0, description="Number of documents of the task; null if unknown."
    )
    prompts_hash: str | None = Field(
        default=None, description="lm-eval's hash over the task's documents and prompts."
    )
    nan_metrics: tuple[str, ...] = Field(default=(), description="Metrics whose value is not a number.")
    preferred: tuple[str, ...] = Field(
        default=(), description="Metrics in the order of the task's own definition, if the file has it."
    )
    lower_is_better: tuple[str, ...] = Field(
        default=(), description="Metrics of which a lower value is better, according to the file."
    )
    output: OutputKind | None = Field(default=None, description="Kind of output; null if the file has none.")
    dataset: str | None = Field(default=None, description="Data set of the task, if the file has it.")


class ResultFile(Frozen):
    """A parsed result file."""

    source: str = Field(description="Display name of the file.")
    format: FileFormat = Field(description="Kind of file.")
    checkpoint: str = Field(description="Evaluated checkpoint, according to the file.")
    revision: str | None = Field(default=None, description="Commit of the checkpoint, if the file has it.")
    measured_at: AwareDatetime | None = Field(default=None, description="Time of the measurement, if known.")
    facts: Facts = Field(description="Known circumstances of the run.")
    tasks: tuple[TaskResult, ...] = Field(description="The tasks, groups included.")
    groups: tuple[str, ...] = Field(default=(), description="Keys of tasks that are means of others.")
    limit: int | None = Field(
        default=None, ge=1, description="Maximum number of documents per task; null for all or if unknown."
    )
    members: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Tasks and groups of each group, by key."
    )


class ImportedBenchmark(Frozen):
    """One benchmark of a result file under a suite."""

    suite: str = Field(description="The suite.")
    measurement: Measurement = Field(description="Scores and result with their known circumstances.")
    stage: str | None = Field(
        default=None, description="Scoring stage, if the benchmark has several; null if unknown."
    )
    stage_reason: str | None = Field(default=None, description="Reason for the stage.")
    primary: bool = Field(default=True, description="Whether it is the benchmark's main result in this file.")
    problems: tuple[str, ...] = Field(default=(), description="Missing or doubtful parts, one sentence each.")
    unfit: str | None = Field(
        default=None,
        description="Why the score must not be compared although the board shows it; null if it may.",
    )
    definition: Benchmark | None = Field(
        default=None,
        description="Definition made from the file for tasks that no suite contains; null for a suite's benchmark.",
    )
    percent: tuple[str, ...] = Field(
        default=(),
        description="Metrics that the file gives from 0 to 100; scores and samples hold fractions.",
    )
    digest: str | None = Field(
        default=None,
        description="Digest of the definition with which mergeboard measured it; null for other tools.",
    )
    complete: bool = Field(
        default=False,
        description="Whether the measurement is as mergeboard made it: samples add nothing to it.",
    )
    counted: bool = Field(
        default=True, description="Whether the file says on how many documents the scores were measured."
    )


class ImportedRun(Frozen):
    """A result file with its benchmarks under every suite that contains its tasks."""

    file: ResultFile = Field(description="The file.")
    benchmarks: tuple[ImportedBenchmark, ...] = Field(
        description="The file's benchmarks, in the suites' order."
    )
    suites: tuple[SuiteScore, ...] = Field(
        description="Columns and average of each suite with benchmarks in the file."
    )
    ignored: tuple[str, ...] = Field(description="Tasks that no suite contains.")
    problems: tuple[str, ...] = Field(description="Problems of the file, one sentence each.")
    samples: tuple[str, ...] = Field(default=(), description="Files with its samples, as lm-eval logs them.")
    answers: dict[str, tuple[Sample, ...]] = Field(
        default_factory=dict,
        description="Samples by task that were read with the file (other tools than lm-eval).",
    )
