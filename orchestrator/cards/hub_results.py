"""`.eval_results/*.yaml` of the hub: only values that a registered benchmark defines, all others refused with the reason."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump
from pydantic import AwareDatetime, Field

import evals
from evals.claims.facts import Fact, Facts
from evals.engine import Frozen
from evals.rounding import rounded
from evals.scores import BenchmarkScore
from evals.suite import Benchmark, OutputKind
from orchestrator.errors import CardError

_REGISTRY = Path(evals.__file__).parent / "board" / "hub_benchmarks.yaml"


class HubBenchmark(Frozen):
    """A benchmark that is registered on the hub."""

    dataset: str = Field(description="Data set repository of the benchmark.")
    task_id: str = Field(description="Id of the task in the data set's eval.yaml.")
    metric: str = Field(description="The benchmark's metric, in words.")
    protocol: str = Field(description="How the benchmark asks and scores, in words.")
    documents: int = Field(ge=1, description="Number of questions of a whole run.")
    metrics: tuple[str, ...] = Field(description="Names of the metric in the tools' files, without a filter.")
    tasks: dict[str, tuple[str, ...]] = Field(description="Tasks that follow the protocol, by tool.")


class HubValue(Frozen):
    """A score that may be written into `.eval_results`."""

    result: BenchmarkScore = Field(description="The score.")
    definition: Benchmark = Field(description="Definition of the benchmark.")
    facts: Facts = Field(description="How it was measured.")
    of_suite: bool = Field(
        description="Whether a suite defines it: then it follows a leaderboard's procedure."
    )
    measured_at: AwareDatetime | None = Field(default=None, description="When it was measured, if known.")
    source_name: str | None = Field(default=None, description="Name of the source.")
    source_url: str | None = Field(default=None, description="URL of the source.")
    notes: tuple[str, ...] = Field(default=(), description="Notes on the measuring conditions.")


@functools.cache
def registry() -> tuple[HubBenchmark, ...]:
    """The registered benchmarks that are known."""
    data = yaml.safe_load(_REGISTRY.read_text(encoding="utf-8"))
    return tuple(HubBenchmark.model_validate(entry) for entry in data)


def hub_benchmark(value: HubValue) -> HubBenchmark | str:
    """The registered benchmark that defines a value, or the reason why none does."""
    dataset = value.definition.dataset.path.partition(" (")[0]
    tasks = {subset.task for subset in value.definition.subsets} | {value.definition.name}
    tool = value.facts.get(Fact.HARNESS) or "lm-eval"
    names = {name for task in tasks for name in (task, task.partition("|")[0])}
    same_task = next((b for b in registry() if names & set(b.tasks.get(tool, ()))), None)
    same_data = next((b for b in registry() if b.dataset.lower() == dataset.lower()), None)
    registered = same_task or same_data
    registered = same_task or same_data
    if registered is None:
        return f"{value.result.title}: {dataset} is not registered as a benchmark of the hub"
    reason = _other_measurement(value, registered, is_task=same_task is not None)
    return registered if reason is None else f"{value.result.title}: {reason}"


def _other_measurement(value: HubValue, registered: HubBenchmark, *, is_task: bool) -> str | None:
    """Why a value is not the registered benchmark's metric under its protocol; None if it is."""
    where = f"{registered.dataset} `{registered.task_id}`"
    if value.definition.aggregation.normalizes:
        return f"a normalized score; {where} takes the {registered.metric}"
    if value.definition.output is OutputKind.MULTIPLE_CHOICE:
        return f"choices scored by log-likelihood; {where} takes {registered.protocol}"
    if not is_task or (value.of_suite and value.definition.overrides):
        tool = value.facts.get(Fact.HARNESS) or "lm-eval"
        own = ", ".join(registered.tasks.get(tool, ())) or "none of this tool"
        return f"another protocol than that of {where} ({registered.protocol}; tasks: {own})"
    if value.result.metric.partition(",")[0] not in registered.metrics:
        return f"{value.result.metric} is not the metric of {where} ({registered.metric})"
    if value.result.n != registered.documents or value.result.partial:
        return f"{value.result.n:,} of the {registered.documents:,} questions of {where}"
    return None


def hub_yaml(values: Sequence[HubValue]) -> tuple[str, tuple[str, ...]]:
    """The file's text with one entry per accepted value, and why the others are left out.

    Raises CardError, with the reasons, if no value is accepted. Values are percentages with two decimals.
    """
    entries, refused = [], []
    for value in values:
        registered = hub_benchmark(value)
        if isinstance(registered, str):
            refused.append(registered)
            continue
        shots = value.facts.get(Fact.SHOTS)
        notes = [*([f"{shots}-shot"] if shots is not None else []), value.result.metric, *value.notes]
        entries.append(
            EvalResultEntry(
                dataset_id=registered.dataset,
                task_id=registered.task_id,
                value=rounded(100 * value.result.raw),
                date=_utc(value.measured_at),
                source_url=value.source_url,
                source_name=value.source_name,
                notes="; ".join(notes),
            )
        )
    if not entries:
        raise CardError(
            f"No score here is one that a benchmark of the hub defines ({'; '.join(refused)}); write them with "
            "--format model-index or table."
        )
    text: str = yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return text, tuple(refused)


def _utc(moment: datetime.datetime | None) -> str | None:
    """A timestamp as ISO 8601 in UTC, to the second."""
    return None if moment is None else moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
