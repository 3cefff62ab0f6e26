"""What is asked of every candidate of a sweep: benchmarks of suites, and probes."""

from __future__ import annotations

from pydantic import Field

from evals.datasets import check, content_digest
from evals.engine import Frozen
from evals.probes import SCAN_KEYS, Split, get_probe, natural_template
from evals.scores import PROBE_SUITE, ChatTemplate, EvalSettings
from evals.suite import load_suite
from evals.task_files import task_digest
from orchestrator.errors import PlanError, SweepError
from orchestrator.plan.job import BenchmarkIdentity
from orchestrator.plan.sweep import SuiteEntry, Sweep
from orchestrator.provenance import libraries_identity, scorer_identity
from orchestrator.settings import Settings
from recipes.sources import SourceFacts

_PROBE_LENGTH = 4096
"""Room for the longest probe; the boards' own length, so that one engine serves a probe and a board."""


class MissingBenchmark(Frozen):
    """A benchmark that cannot run here."""

    suite: str = Field(description="Name of the suite.")
    benchmark: str = Field(description="Name of the benchmark.")
    reason: str = Field(description="What is missing, and the command that gets it.")


class PlannedBenchmark(BenchmarkIdentity):
    """One benchmark or probe with its settings: all of an evaluation but the candidate and the engine."""

    max_length: int | None = Field(description="Longest sequence in tokens; null is the checkpoint's own.")


def measures_of(
    sweep: Sweep, facts: SourceFacts, settings: Settings
) -> tuple[list[PlannedBenchmark], list[MissingBenchmark]]:
    """Those whose data is there, and the others."""
    found: list[PlannedBenchmark] = []
    missing: list[MissingBenchmark] = []
    for entry in sweep.suites:
        if entry.suite == PROBE_SUITE:
            found += _probes(entry, sweep, facts)
        else:
            _benchmarks(entry, sweep, facts, settings, found, missing)
    if not found:
        raise PlanError(f"None of the benchmarks can run here: {missing[0].benchmark}: {missing[0].reason}")
    return found, missing


def _benchmarks(
    entry: SuiteEntry,
    sweep: Sweep,
    facts: SourceFacts,
    settings: Settings,
    found: list[PlannedBenchmark],
    missing: list[MissingBenchmark],
) -> None:
    """The benchmarks of one suite; the board's own settings where it never used a template, unless the sweep says `on`."""
    suite, template = load_suite(entry.suite), _chat_template(sweep, facts)
    if sweep.chat_template == "auto" and suite.settings.chat_template is not None:
        template = suite.settings.chat_template
    asked = suite.eval_settings(
        template, model_type=facts.config.model_type, limit=entry.limit or sweep.limit
    ).model_copy(update={"seeds": sweep.seeds})
    wanted = [suite.benchmark(n) for n in entry.benchmarks] if entry.benchmarks else list(suite.benchmarks)
    for benchmark in wanted:
        status = check(benchmark, settings.datasets)
        if status.location is None:
            reason = f"{status.reason} Get it with: {status.command}"
            missing.append(MissingBenchmark(suite=suite.name, benchmark=benchmark.name, reason=reason))
            continue
        found.append(
            PlannedBenchmark(
                suite=suite.name,
                benchmark=benchmark.name,
                benchmark_digest=benchmark.digest,
                dataset_digest=content_digest(status.location, benchmark),
                settings=asked,
                scorer=scorer_identity(task_digest(benchmark)),
                max_length=suite.settings.max_length,
            )
        )


def _probes(entry: SuiteEntry, sweep: Sweep, facts: SourceFacts) -> list[PlannedBenchmark]:
    """Probes by their names; those of a scan's search set where none is named. Definition, data and scoring are one digest."""
    if entry.limit is not None:
        raise SweepError("Probes are asked whole: leave the limit out for the suite probes.")
    _chat_template(sweep, facts)
    found = []
    for name in entry.benchmarks or tuple(f"{key}-{Split.SEARCH}" for key in SCAN_KEYS):
        probe = get_probe(name)
        template = natural_template(probe, facts.has_chat_template)
        if sweep.chat_template != "auto":
            template = ChatTemplate(sweep.chat_template)
        found.append(
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
    return found


def _chat_template(sweep: Sweep, facts: SourceFacts) -> ChatTemplate:
    """`auto` resolved once, from the base, for all candidates."""
    if sweep.chat_template == "auto":
        return ChatTemplate.ON if facts.has_chat_template else ChatTemplate.OFF
    if sweep.chat_template == "on" and not facts.has_chat_template:
        raise PlanError(
            f"The chat template is on, but the tokenizer of {sweep.base} has none; use auto or off."
        )
    return ChatTemplate(sweep.chat_template)
