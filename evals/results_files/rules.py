"""The rules in `evals/board/*.yaml`: what other files call a suite's tasks, and which stage scored a figure."""

from __future__ import annotations

import datetime
import functools
import re

import yaml
from pydantic import Field

from evals.claims.facts import Fact
from evals.claims.labels import BOARD_DIR
from evals.engine import Frozen
from evals.results_files.imported_run import FileFormat, ResultFile, TaskResult


class KeyRule(Frozen):
    """How some kind of file calls a task."""

    key: str = Field(description="Regular expression over the file's key.")
    task: str = Field(description="The suite's task; may use the expression's groups.")
    metrics: dict[str, str] = Field(description="The suite's metric for each of the file's.")
    formats: tuple[FileFormat, ...] = Field(default=(), description="Kinds of files it is for; none is all.")
    nan_is_zero: bool = Field(default=False, description="Whether the board showed what is no number as 0.")
    skip_versions: tuple[str, ...] = Field(
        default=(), description="Task versions that the board passed over."
    )
    remark: str | None = Field(
        default=None, description="Why the figure is not the board's, where it is not."
    )


class StageRule(Frozen):
    """When a benchmark was scored at a stage; conditions that are not given always hold."""

    stage: str = Field(description="Name of the stage.")
    reason: str = Field(description="How one knows, for people.")
    versions: tuple[str | None, ...] | None = Field(
        default=None, description="Task versions; null for a file without."
    )
    harness_versions: tuple[str, ...] | None = Field(default=None, description="Versions of lm-eval.")
    since: datetime.date | None = Field(default=None, description="First day.")
    until: datetime.date | None = Field(default=None, description="Day after the last.")
    metric_beside: str | None = Field(default=None, description="Metric that stands beside it.")

    def holds(self, task: TaskResult, file: ResultFile) -> bool:
        """Whether the rule says something about this task of this file."""
        day = file.measured_at.date() if file.measured_at is not None else None
        if (self.since or self.until) and day is None:
            return False
        return (
            (self.versions is None or _plain(task.version) in self.versions)
            and (
                self.harness_versions is None or file.facts.get(Fact.HARNESS_VERSION) in self.harness_versions
            )
            and (self.since is None or (day is not None and day >= self.since))
            and (self.until is None or (day is not None and day < self.until))
            and (self.metric_beside is None or self.metric_beside in task.metrics)
        )


@functools.cache
def key_rules() -> tuple[KeyRule, ...]:
    """The rules for keys that are no suite's own."""
    data = yaml.safe_load((BOARD_DIR / "result_keys.yaml").read_text(encoding="utf-8"))
    return tuple(KeyRule.model_validate(rule) for rule in data)


@functools.cache
def stage_rules(suite: str, benchmark: str) -> tuple[StageRule, ...]:
    """The rules for the stages of a benchmark; none where it had only one."""
    data = yaml.safe_load((BOARD_DIR / "stages.yaml").read_text(encoding="utf-8"))
    rules = data["benchmarks"].get(benchmark, []) if data["suite"] == suite else []
    return tuple(StageRule.model_validate(rule) for rule in rules)


def renamed(task: TaskResult, kind: FileFormat | None = None) -> tuple[TaskResult, KeyRule | None]:
    """The task under the suite's own name and metrics, and the rule that says so; unchanged where none does."""
    for rule in key_rules():
        match = re.fullmatch(rule.key, task.key)
        if match is None or (rule.formats and kind is not None and kind not in rule.formats):
            continue
        lost = {rule.metrics.get(m, m) for m in task.nan_metrics}
        metrics = {
            ours: task.metrics[theirs] for theirs, ours in rule.metrics.items() if theirs in task.metrics
        }
        stderrs = {
            ours: task.stderrs[theirs] for theirs, ours in rule.metrics.items() if theirs in task.stderrs
        }
        if rule.nan_is_zero:
            metrics |= dict.fromkeys(lost, 0.0)
        own = {
            "key": match.expand(rule.task),
            "metrics": metrics,
            "stderrs": stderrs,
            "nan_metrics": tuple(lost),
        }
        return task.model_copy(update=own), rule
    return task, None


def renamed_key(key: str) -> str:
    """The suite's own name of a task."""
    return renamed(TaskResult(key=key, metrics={}))[0].key


def _plain(version: str | None) -> str | None:
    """Versions 1 and 1.0 are the same."""
    return f"{version}.0" if version is not None and version.isdigit() else version
