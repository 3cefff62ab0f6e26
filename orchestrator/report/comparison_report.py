"""The report of a comparison: candidates and their base, of one or two runs, or imported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from evals.claims.facts import Fact
from orchestrator.compare import Comparison, Side
from orchestrator.compare.remedy import reason_with_remedy
from orchestrator.compare.sides import compare_names, named_sides
from orchestrator.compare.verdict import run_verdict
from orchestrator.display.text_safety import line
from orchestrator.errors import RunError
from orchestrator.report.deltas import details_of
from orchestrator.report.methods import (
    benchmark_facts,
    known_facts,
    methods_section,
    provenance_facts,
    repeat_section,
    run_facts,
    setting_facts,
    test_facts,
)
from orchestrator.report.notices import forced_notices, run_notices, score_notices
from orchestrator.report.page import (
    LineList,
    QuestionList,
    ReportFact,
    ReportKind,
    ReportLine,
    ReportPage,
    ReportSection,
    ReportVerdict,
)
from orchestrator.report.questions import choose_questions, flip_groups, stored_documents
from orchestrator.report.request import ReportRequest
from orchestrator.report.run_report import questions_section
from orchestrator.report.verdicts import comparison_text, run_text
from orchestrator.store import Store
from orchestrator.store.records import RunRecord
from orchestrator.version import version_text

_NAME = 80
NamedSides = dict[str, tuple[list[Side], list[Side]]]
"""The sides of a base and a candidate by the candidate's name."""


def comparison_report(
    store: Store,
    candidates: Sequence[str],
    base: str,
    request: ReportRequest,
    home: Path,
    *,
    now: datetime,
) -> ReportPage:
    """The report of candidates against a base. Raises RunError if one is unknown."""
    run_id = store.find_run(request.run) if request.run is not None else None
    comparisons = compare_names(store, candidates, base, home, run_id=run_id, force=request.force)
    named = named_sides(store, candidates, base, home, run_id=run_id)
    comparisons, named = _with_checkpoints(comparisons, named)
    if not any(c.rows for c in comparisons):
        raise RunError(
            f"{line(candidates[0], _NAME)} and {line(base, _NAME)} have no benchmark; nothing can be compared."
        )
    verdicts = [comparison_text(c, run_verdict(c.base, [c])) for c in comparisons]
    sides = [side for pair in named.values() for group in pair for side in group]
    runs = _runs(store, candidates, base, run_id)
    sections = [
        _details(comparison, verdict if len(verdicts) > 1 else None, number)
        for number, (comparison, verdict) in enumerate(zip(comparisons, verdicts, strict=True), start=1)
    ]
    sections += _questions(comparisons, named, request.questions, home)
    keys = [(s.measurement.facts.get(Fact.SUITE) or "", s.measurement.result.benchmark) for s in sides]
    sections.append(
        methods_section(
            benchmark_facts(dict.fromkeys(keys)),
            _side_facts(named, base),
            test_facts(comparisons),
            *(facts for run in runs for facts in (provenance_facts(run.provenance), run_facts(run))),
        )
    )
    sections.append(repeat_section(runs, request.command))
    bases = list(dict.fromkeys(line(c.base, _NAME) for c in comparisons))
    title = ", ".join(line(c.candidate, _NAME) for c in comparisons[:3])
    more = f" and {len(comparisons) - 3} more" if len(comparisons) > 3 else ""
    return ReportPage(
        kind=ReportKind.COMPARISON,
        title=f"{title}{more} against {', '.join(bases)}",
        subtitle=", ".join(dict.fromkeys(row.suite for c in comparisons for row in c.rows)),
        made_at=now,
        notices=(
            *(notice for run in runs for notice in run_notices(store, run)),
            *score_notices((s.measurement.checkpoint, s.measurement.result) for s in sides),
            *forced_notices(comparisons),
        ),
        verdict=_verdict(comparisons, verdicts),
        sections=tuple(sections),
        made_by=version_text(),
    )


def _with_checkpoints(
    comparisons: tuple[Comparison, ...], named: NamedSides
) -> tuple[tuple[Comparison, ...], NamedSides]:
    """Both by the names of the checkpoints, where these tell the candidates apart: an imported result is named by its id or file."""
    names = {
        name: candidate[0].measurement.checkpoint if candidate else name
        for name, (_, candidate) in named.items()
    }
    if len(set(names.values())) < len(names):
        return comparisons, named
    return (
        tuple(c.model_copy(update={"candidate": names.get(c.candidate, c.candidate)}) for c in comparisons),
        {names[name]: sides for name, sides in named.items()},
    )


def _verdict(comparisons: Sequence[Comparison], verdicts: Sequence[ReportVerdict]) -> ReportVerdict:
    """The verdict of one comparison, or of several against one base or against a base each."""
    if len(verdicts) == 1:
        return verdicts[0]
    bases = dict.fromkeys(c.base for c in comparisons)
    base = next(iter(bases)) if len(bases) == 1 else "their bases"
    return run_text(run_verdict(base, comparisons), ended=True)


def _details(comparison: Comparison, verdict: ReportVerdict | None, number: int) -> ReportSection:
    rows = (*comparison.averages, *comparison.rows)
    details = details_of(comparison, comparison.base)
    table = details.model_copy(update={"notes": (*details.notes, *_detectable(comparison))})
    refused = dict.fromkeys(reason for row in rows if row.delta is None for reason in row.refused)
    advice = tuple(ReportLine(text=reason_with_remedy(reason)) for reason in refused)
    key, title = ("benchmarks", "Benchmarks")
    if verdict is not None:
        key, title = f"benchmarks-{number}", f"{line(comparison.candidate, _NAME)}"
    return ReportSection(
        key=key,
        title=title,
        intro=(f"{verdict.headline} " if verdict is not None else "")
        + "Candidate minus base in points, with its 95 % interval. A filled mark holds after the correction.",
        blocks=(table, *((LineList(lines=advice),) if advice else ())),
    )


def _detectable(comparison: Comparison) -> tuple[str, ...]:
    parts = [
        f"{row.title} {row.delta.detectable_points:.1f}"
        for row in comparison.rows
        if row.delta is not None and not row.significant
    ]
    if not parts:
        return ()
    return (f"Smallest true difference that would mostly have been found, in points: {', '.join(parts)}.",)


def _questions(
    comparisons: Sequence[Comparison],
    named: NamedSides,
    count: int,
    home: Path,
) -> list[ReportSection]:
    chosen, notes = choose_questions(
        flip_groups(comparisons), lambda name: named[name], stored_documents(home), count
    )
    if not chosen:
        return []
    return [questions_section(QuestionList(base=comparisons[0].base, questions=chosen), notes)]


def _side_facts(named: NamedSides, base: str) -> tuple[ReportFact, ...]:
    """The circumstances that both sides share, and those in which a side differs, side by side."""
    by_side: dict[str, tuple[ReportFact, ...]] = {}
    for name, (base_sides, candidate_sides) in named.items():
        by_side.setdefault(line(base, _NAME), setting_facts(known_facts(base_sides)))
        by_side[line(name, _NAME)] = setting_facts(known_facts(candidate_sides))
    names = dict.fromkeys(fact.name for facts in by_side.values() for fact in facts)
    merged = []
    for name in names:
        values: dict[str, list[str]] = {}
        for side, facts in by_side.items():
            value = next((fact.value for fact in facts if fact.name == name), "not stated")
            values.setdefault(value, []).append(side)
        text = (
            next(iter(values))
            if len(values) == 1
            else "; ".join(f"{', '.join(sides)}: {value}" for value, sides in values.items())
        )
        merged.append(ReportFact(name=name, value=text))
    return tuple(merged)


def _runs(store: Store, candidates: Sequence[str], base: str, run_id: str | None) -> list[RunRecord]:
    """The runs that the candidates and the base are from, the newest of each name."""
    ids: dict[str, None] = {run_id: None} if run_id is not None else {}
    for name in (*candidates, base) if not ids else ():
        for match in store.find_candidates(name, scored=True, limit=1):
            ids[match.run_id] = None
    return [store.run(found) for found in ids]
