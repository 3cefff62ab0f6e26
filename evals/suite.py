"""Suites and their benchmarks: tasks, shots, metrics and aggregation into a board's columns.

Everything specific to a task is data in `suites/*.yaml`; no code depends on a task's name.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from evals.benchmark import (
    FILES_PREFIX,
    OWN_PREFIX,
    OWN_TASKS_DIR,
    Aggregation,
    Benchmark,
    CardEntry,
    Dataset,
    Extraction,
    OutputKind,
    ScoringStage,
    Subset,
    quoted_list,
)
from evals.engine import Frozen, digest_of
from evals.errors import SuiteError
from evals.scores import PROBE_SUITE, ChatTemplate, EvalSettings

__all__ = [
    "FILES_PREFIX",
    "OWN_PREFIX",
    "OWN_TASKS_DIR",
    "Aggregation",
    "Benchmark",
    "BoardSettings",
    "CardEntry",
    "Dataset",
    "Extraction",
    "OutputKind",
    "ScoringStage",
    "Subset",
    "Suite",
    "define_suite",
    "defined_names",
    "load_suite",
    "read_suite",
    "suite_names",
    "suite_with",
]

SUITES_DIR = Path(__file__).parent / "suites"


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
                raise ValueError(f"{kind} {quoted_list(duplicates)} is listed twice")
        return self

    @functools.cached_property
    def text(self) -> str:
        """The definition as canonical JSON, as it travels with jobs and is kept in the store."""
        return self.model_dump_json(exclude_defaults=True)

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the definition."""
        return digest_of(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def has_average(self) -> bool:
        """Whether a mean over the benchmarks means anything: in all of them a larger value is better."""
        return not any(benchmark.lower_is_better for benchmark in self.benchmarks)

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with this name; SuiteError if there is none."""
        for benchmark in self.benchmarks:
            if benchmark.name == name:
                return benchmark
        raise SuiteError(
            f"Suite '{self.name}' has no benchmark '{name}'; it has {quoted_list(b.name for b in self.benchmarks)}."
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


_defined: dict[str, dict[str, Suite]] = {}
"""Suites of users in this process: name -> digest -> definition, the newest last."""


def suite_names() -> tuple[str, ...]:
    """Names of the shipped suites."""
    return tuple(sorted(path.stem for path in SUITES_DIR.glob("*.yaml")))


def defined_names() -> tuple[str, ...]:
    """Names of the users' suites that this process knows: of its plan, its jobs and the stores that it opened."""
    return tuple(_defined)


def define_suite(suite: Suite) -> None:
    """Make a user's suite known in this process; SuiteError if a shipped suite, or the set of probes, has its name."""
    if suite.name in (*suite_names(), PROBE_SUITE):
        raise SuiteError(f"'{suite.name}' is the name of a shipped suite; give your suite another `name`.")
    versions = _defined.setdefault(suite.name, {})
    versions.pop(suite.digest, None)
    versions[suite.digest] = suite


def load_suite(name: str) -> Suite:
    """A shipped suite, or the newest definition of a user's, by name."""
    if versions := _defined.get(name):
        return next(reversed(versions.values()))
    path = SUITES_DIR / f"{name}.yaml"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not path.is_file():
        names = (*suite_names(), *defined_names())
        raise SuiteError(f"There is no suite '{name}'; choose one of {quoted_list(names)}.")
    return read_suite(path)


def suite_with(name: str, benchmark: str, digest: str) -> Suite:
    """The definition of a suite in which the benchmark has this digest; the newest if there is none."""
    for suite in reversed(_defined.get(name, {}).values()):
        if any(b.name == benchmark and b.digest == digest for b in suite.benchmarks):
            return suite
    return load_suite(name)


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


def _on_off(value: bool | None) -> str:
    return {True: "on", False: "off", None: "left to the tokenizer"}[value]
