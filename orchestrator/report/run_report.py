"""The report of a run: its verdict, leaderboard, forest plot and chosen questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from evals.engine import EngineSpec
from orchestrator.compare import Comparison, Side, correct
from orchestrator.compare.candidate_races import candidate_race_of, n_left_out, whole_differences
from orchestrator.compare.early import with_early, with_race
from orchestrator.compare.run_comparisons import CandidateResult, compare_sides, require_fit, sides
from orchestrator.compare.verdict import RunVerdict, run_verdict
from orchestrator.display.text_safety import line
from orchestrator.errors import RunError
from orchestrator.report.candidate_race import race_section
from orchestrator.report.leaderboard import LEGEND, BoardData, board_table, forest
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
from orchestrator.report.notices import result_notices, run_notices
from orchestrator.report.page import (
    LineList,
    QuestionList,
    ReportBlock,
    ReportKind,
    ReportLine,
    ReportPage,
    ReportSection,
)
from orchestrator.report.questions import choose_questions, flip_groups, stored_documents
from orchestrator.report.request import ReportRequest
from orchestrator.report.sequences import sequences_section
from orchestrator.report.verdicts import run_text
from orchestrator.store import Store
from orchestrator.store.records import ENDED, CandidateRecord, RunRecord
from orchestrator.store.sequences import SequenceRecord
from orchestrator.version import version_text

Progress = Callable[[int, int], None]
"""Called with the number of compared candidates and of all."""


@dataclass(frozen=True)
class _Family:
    """The results of a run on one engine, with the comparisons of its candidates."""

    engine: EngineSpec
    base: CandidateResult | None
    results: tuple[CandidateResult, ...]
    comparisons: tuple[Comparison, ...]


def run_report(
    store: Store,
    run: RunRecord,
    results: Sequence[CandidateResult],
    request: ReportRequest,
    home: Path,
    *,
    now: datetime,
    progress: Progress = lambda done, total: None,
) -> ReportPage:
    """The report of a run with scores. Raises RunError if the base's samples cannot be read."""
    candidates = store.candidates(run.id)
    tried = n_left_out(store, run.id, {result.candidate.position for result in results})
    families = _compared(results, home, tried, force=request.force, progress=progress)
    decided, race = store.sequences(run.id), candidate_race_of(store, run)
    boards = [
        replace(board, verdict=with_race(with_early(board.verdict, _of_board(decided, board)), race))
        for board in _boards(families, candidates, ended=run.state in ENDED)
    ]
    known = known_facts(_base_sides(families, home))
    comparisons = [c for family in families for c in family.comparisons]
    verdicts = [run_text(board.verdict, ended=run.state in ENDED) for board in boards]
    several = len(boards) > 1
    sections: list[ReportSection] = []
    for number, (board, verdict) in enumerate(zip(boards, verdicts, strict=True), start=1):
        of = f" · {board.suite}, {board.engine}" if several else ""
        key = f"-{number}" if several else ""
        if number > 1:
            lines = (ReportLine(text=verdict.headline, tone=verdict.tone), *verdict.lines)
            sections.append(
                ReportSection(key=f"verdict{key}", title=f"Verdict{of}", blocks=(LineList(lines=lines),))
            )
        sections += _board_sections(board, of, key)
    looked_at = sequences_section(decided, store.savings(run.id), run.id)
    sections += [looked_at] if looked_at is not None else []
    whole = whole_differences(store, run.id) if race is not None else {}
    raced = race_section(race, whole, run.id, line(run.name, 60))
    sections += [raced] if raced is not None else []
    questions = _questions_section(families, request.questions, home)
    jobs = [(job.suite, job.benchmark) for result in results for job, _ in result.evaluated]
    machines = [outcome.hardware for result in results for _, outcome in result.evaluated]
    sections += [questions] if questions is not None else []
    sections.append(
        methods_section(
            benchmark_facts(dict.fromkeys(jobs)),
            setting_facts(known),
            test_facts(comparisons) if comparisons else (),
            provenance_facts(run.provenance, machines),
            run_facts(run),
        )
    )
    sections.append(repeat_section([run], request.command))
    suites = ", ".join(dict.fromkeys(board.suite for board in boards))
    engines = ", ".join(dict.fromkeys(board.engine for board in boards))
    count = sum(not candidate.is_base for candidate in candidates)
    return ReportPage(
        kind=ReportKind.RUN,
        title=line(run.name),
        subtitle=f"{count:,} {'recipe' if count == 1 else 'recipes'} · {suites} · {engines}",
        made_at=now,
        notices=(*run_notices(store, run), *result_notices(results, comparisons)),
        verdict=verdicts[0],
        sections=tuple(sections),
        made_by=version_text(),
    )


def _compared(
    results: Sequence[CandidateResult], home: Path, tried: int, *, force: bool, progress: Progress
) -> list[_Family]:
    """Compare all candidates of a run with its base, per engine, as one family with `tried` more by each engine; as `run_comparisons` does."""
    engines = dict.fromkeys(result.engine for result in results)
    groups = [[result for result in results if result.engine == engine] for engine in engines]
    total = sum(not result.candidate.is_base for result in results)
    uncorrected: list[Comparison] = []
    families = []
    for group in groups:
        base = next((result for result in group if result.candidate.is_base), None)
        candidates = tuple(result for result in group if not result.candidate.is_base)
        compared = [] if base is None else _against(base, candidates, home, force, progress, total)
        uncorrected += compared
        families.append((group[0].engine, base, candidates, len(compared)))
    corrected = iter(correct(uncorrected, other_candidates=tried * len(groups)))
    return [
        _Family(engine, base, candidates, tuple(next(corrected) for _ in range(count)))
        for engine, base, candidates, count in families
    ]


def _against(
    base: CandidateResult,
    candidates: Sequence[CandidateResult],
    home: Path,
    force: bool,
    progress: Progress,
    total: int,
) -> list[Comparison]:
    base_sides = sides(base, home, contain=True)
    compared: list[Comparison] = []
    for done, result in enumerate(candidates, start=1):
        candidate_sides = sides(result, home, contain=True)
        require_fit(base_sides)
        compared += compare_sides(base_sides, {result.candidate.name: candidate_sides}, force=force)
        progress(done, total)
    return compared


def _boards(
    families: Sequence[_Family], candidates: Sequence[CandidateRecord], *, ended: bool
) -> list[BoardData]:
    """One leaderboard per engine and suite."""
    boards = []
    for family in families:
        everything = (*([family.base] if family.base else []), *family.results)
        engine = f"{family.engine.kind} {family.engine.version}, {family.engine.dtype}"
        for suite in dict.fromkeys(name for result in everything for name in result.suites):
            in_suite = tuple(_of_suite(c, suite) for c in family.comparisons)
            results = tuple(result for result in family.results if suite in result.suites)
            base = family.base if family.base is not None and suite in family.base.suites else None
            names = {result.candidate.name for result in results}
            unscored = tuple(c for c in candidates if not c.is_base and c.name not in names)
            compared = [c for c in in_suite if c.candidate in names]
            boards.append(
                BoardData(
                    suite=suite,
                    engine=engine,
                    base=base,
                    results=results,
                    comparisons=tuple(compared),
                    verdict=_verdict(family, suite, compared, unscored, results),
                    unscored=unscored,
                )
            )
    return boards


def _verdict(
    family: _Family,
    suite: str,
    compared: Sequence[Comparison],
    unscored: Sequence[CandidateRecord],
    results: Sequence[CandidateResult],
) -> RunVerdict:
    named = {c.candidate for c in compared}
    waiting = [result.candidate.name for result in results if result.candidate.name not in named]
    partial = [
        result.candidate.name
        for result in (*([family.base] if family.base else []), *results)
        if any(o.evaluation.result.partial for j, o in result.evaluated if j.suite == suite)
    ]
    base = family.base.candidate.name if family.base is not None else "the base"
    return run_verdict(
        line(base, 60), compared, pending=[*(c.name for c in unscored), *waiting], partial=partial
    )


def _of_board(records: Sequence[SequenceRecord], board: BoardData) -> list[SequenceRecord]:
    """The comparisons of one leaderboard that were looked at while they were asked."""
    key = board.base.engine_key if board.base is not None else None
    return [r for r in records if r.suite == board.suite and r.engine_key == key]


def _of_suite(comparison: Comparison, suite: str) -> Comparison:
    rows, averages = (
        tuple(row for row in group if row.suite == suite) for group in (comparison.rows, comparison.averages)
    )
    return comparison.model_copy(update={"rows": rows, "averages": averages})


def _board_sections(board: BoardData, of: str, key: str) -> list[ReportSection]:
    sections = []
    plot = forest(board)
    if plot is not None:
        sections.append(
            ReportSection(
                key=f"averages{key}",
                title=f"Averages{of}",
                intro="Candidate minus base in points, with its 95 % interval. A filled mark holds after the correction.",
                blocks=(plot,),
            )
        )
    blocks: tuple[ReportBlock, ...] = (board_table(board, f"Leaderboard{of}"),)
    intro = LEGEND if board.comparisons else "Scores only: the base has none to compare with."
    sections.append(
        ReportSection(key=f"leaderboard{key}", title=f"Leaderboard{of}", intro=intro, blocks=blocks)
    )
    return sections


def _base_sides(families: Sequence[_Family], home: Path) -> list[Side]:
    """The sides of every base, or of the first candidate where there is none, for the methods."""
    chosen = [family.base or family.results[0] for family in families]
    return [side for result in chosen for side in sides(result, home, contain=True)]


def _questions_section(families: Sequence[_Family], count: int, home: Path) -> ReportSection | None:
    """Flipped questions of the first engine that has any."""
    for family in families:
        if family.base is None or not family.comparisons:
            continue
        base = sides(family.base, home, contain=True)
        results = {result.candidate.name: result for result in family.results}
        kept: dict[str, list[Side]] = {}

        def sides_of(
            name: str,
            base: list[Side] = base,
            results: dict[str, CandidateResult] = results,
            kept: dict[str, list[Side]] = kept,
        ) -> tuple[list[Side], list[Side]]:
            if name not in kept:
                kept[name] = sides(results[name], home, contain=True)
            return base, kept[name]

        chosen, notes = choose_questions(
            flip_groups(family.comparisons), sides_of, stored_documents(home), count
        )
        if chosen:
            return questions_section(QuestionList(base=family.base.candidate.name, questions=chosen), notes)
    return None


def questions_section(questions: QuestionList, notes: Sequence[str]) -> ReportSection:
    """The section of chosen questions."""
    blocks: list[ReportBlock] = [questions]
    if notes:
        blocks.append(LineList(lines=tuple(ReportLine(text=note) for note in notes)))
    return ReportSection(
        key="questions",
        title="Questions that flipped",
        intro=f"{len(questions.questions)} chosen ones, those behind the differences above first; words that the other response "
        "does not have are marked.",
        blocks=tuple(blocks),
    )


def nothing_scored(run: RunRecord) -> RunError:
    """The error for a run without any score."""
    return RunError(
        f"Run {run.id} has no score yet ({run.state.value}): there is nothing to report; `mergeboard status {run.id}` says why."
    )
