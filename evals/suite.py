"""Suites and their benchmarks: which tasks, how many shots, which metric, how a board turns them into its columns.

Everything that is particular to a task is data in `suites/*.yaml`; no code asks for a task's name.
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
    """How a board makes one column of the scores of a benchmark's subsets."""

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
        """Whether the lower bound is taken off."""
        return self in (Aggregation.SUBSET_MEAN_NORMALIZED, Aggregation.POOLED_NORMALIZED)


class OutputKind(StrEnum):
    """What a benchmark asks of the engine."""

    MULTIPLE_CHOICE = "multiple_choice"
    GENERATION = "generation"


class Extraction(StrEnum):
    """Where the answer that was found in a response is recorded."""

    CHOICE = "choice"
    """The continuation that the task's metric picks by log-probability."""
    CHOICE_PER_CHARACTER = "choice_per_character"
    """The continuation with the highest log-probability per character, as `acc_norm` picks it."""
    FILTER = "filter"
    """What the task's filter left of the response."""
    MATH = "math"
    """What Math-Verify finds in the response."""
    NONE = "none"
    """The whole response is judged; there is nothing to extract."""


class Subset(Frozen):
    """One lm-eval task of a benchmark."""

    task: str = Field(description="Name of the lm-eval task.")
    choices: int | None = Field(
        default=None,
        ge=2,
        description="Number of choices that the board's lower bound assumes; null is no bound.",
    )
    n_documents: int | None = Field(
        default=None, ge=1, description="Documents that the board's run had, where known."
    )
    n_shot_documents: int | None = Field(
        default=None,
        ge=1,
        description="Documents that the board drew its few-shot examples from, where known.",
    )
    data: str | None = Field(default=None, description="Configuration of the data set that the task reads.")
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fields of the task that differ from lm-eval's own, to restore the board's.",
    )

    @property
    def lower_bound(self) -> float:
        """Score of random guessing, 0 to 1."""
        return 0.0 if self.choices is None else 1.0 / self.choices


class Dataset(Frozen):
    """Where a benchmark's documents come from."""

    path: str = Field(
        description="Data set repository on the hub, or the folder below evals/tasks where it is shipped."
    )
    shipped: bool = Field(default=False, description="Whether the project brings the data along.")
    gated: bool = Field(
        default=False, description="Whether the hub asks for an account that accepted its terms."
    )


class CardEntry(Frozen):
    """How the board's bot described the benchmark in a card's `model-index`."""

    dataset_name: str = Field(description="Name of the data set, for people.")
    dataset_type: str = Field(description="Data set as the bot named it, for example 'ai2_arc'.")
    dataset_config: str | None = Field(
        default=None, description="Configuration of the data set, if the bot gave one."
    )
    dataset_split: str | None = Field(default=None, description="Split of the data set, if the bot gave one.")
    num_few_shot: int = Field(ge=0, description="Shots, as the bot wrote them under args.")
    metric_type: str = Field(description="Metric as the bot named it.")
    metric_name: str | None = Field(
        default=None, description="Name of the metric for people, if the bot gave one."
    )


class ScoringStage(Frozen):
    """One of several procedures by which a board scored the same responses over time."""

    name: str = Field(description="Short name, for example 'C'.")
    period: str = Field(description="When the board scored so.")
    metric: str | None = Field(description="Metric here that scores the same way; null where none can.")
    remark: str = Field(description="What tells it apart and how far it is restored.")


class Benchmark(Frozen):
    """One column of a board."""

    name: str = Field(description="Name in commands and files, for example 'bbh'.")
    title: str = Field(description="Name for people, for example 'MATH Lvl 5'.")
    tasks: str = Field(
        description="Folder of task files: below lm_eval/tasks, or below evals/tasks after 'mergeboard:'."
    )
    shots: int = Field(ge=0, description="Few-shot examples in each prompt.")
    metrics: tuple[str, ...] = Field(
        min_length=1, description="Metrics that make the board's column, as lm-eval names them."
    )
    aggregation: Aggregation = Field(description="How the column is made of the subsets' scores.")
    output: OutputKind = Field(description="What is asked of the engine.")
    extraction: Extraction = Field(description="Where the answer found in a response is recorded.")
    dataset: Dataset = Field(description="Where the documents come from.")
    subsets: tuple[Subset, ...] = Field(min_length=1, description="The lm-eval tasks.")
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Fields of every task that differ from lm-eval's own, to restore the board's.",
    )
    functions: dict[str, str] = Field(
        default_factory=dict,
        description="Fields of every task that are replaced by a function: dotted name in evals.tasks.",
    )
    prepare: str | None = Field(
        default=None,
        description="Function that is given each task after it is loaded: dotted name in evals.tasks.",
    )
    card: CardEntry | None = Field(
        default=None, description="Its entry in a card; null where it never belongs in one."
    )
    remark: str | None = Field(
        default=None, description="Why its figure is not the board's, where it cannot be."
    )
    stages: tuple[ScoringStage, ...] = Field(
        default=(), description="Scoring procedures over time, where the board had several."
    )

    @functools.cached_property
    def digest(self) -> str:
        """Identity of all that affects a score: tasks, prompts, metrics, own task code and shipped data."""
        shown = {"title", "card", "remark", "stages"}
        return digest_of(
            {"benchmark": self.model_dump(mode="json", exclude=shown), "files": _own_files(self)}
        )

    def subset(self, task: str) -> Subset:
        """The subset with this lm-eval task."""
        for subset in self.subsets:
            if subset.task == task:
                return subset
        raise SuiteError(
            f"Benchmark '{self.name}' has no subset '{task}'; it has {_list(s.task for s in self.subsets)}."
        )

    def stage(self, name: str) -> ScoringStage:
        """The scoring procedure of this name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise SuiteError(
            f"Benchmark '{self.name}' has no stage '{name}'; it has {_list(s.name for s in self.stages)}."
        )


class BoardSettings(Frozen):
    """The choices of the board's own runs that a score depends on."""

    add_bos_token: bool | None = Field(
        default=None, description="Whether a BOS token was added; null is the tokenizer's way."
    )
    add_bos_for: tuple[str, ...] = Field(
        default=(),
        description="Parts of a configuration's model_type for which the board forced a BOS token.",
    )
    max_length: int | None = Field(
        default=None, ge=1, description="Longest sequence in tokens; null is the checkpoint's."
    )
    fewshot_as_multiturn: bool = Field(
        default=True,
        description="Whether few-shot examples are turns of the chat, where a template is applied.",
    )
    chat_template: ChatTemplate | None = Field(
        default=None, description="The board's fixed choice; null where each submission chose."
    )


class Suite(Frozen):
    """A leaderboard, or a set of benchmarks that is run like one."""

    name: str = Field(description="Name in commands and files.")
    title: str = Field(description="Name for people.")
    smoke: bool = Field(
        default=False, description="Whether it only shows that everything works; never worth a card."
    )
    settings: BoardSettings = Field(description="The board's own choices.")
    card_source_name: str | None = Field(
        default=None, description="Name of the source in a card's model-index."
    )
    card_source_url: str | None = Field(
        default=None, description="Address of the source in a card, with {checkpoint} for 'org/name'."
    )
    benchmarks: tuple[Benchmark, ...] = Field(min_length=1, description="The columns, in the board's order.")

    @model_validator(mode="after")
    def _no_name_twice(self) -> Suite:
        names = [b.name for b in self.benchmarks]
        tasks = [s.task for b in self.benchmarks for s in b.subsets]
        cards = [f"{b.card.dataset_type} {b.card.dataset_config or ''}" for b in self.benchmarks if b.card]
        # A card's model-index tells results apart by data set and configuration alone.
        for kind, values in (("benchmark", names), ("task", tasks), ("card data set", cards)):
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(f"{kind} {_list(twice)} is there twice")
        return self

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark of this name."""
        for benchmark in self.benchmarks:
            if benchmark.name == name:
                return benchmark
        raise SuiteError(
            f"Suite '{self.name}' has no benchmark '{name}'; it has {_list(b.name for b in self.benchmarks)}."
        )

    def eval_settings(
        self, chat_template: ChatTemplate, *, model_type: str = "", limit: int | None = None
    ) -> EvalSettings:
        """The board's own settings for a checkpoint of this `model_type`, with or without a chat template."""
        forced_bos = any(part in model_type for part in self.settings.add_bos_for)
        return EvalSettings(
            chat_template=chat_template,
            fewshot_as_multiturn=self.settings.fewshot_as_multiturn and chat_template is ChatTemplate.ON,
            add_bos_token=True if forced_bos else self.settings.add_bos_token,
            limit=limit,
        )

    def differences(self, settings: EvalSettings, max_length: int | None) -> tuple[str, ...]:
        """In what an evaluation with these settings is not this board's procedure, one sentence each."""
        board = self.eval_settings(settings.chat_template)
        found = []
        if self.smoke:
            found.append("Smoke data of the project's own, no leaderboard's.")
        if self.settings.chat_template not in (None, settings.chat_template):
            found.append(f"The board ran with the chat template {self.settings.chat_template}.")
        if settings.fewshot_as_multiturn != board.fewshot_as_multiturn:
            found.append(
                f"The board ran with fewshot_as_multiturn {_yes(board.fewshot_as_multiturn)} under this template."
            )
        if settings.add_bos_token not in (
            board.add_bos_token,
            *([True] if self.settings.add_bos_for else []),
        ):
            found.append(f"The board ran with add_bos_token {_yes(board.add_bos_token)}.")
        if (
            self.settings.max_length is not None
            and max_length is not None
            and max_length > self.settings.max_length
        ):
            found.append(
                f"The board kept at most {self.settings.max_length} tokens of a prompt, not {max_length}."
            )
        if settings.seeds != board.seeds:
            found.append("The board ran with lm-eval's default seeds.")
        return tuple(found)


def suite_names() -> tuple[str, ...]:
    """Names of the suites that the project brings along."""
    return tuple(sorted(path.stem for path in SUITES_DIR.glob("*.yaml")))


def load_suite(name: str) -> Suite:
    """A suite of the project by its name; jobs carry that name alone, so that every node knows what it means."""
    path = SUITES_DIR / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not path.is_file():
        raise SuiteError(f"There is no suite '{name}'; choose one of {_list(suite_names())}.")
    return read_suite(path)


def read_suite(path: Path) -> Suite:
    """A suite from its file; SuiteError names the file and the field that does not fit."""
    return _load(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _load(path: Path, _mtime_ns: int) -> Suite:
    try:
        data: Any = yaml.load(
            path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SuiteError(
            f"Suite file {path} is not YAML: {' '.join(str(error).split())}; mend the file."
        ) from error
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise SuiteError(f"Suite file {path}: {where}: {first['msg']}; mend the field.") from error


def _own_files(benchmark: Benchmark) -> dict[str, str]:
    """Hashes of the project's own files that the benchmark depends on."""
    folders = [benchmark.dataset.path] if benchmark.dataset.shipped else []
    if benchmark.tasks.startswith(OWN_PREFIX):
        folders.append(benchmark.tasks.removeprefix(OWN_PREFIX))
    files = {f for folder in folders for f in (OWN_TASKS_DIR / folder).rglob("*") if f.is_file()}
    for function in (*benchmark.functions.values(), *([benchmark.prepare] if benchmark.prepare else [])):
        module = function.rpartition(".")[0].removeprefix("evals.tasks.")
        files.add(OWN_TASKS_DIR / (module.replace(".", "/") + ".py"))
    kept = sorted(f for f in files if "__pycache__" not in f.parts)
    return {str(f.relative_to(OWN_TASKS_DIR)): hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in kept}


def _yes(value: bool | None) -> str:
    return {True: "on", False: "off", None: "left to the tokenizer"}[value]


def _list(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
