"""One column of a board: its tasks, shots, metrics, data and how its scores are aggregated."""

from __future__ import annotations

import functools
import hashlib
import math
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, model_validator

from evals.engine import Frozen, digest_of
from evals.errors import SuiteError

OWN_TASKS_DIR = Path(__file__).parent / "tasks"
OWN_PREFIX = "mergeboard:"
FILES_PREFIX = "files:"
"""Begins `tasks` of a benchmark whose task files are part of its definition; the rest is a folder in them."""


def _is_unset(value: object) -> bool:
    """Leaves a field out where it is unset, so that definitions without it keep their digests."""
    return not value


class Aggregation(StrEnum):
    """How a board aggregates the scores of a benchmark's subsets."""

    SUBSET_MEAN_NORMALIZED = "subset_mean_normalized"
    """Normalise each subset, then take the plain mean."""
    SUBSET_MEAN = "subset_mean"
    """Plain mean over subsets, not normalised."""
    POOLED_NORMALIZED = "pooled_normalized"
    """Pool all documents, then normalise."""
    POOLED = "pooled"
    """Pool all documents, not normalised."""
    METRIC_MEAN = "metric_mean"
    """Pool all documents, then take the plain mean of the metrics."""

    @property
    def normalizes(self) -> bool:
        """Whether scores are normalised by the lower bound."""
        return self in (Aggregation.SUBSET_MEAN_NORMALIZED, Aggregation.POOLED_NORMALIZED)

    @property
    def of_subsets(self) -> bool:
        """Whether the column is a mean over subsets, each of them a mean over its documents."""
        return self in (Aggregation.SUBSET_MEAN_NORMALIZED, Aggregation.SUBSET_MEAN)


class Formula(StrEnum):
    """How a metric that is no mean over documents follows from all of them."""

    F1 = "f1"
    """F1 of the class 1."""
    MCC = "mcc"
    """Matthews' correlation coefficient, -1 to 1."""
    BLEU = "bleu"
    CHRF = "chrf"
    """Character n-gram F-score, with word n-grams for chrF++."""
    TER = "ter"
    """Edits per reference word."""
    BRIER = "brier_score"
    """Mean squared distance of the probabilities of the choices."""
    PERPLEXITY = "perplexity"
    """Perplexity of a document, word or byte."""
    OTHER = "other"
    """A function that only lm-eval or the task knows: its interval needs the standard error that lm-eval reports."""


class OutputKind(StrEnum):
    """Kind of the engine's output for a benchmark."""

    MULTIPLE_CHOICE = "multiple_choice"
    GENERATION = "generation"
    LOGLIKELIHOOD = "loglikelihood"
    """The log-probability of one given continuation."""
    PERPLEXITY = "perplexity"
    """The log-probability of whole documents (rolling log-likelihood)."""


class Extraction(StrEnum):
    """How the answer is extracted from a response."""

    CHOICE = "choice"
    """The continuation that the task's metric picks by log-probability."""
    CHOICE_PER_CHARACTER = "choice_per_character"
    """The continuation with the highest log-probability per character, as `acc_norm` picks it."""
    FILTER = "filter"
    """The output of the task's filter."""
    MATH = "math"
    """The answer that Math-Verify parses from the response."""
    NONE = "none"
    """No extraction; the whole response is scored."""


class Subset(Frozen):
    """One lm-eval task of a benchmark."""

    task: str = Field(description="Name of the lm-eval task.")
    choices: int | None = Field(
        default=None,
        ge=2,
        description="Number of choices that the board's lower bound assumes; null for no bound.",
    )
    n_documents: int | None = Field(
        default=None, ge=1, description="Number of documents in the board's run, if known."
    )
    n_shot_documents: int | None = Field(
        default=None,
        ge=1,
        description="Number of documents that the board drew few-shot examples from, if known.",
    )
    data: str | None = Field(default=None, description="Configuration of the data set that the task reads.")
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fields of the task that replace lm-eval's, to reproduce the board's procedure.",
    )
    files: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        exclude_if=_is_unset,
        description="Split -> data files of this task, where they are others than those of the benchmark's `dataset`.",
    )

    @property
    def lower_bound(self) -> float:
        """Score of random guessing, 0 to 1."""
        return 0.0 if self.choices is None else 1.0 / self.choices


class Dataset(Frozen):
    """Where a benchmark's documents come from."""

    path: str = Field(
        description="Data set repository on the hub, or the folder below evals/tasks if it is shipped."
    )
    shipped: bool = Field(default=False, description="Whether the data is shipped with the project.")
    gated: bool = Field(
        default=False, description="Whether the hub requires an account that has accepted its terms."
    )
    files: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        exclude_if=_is_unset,
        description="Split -> data files in the definition's `files`, where the data travels with the definition; `path` is then "
        "the loader of the datasets library, for example json.",
    )


class CardEntry(Frozen):
    """How the board's bot described the benchmark in a card's `model-index`."""

    dataset_name: str = Field(description="Display name of the data set.")
    dataset_type: str = Field(description="Data set as the bot named it, for example 'ai2_arc'.")
    dataset_config: str | None = Field(
        default=None, description="Configuration of the data set, if the bot gave one."
    )
    dataset_split: str | None = Field(default=None, description="Split of the data set, if the bot gave one.")
    num_few_shot: int = Field(ge=0, description="Shots, as the bot wrote them under args.")
    metric_type: str = Field(description="Metric as the bot named it.")
    metric_name: str | None = Field(
        default=None, description="Display name of the metric, if the bot gave one."
    )


class ScoringStage(Frozen):
    """One of several procedures by which a board scored the same responses over time."""

    name: str = Field(description="Short name, for example 'C'.")
    period: str = Field(description="Period in which the board used this procedure.")
    metric: str | None = Field(description="Metric that reproduces this procedure; null if none does.")
    remark: str = Field(description="How it differs from other stages and how far it is reproduced.")


class Benchmark(Frozen):
    """One column of a board."""

    name: str = Field(description="Name in commands and files, for example 'bbh'.")
    title: str = Field(description="Display name, for example 'MATH Lvl 5'.")
    tasks: str = Field(
        description="Folder of task files: below lm_eval/tasks, below evals/tasks after 'mergeboard:', or in `files` after 'files:'."
    )
    shots: int = Field(ge=0, description="Few-shot examples in each prompt.")
    metrics: tuple[str, ...] = Field(
        min_length=1, description="Metrics of the board's column, as lm-eval names them."
    )
    aggregation: Aggregation = Field(description="How the subsets' scores are aggregated into the column.")
    output: OutputKind = Field(description="Kind of the engine's output.")
    extraction: Extraction = Field(description="How the answer is extracted from a response.")
    dataset: Dataset = Field(description="Where the documents come from.")
    subsets: tuple[Subset, ...] = Field(min_length=1, description="The lm-eval tasks.")
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fields of every task that replace lm-eval's, to reproduce the board's procedure.",
    )
    functions: dict[str, str] = Field(
        default_factory=dict,
        description="Fields of every task replaced by a function: dotted name in evals.tasks.",
    )
    prepare: str | None = Field(
        default=None,
        description="Function called with each loaded task: dotted name in evals.tasks.",
    )
    card: CardEntry | None = Field(
        default=None, description="Its entry in a card's model-index; null if it has none."
    )
    remark: str | None = Field(
        default=None, description="Why its score cannot be comparable with the board's; null if it can."
    )
    stages: tuple[ScoringStage, ...] = Field(
        default=(), description="Scoring procedures over time, if the board had several."
    )
    lower_is_better: bool = Field(
        default=False,
        exclude_if=_is_unset,
        description="Whether a smaller value is better, as for perplexity.",
    )
    formula: Formula | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="How the metric follows from all documents of a subset, if it is no mean over them; it is then the only one in "
        "`metrics`.",
    )
    files: dict[str, str] = Field(
        default_factory=dict,
        exclude_if=_is_unset,
        description="The user's own task files, and the data files beside them, as text by relative path.",
    )
    code: tuple[str, ...] = Field(
        default=(),
        exclude_if=_is_unset,
        description="Tasks whose own Python was allowed by name.",
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        exclude_if=_is_unset,
        description="Weight of every subset in the mean over subsets, by its task; without it they weigh the same.",
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Benchmark:
        if not self.weights:
            return self
        tasks = [subset.task for subset in self.subsets]
        if not self.aggregation.of_subsets:
            raise ValueError(
                f"weights need a mean over subsets: set `aggregation: {Aggregation.SUBSET_MEAN}` in {self.name}"
            )
        if wrong := [task for task in self.weights if task not in tasks]:
            raise ValueError(f"weights name {wrong[0]}, which is none of {quoted_list(tasks)}")
        if missing := [task for task in tasks if task not in self.weights]:
            raise ValueError(f"weights lack {missing[0]}: give every subset of {self.name} a weight")
        if bad := [task for task, value in self.weights.items() if not 0 < value < math.inf]:
            raise ValueError(f"the weight of {bad[0]} is {self.weights[bad[0]]:g}: give a number above 0")
        return self

    @functools.cached_property
    def digest(self) -> str:
        """Digest of everything that affects a score: tasks, prompts, metrics, mergeboard's task code and shipped data."""
        shown = {"title", "card", "remark", "stages"}
        return digest_of(
            {"benchmark": self.model_dump(mode="json", exclude=shown), "files": _project_file_hashes(self)}
        )

    def weight(self, task: str) -> float:
        """Weight of a subset in the mean over subsets; 1 where none is given."""
        return self.weights.get(task, 1.0)

    def subset(self, task: str) -> Subset:
        """The subset with this lm-eval task; SuiteError if there is none."""
        for subset in self.subsets:
            if subset.task == task:
                return subset
        raise SuiteError(
            f"Benchmark '{self.name}' has no subset '{task}'; it has {quoted_list(s.task for s in self.subsets)}."
        )

    def stage(self, name: str) -> ScoringStage:
        """The scoring procedure with this name; SuiteError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise SuiteError(
            f"Benchmark '{self.name}' has no stage '{name}'; it has {quoted_list(s.name for s in self.stages)}."
        )


def _project_file_hashes(benchmark: Benchmark) -> dict[str, str]:
    """Hashes of the project's files that the benchmark depends on."""
    folders = [benchmark.dataset.path] if benchmark.dataset.shipped else []
    if benchmark.tasks.startswith(OWN_PREFIX):
        folders.append(benchmark.tasks.removeprefix(OWN_PREFIX))
    files = {f for folder in folders for f in (OWN_TASKS_DIR / folder).rglob("*") if f.is_file()}
    for function in (*benchmark.functions.values(), *([benchmark.prepare] if benchmark.prepare else [])):
        module = function.rpartition(".")[0].removeprefix("evals.tasks.")
        files.add(OWN_TASKS_DIR / (module.replace(".", "/") + ".py"))
    paths = sorted(f for f in files if "__pycache__" not in f.parts)
    return {str(f.relative_to(OWN_TASKS_DIR)): hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in paths}


def quoted_list(names: Any) -> str:
    """Names in quotes, for messages."""
    return ", ".join(f"'{name}'" for name in names)
