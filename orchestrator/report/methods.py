"""Methods and provenance in words: what was measured how, with which versions, and how differences were tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from evals.claims.facts import Fact
from evals.stats import SignificanceTest
from evals.stats.resample import N_DRAWS
from orchestrator.compare import Comparison, Side
from orchestrator.compare.run_comparisons import definition
from orchestrator.display.format import moment
from orchestrator.display.text_safety import line
from orchestrator.provenance import Hardware, Provenance, without_secrets
from orchestrator.report.deltas import tests_text
from orchestrator.report.page import CodeText, FactList, ReportBlock, ReportFact, ReportSection
from orchestrator.store.records import RunRecord

_TESTS = {
    SignificanceTest.SIGN_FLIP: "exact sign-flip test on the same questions (base and candidate swapped question by question), "
    f"and a paired bootstrap of {N_DRAWS:,} draws; p is the larger of the two, the 95 % interval the wider one",
    SignificanceTest.UNPAIRED: "unpaired test on the scores and their standard errors, where samples are missing",
    SignificanceTest.MCNEMAR: "exact McNemar test",
    SignificanceTest.BOOTSTRAP: "paired bootstrap",
}
_UNSHOWN = (Fact.SUITE, Fact.BENCHMARK, Fact.DEFINITION, Fact.DATA, Fact.TASK_VERSION, Fact.STAGE)
_MOST_VALUES = 8
_LONGEST_SWEEP = 20_000

Known = Mapping[tuple[str, str], Mapping[Fact, str]]
"""Facts by suite and benchmark title."""


def known_facts(sides: Iterable[Side]) -> dict[tuple[str, str], Mapping[Fact, str]]:
    """The facts of sides by suite and benchmark title; the first side of a benchmark counts."""
    known: dict[tuple[str, str], Mapping[Fact, str]] = {}
    for side in sides:
        facts = side.measurement.facts.known
        key = (facts.get(Fact.SUITE, "?"), side.measurement.result.title)
        known.setdefault(key, facts)
    return known


def benchmark_facts(keys: Iterable[tuple[str, str]]) -> tuple[ReportFact, ...]:
    """Suite by suite, what its benchmarks are: shots, metric and data set."""
    by_suite: dict[str, list[str]] = {}
    for suite, name in keys:
        benchmark = definition(suite, name)
        if benchmark is None:
            by_suite.setdefault(suite, []).append(line(name, 60))
            continue
        shots = "no examples" if benchmark.shots == 0 else f"{benchmark.shots}-shot"
        by_suite.setdefault(suite, []).append(
            f"{benchmark.title} ({shots}, {' and '.join(benchmark.metrics)})"
        )
    return tuple(
        ReportFact(name=f"Suite {suite}", value="; ".join(texts)) for suite, texts in by_suite.items()
    )


def setting_facts(known: Known) -> tuple[ReportFact, ...]:
    """Each known circumstance of the scores; where benchmarks differ, benchmark by benchmark."""
    facts = []
    for fact in Fact:
        if fact in _UNSHOWN:
            continue
        values: dict[str, list[str]] = {}
        for (_, title), circumstances in known.items():
            if fact in circumstances:
                values.setdefault(line(circumstances[fact], 200), []).append(title)
        if not values:
            continue
        if len(values) == 1:
            text = next(iter(values))
        else:
            shown = list(values.items())[:_MOST_VALUES]
            text = "; ".join(f"{value} ({', '.join(dict.fromkeys(titles))})" for value, titles in shown)
        name = str(fact)
        facts.append(ReportFact(name=name[0].upper() + name[1:], value=text))
    return tuple(facts)


def test_facts(comparisons: Sequence[Comparison]) -> tuple[ReportFact, ...]:
    """How differences were tested and corrected."""
    rows = [row for c in comparisons for row in (*c.rows, *c.averages)]
    tests = dict.fromkeys(row.delta.test for row in rows if row.delta is not None)
    return (
        ReportFact(
            name="Scores",
            value="normalized as the leaderboard shows them, 0 to 100; Δ is candidate minus base",
        ),
        *(ReportFact(name="Test", value=_TESTS[test]) for test in tests),
        ReportFact(
            name="Correction",
            value=f"{tests_text(comparisons)}; ▲ and ▼ mean p < 0.05 after it, △ and ▽ before it only",
        ),
        ReportFact(name="Intervals", value="95 %, each for its row alone"),
    )


def provenance_facts(provenance: Provenance, machines: Iterable[Hardware] = ()) -> tuple[ReportFact, ...]:
    """Versions, commit and hardware, without host names."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    commit = f", commit {provenance.commit}" if provenance.commit else ""
    hardware = dict.fromkeys(_machine(machine) for machine in machines) or {
        _machine(provenance.hardware): None
    }
    return (
        ReportFact(name="Versions", value=f"{versions}, Python {provenance.python}{commit}"),
        ReportFact(name="Hardware", value="; ".join(list(hardware)[:_MOST_VALUES])),
    )


def run_facts(run: RunRecord) -> tuple[ReportFact, ...]:
    """Which run it is, and when it ran."""
    ended = f" to {moment(run.ended_at)}" if run.ended_at else ", not ended"
    return (
        ReportFact(name="Run", value=f"{line(run.name)} ({run.id}), {run.state.value}"),
        ReportFact(name="Time", value=f"{moment(run.started_at or run.created_at)}{ended}"),
    )


def methods_section(*groups: Sequence[ReportFact]) -> ReportSection:
    """The section of methods and provenance."""
    facts = tuple(fact for group in groups for fact in group)
    return ReportSection(key="methods", title="Methods and provenance", blocks=(FactList(facts=facts),))


def repeat_section(runs: Sequence[RunRecord], report_command: str) -> ReportSection:
    """The commands and sweep files that repeat the runs."""
    blocks: list[ReportBlock] = []
    for run in runs:
        command = without_secrets(run.provenance.command)
        blocks.append(CodeText(title=f"Run {run.id}", text=command))
        sweep = without_secrets(run.sweep)[:_LONGEST_SWEEP]
        blocks.append(CodeText(title=f"Sweep of run {run.id}", text=sweep, folded=True))
    blocks.append(CodeText(title="This report", text=report_command))
    return ReportSection(
        key="repeat",
        title="Repeat it",
        intro="The same command finds what is in the store and measures only what is not.",
        blocks=tuple(blocks),
    )


def _machine(machine: Hardware) -> str:
    gpus = f", {len(machine.gpus)} x {machine.gpus[0]}" if machine.gpus else ""
    return f"{machine.cpu} ({machine.cpu_count} cores){gpus}"
