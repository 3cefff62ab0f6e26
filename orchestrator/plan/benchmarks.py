"""Benchmarks and probes that every candidate of a sweep is evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from evals.datasets import check, content_digest
from evals.engine import Frozen
from evals.probes import SCAN_KEYS, Split, get_probe, natural_template
from evals.scores import PROBE_SUITE, ChatTemplate, EvalSettings
from evals.suite import Suite, define_suite
from evals.suite_file import SuiteRequest, resolve_suite
from evals.task_files import task_digest
from orchestrator.errors import PlanError, SweepError
from orchestrator.plan.job import BenchmarkIdentity
from orchestrator.plan.sweep import SuiteEntry, Sweep
from orchestrator.provenance import libraries_identity, scorer_identity
from orchestrator.settings import Settings
from recipes.sources import SourceFacts

_PROBE_LENGTH = 4096
"""Fits the longest probe. Equal to the leaderboards' limit, so that one engine serves both."""


class MissingBenchmark(Frozen):
    """A benchmark that cannot run on this machine or cluster."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    reason: str = Field(description="What is missing, and the command that installs it.")


class PlannedBenchmark(BenchmarkIdentity):
    """A benchmark or probe with its settings: an evaluation without the candidate and the engine."""

    max_length: int | None = Field(description="Longest sequence in tokens; null: the checkpoint's limit.")


def measures_of(
    sweep: Sweep, facts: SourceFacts, settings: Settings, suites: Mapping[SuiteRequest, Suite]
) -> tuple[list[PlannedBenchmark], list[MissingBenchmark]]:
    """Benchmarks whose data is available, and those whose data is missing; PlanError if none is available."""
    planned: list[PlannedBenchmark] = []
    missing: list[MissingBenchmark] = []
    for entry in sweep.suites:
        if entry.suite == PROBE_SUITE:
            planned += _probes(entry, sweep, facts)
        else:
            _benchmarks(entry, suites[entry.request], sweep, facts, settings, planned, missing)
    if not planned:
        raise PlanError(f"None of the benchmarks can run here: {missing[0].benchmark}: {missing[0].reason}")
    return planned, missing


def resolve_suites(
    sweep: Sweep, folder: Path, planned: Mapping[SuiteRequest, Suite]
) -> dict[SuiteRequest, Suite]:
    """The suites of a sweep by what names them; `planned` are those of an earlier plan of the run, which are kept.

    SweepError if two suites have one name.
    """
    suites: dict[SuiteRequest, Suite] = {}
    by_name: dict[str, Suite] = {}
    for entry in sweep.suites:
        request = entry.request
        if entry.suite == PROBE_SUITE or request in suites:
            continue
        kept = planned.get(request)
        suite = suites[request] = kept or resolve_suite(request, folder)
        if kept is not None:
            define_suite(kept)
        if by_name.setdefault(suite.name, suite) != suite:
            raise SweepError(
                f"Two suites of the sweep are called '{suite.name}'; give one of them another `name`."
            )
    return suites


def _benchmarks(
    entry: SuiteEntry,
    suite: Suite,
    sweep: Sweep,
    facts: SourceFacts,
    settings: Settings,
    planned: list[PlannedBenchmark],
    missing: list[MissingBenchmark],
) -> None:
    """Append one suite's benchmarks to `planned` or `missing`; `auto` prefers the suite's chat template."""
    template = _chat_template(sweep, facts)
    if sweep.chat_template == "auto" and suite.settings.chat_template is not None:
        template = suite.settings.chat_template
    eval_settings = suite.eval_settings(
        template, model_type=facts.config.model_type, limit=entry.limit or sweep.limit
    ).model_copy(update={"seeds": sweep.seeds})
    names = entry.benchmarks
    for benchmark in [suite.benchmark(name) for name in names] if names else suite.benchmarks:
        status = check(benchmark, settings.datasets)
        if status.location is None:
            reason = f"{status.reason} Get it with: {status.command}"
            missing.append(MissingBenchmark(suite=suite.name, benchmark=benchmark.name, reason=reason))
            continue
        planned.append(
            PlannedBenchmark(
                suite=suite.name,
                benchmark=benchmark.name,
                benchmark_digest=benchmark.digest,
                dataset_digest=content_digest(status.location, benchmark),
                settings=eval_settings,
                scorer=scorer_identity(task_digest(benchmark)),
                max_length=suite.settings.max_length,
            )
        )


def _probes(entry: SuiteEntry, sweep: Sweep, facts: SourceFacts) -> list[PlannedBenchmark]:
    """Probes by name; by default a scan's search split. One digest covers definition and data."""
    if entry.limit is not None:
        raise SweepError("Probes are asked whole: leave the limit out for the suite probes.")
    _chat_template(sweep, facts)
    planned = []
    for name in entry.benchmarks or tuple(f"{key}-{Split.SEARCH}" for key in SCAN_KEYS):
        probe = get_probe(name)
        template = natural_template(probe, facts.has_chat_template)
        if sweep.chat_template != "auto":
            template = ChatTemplate(sweep.chat_template)
        planned.append(
            PlannedBenchmark(
                suite=PROBE_SUITE,
                benchmark=probe.name,
                benchmark_digest=probe.digest,
                dataset_digest=probe.digest,
                settings=EvalSettings(chat_template=template, fewshot_as_multiturn=False),
                scorer=f"{PROBE_SUITE} {libraries_identity()}",
                max_length=_PROBE_LENGTH,
            )
        )
    return planned


def _chat_template(sweep: Sweep, facts: SourceFacts) -> ChatTemplate:
    """Resolve `auto` from the base's tokenizer, once for all candidates."""
    if sweep.chat_template == "auto":
        return ChatTemplate.ON if facts.has_chat_template else ChatTemplate.OFF
    if sweep.chat_template == "on" and not facts.has_chat_template:
        raise PlanError(
            f"The chat template is on, but the tokenizer of {sweep.base} has none; use auto or off."
        )
    return ChatTemplate(sweep.chat_template)
