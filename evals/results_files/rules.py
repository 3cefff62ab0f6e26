"""The rules in `evals/board/*.yaml`: task names in other files, and the scoring stage of a figure."""

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
    """The name of a task in some kinds of result files."""

    key: str = Field(description="Regular expression over the file's key.")
    task: str = Field(description="The suite's task; may use the expression's groups.")
    metrics: dict[str, str] = Field(description="The suite's metric by the file's metric.")
    formats: tuple[FileFormat, ...] = Field(
        default=(), description="Formats that the rule applies to; empty for all."
    )
    nan_is_zero: bool = Field(default=False, description="Whether the board showed NaN as 0.")
    skip_versions: tuple[str, ...] = Field(default=(), description="Task versions that the board skipped.")
    remark: str | None = Field(
        default=None, description="Why the figure differs from the board's; null if it does not."
    )


class StageRule(Frozen):
    """Conditions under which a benchmark was scored at a stage; unset conditions always hold."""

    stage: str = Field(description="Name of the stage.")
    reason: str = Field(description="Reason in one sentence.")
    versions: tuple[str | None, ...] | None = Field(
        default=None, description="Task versions; an entry of null matches a file without one."
    )
    harness_versions: tuple[str, ...] | None = Field(default=None, description="Versions of lm-eval.")
    since: datetime.date | None = Field(default=None, description="First day.")
    until: datetime.date | None = Field(default=None, description="Day after the last.")
    metric_beside: str | None = Field(default=None, description="Metric that the task must also have.")

    def holds(self, task: TaskResult, file: ResultFile) -> bool:
        """Whether the rule applies to this task of this file."""
        day = file.measured_at.date() if file.measured_at is not None else None
        if (self.since or self.until) and day is None:
            return False
        return (
            (self.versions is None or _normalized_version(task.version) in self.versions)
            and (
                self.harness_versions is None or file.facts.get(Fact.HARNESS_VERSION) in self.harness_versions
            )
            and (self.since is None or (day is not None and day >= self.since))
            and (self.until is None or (day is not None and day < self.until))
            and (self.metric_beside is None or self.metric_beside in task.metrics)
        )


@functools.cache
def key_rules() -> tuple[KeyRule, ...]:
    """The rules for keys that differ from the suites' task names."""
    data = yaml.safe_load((BOARD_DIR / "result_keys.yaml").read_text(encoding="utf-8"))
    return tuple(KeyRule.model_validate(rule) for rule in data)


@functools.cache
def stage_rules(suite: str, benchmark: str) -> tuple[StageRule, ...]:
    """The rules for the stages of a benchmark; empty if it has only one."""
    data = yaml.safe_load((BOARD_DIR / "stages.yaml").read_text(encoding="utf-8"))
    rules = data["benchmarks"].get(benchmark, []) if data["suite"] == suite else []
    return tuple(StageRule.model_validate(rule) for rule in rules)


def rename_task(task: TaskResult, kind: FileFormat | None = None) -> tuple[TaskResult, KeyRule | None]:
    """The task with the suite's name and metrics, and the rule used; unchanged, with None, if no rule applies."""
    for rule in key_rules():
        match = re.fullmatch(rule.key, task.key)
        if match is None or (rule.formats and kind is not None and kind not in rule.formats):
            continue
        nan_metrics = {rule.metrics.get(m, m) for m in task.nan_metrics}
        metrics = {
            target: task.metrics[source] for source, target in rule.metrics.items() if source in task.metrics
        }
        stderrs = {
            target: task.stderrs[source] for source, target in rule.metrics.items() if source in task.stderrs
        }
        if rule.nan_is_zero:
            metrics |= dict.fromkeys(nan_metrics, 0.0)
        suite_fields = {
            "key": match.expand(rule.task),
            "metrics": metrics,
            "stderrs": stderrs,
            "nan_metrics": tuple(nan_metrics),
        }
        return task.model_copy(update=suite_fields), rule
    return task, None


def rename_key(key: str) -> str:
    """The suite's name of a task."""
    return rename_task(TaskResult(key=key, metrics={}))[0].key


def _normalized_version(version: str | None) -> str | None:
    """The version with 1 written as 1.0."""
    return f"{version}.0" if version is not None and version.isdigit() else version
