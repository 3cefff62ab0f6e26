"""Suites and their benchmarks: tasks, shots, metrics and aggregation into a board's columns.

Everything specific to a task is data in `suites/*.yaml`; no code depends on a task's name.
"""

from __future__ import annotations

import functools
import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from evals.engine import Frozen, digest_of
from evals.errors import SuiteError
from evals.scores import ChatTemplate, EvalSettings

SUITES_DIR = Path(__file__).parent / "suites"
OWN_TASKS_DIR = Path(__file__).parent / "tasks"
OWN_PREFIX = "mergeboard:"


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


class OutputKind(StrEnum):
    """Kind of the engine's output for a benchmark."""

    MULTIPLE_CHOICE = "multiple_choice"
    GENERATION = "generation"


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
        description="Folder of task files: below lm_eval/tasks, or below evals/tasks after 'mergeboard:'."
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

    @functools.cached_property
    def digest(self) -> str:
        """Digest of everything that affects a score: tasks, prompts, metrics, mergeboard's task code and shipped data."""
        shown = {"title", "card", "remark", "stages"}
        return digest_of(
            {"benchmark": self.model_dump(mode="json", exclude=shown), "files": _project_file_hashes(self)}
        )

    def subset(self, task: str) -> Subset:
        """The subset with this lm-eval task; SuiteError if there is none."""
        for subset in self.subsets:
            if subset.task == task:
                return subset
        raise SuiteError(
            f"Benchmark '{self.name}' has no subset '{task}'; it has {_quoted_list(s.task for s in self.subsets)}."
        )

    def stage(self, name: str) -> ScoringStage:
        """The scoring procedure with this name; SuiteError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise SuiteError(
            f"Benchmark '{self.name}' has no stage '{name}'; it has {_quoted_list(s.name for s in self.stages)}."
        )


class BoardSettings(Frozen):
    """Settings of the board's runs that affect a score."""

    add_bos_token: bool | None = Field(
        default=None, description="Whether a BOS token was added; null for the tokenizer's default."
    )
    add_bos_for: tuple[str, ...] = Field(
        default=(),
        description="Substrings of config.json's model_type for which the board forced a BOS token.",
    )
    max_length: int | None = Field(
        default=None, ge=1, description="Longest sequence in tokens; null for the checkpoint's."
    )
    fewshot_as_multiturn: bool = Field(
        default=True,
        description="Whether few-shot examples are turns of the chat if a template is applied.",
    )
    chat_template: ChatTemplate | None = Field(
        default=None, description="The board's fixed choice; null if each submission chose."
    )


class Suite(Frozen):
    """A leaderboard, or another set of benchmarks."""

    name: str = Field(description="Name in commands and files.")
    title: str = Field(description="Display name.")
    smoke: bool = Field(
        default=False,
        description="Whether it is smoke test data, whose scores never go into a card.",
    )
    settings: BoardSettings = Field(description="Settings of the board's runs.")
    card_source_name: str | None = Field(
        default=None, description="Name of the source in a card's model-index."
    )
    card_source_url: str | None = Field(
        default=None, description="Address of the source in a card, with {checkpoint} for 'org/name'."
    )
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1, description="The columns, in the board's order.")

    @model_validator(mode="after")
    def _check_unique_names(self) -> Suite:
        names = [b.name for b in self.benchmarks]
        tasks = [s.task for b in self.benchmarks for s in b.subsets]
        cards = [f"{b.card.dataset_type} {b.card.dataset_config or ''}" for b in self.benchmarks if b.card]
        # A card's model-index identifies results by data set and configuration.
        for kind, values in (("benchmark", names), ("task", tasks), ("card data set", cards)):
            duplicates = sorted({v for v in values if values.count(v) > 1})
            if duplicates:
                raise ValueError(f"{kind} {_quoted_list(duplicates)} is listed twice")
        return self

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with this name; SuiteError if there is none."""
        for benchmark in self.benchmarks:
            if benchmark.name == name:
                return benchmark
        raise SuiteError(
            f"Suite '{self.name}' has no benchmark '{name}'; it has {_quoted_list(b.name for b in self.benchmarks)}."
        )

    def eval_settings(
        self, chat_template: ChatTemplate, *, model_type: str = "", limit: int | None = None
    ) -> EvalSettings:
        """The board's settings for a checkpoint of this `model_type`, with or without a chat template."""
        forced_bos = any(part in model_type for part in self.settings.add_bos_for)
        return EvalSettings(
            chat_template=chat_template,
            fewshot_as_multiturn=self.settings.fewshot_as_multiturn and chat_template is ChatTemplate.ON,
            add_bos_token=True if forced_bos else self.settings.add_bos_token,
            limit=limit,
        )

    def differences(self, settings: EvalSettings, max_length: int | None) -> tuple[str, ...]:
        """Deviations of an evaluation with these settings from the board's procedure, one sentence each."""
        board = self.eval_settings(settings.chat_template)
        sentences = []
        if self.smoke:
            sentences.append("Smoke test data, not leaderboard data.")
        if self.settings.chat_template not in (None, settings.chat_template):
            sentences.append(f"The board ran with the chat template {self.settings.chat_template}.")
        if settings.fewshot_as_multiturn != board.fewshot_as_multiturn:
            sentences.append(
                f"The board ran with fewshot_as_multiturn {_on_off(board.fewshot_as_multiturn)} under this template."
            )
        if settings.add_bos_token not in (
            board.add_bos_token,
            *([True] if self.settings.add_bos_for else []),
        ):
            sentences.append(f"The board ran with add_bos_token {_on_off(board.add_bos_token)}.")
        if (
            self.settings.max_length is not None
            and max_length is not None
            and max_length > self.settings.max_length
        ):
            sentences.append(
                f"The board kept at most {self.settings.max_length} tokens of a prompt, not {max_length}."
            )
        if settings.seeds != board.seeds:
            sentences.append("The board ran with lm-eval's default seeds.")
        return tuple(sentences)


def suite_names() -> tuple[str, ...]:
    """Names of the shipped suites."""
    return tuple(sorted(path.stem for path in SUITES_DIR.glob("*.yaml")))


def load_suite(name: str) -> Suite:
    """A shipped suite by name; jobs store only the name, and every node resolves it with its own files."""
    path = SUITES_DIR / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not path.is_file():
        raise SuiteError(f"There is no suite '{name}'; choose one of {_quoted_list(suite_names())}.")
    return read_suite(path)


def read_suite(path: Path) -> Suite:
    """Read a suite from its file; SuiteError names the file and the invalid field."""
    return _load(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _load(path: Path, _mtime_ns: int) -> Suite:
    try:
        data: Any = yaml.load(
            path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(
            f"Suite file {path} is not YAML: {' '.join(str(error).split())}; correct the file."
        ) from error
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise SuiteError(f"Suite file {path}: {where}: {first['msg']}; correct the field.") from error


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


def _on_off(value: bool | None) -> str:
    return {True: "on", False: "off", None: "left to the tokenizer"}[value]


def _quoted_list(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
