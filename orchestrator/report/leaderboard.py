"""A run's leaderboard as a table: one row per recipe, its score and difference in each benchmark, its details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.errors import SuiteError
from evals.scores import BenchmarkScore
from evals.suite import Suite, load_suite
from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.compare.run_comparisons import CandidateResult
from orchestrator.compare.verdict import RunVerdict, Standing
from orchestrator.display.text_safety import line
from orchestrator.report.deltas import SHAPES, delta_cell, delta_line, details_of
from orchestrator.report.page import (
    DeltaTable,
    ReportCell,
    ReportColumn,
    ReportFilter,
    ReportRow,
    ReportTable,
    ReportTone,
)
from orchestrator.store.records import CandidateRecord

MOST_ROWS = 1_000
"""Most recipes in a table; those with a shown difference come first, then the best."""
MOST_DETAILS = 500
MOST_COLUMNS = 12
"""Most benchmarks that are columns; the others stand in the details of each row."""
_PRINTED = 24
_FOREST = 30
_NAME = 90
_TONES = {
    Standing.BETTER: ReportTone.BETTER,
    Standing.WORSE: ReportTone.WORSE,
    Standing.MIXED: ReportTone.HINT,
    Standing.REFUSED: ReportTone.REFUSED,
    Standing.PENDING: ReportTone.WARNING,
    Standing.LEFT: ReportTone.PLAIN,
    Standing.UNSHOWN: ReportTone.PLAIN,
}
_LABELS = {
    Standing.BETTER: "▲ better",
    Standing.WORSE: "▼ worse",
    Standing.MIXED: "▲▼ both",
    Standing.UNSHOWN: "not shown",
    Standing.REFUSED: "⊘ not compared",
    Standing.PENDING: "no score",
    Standing.LEFT: "left the race",
}
_PARTIAL = "◔"
_ALARM = "⚠"


@dataclass(frozen=True)
class BoardData:
    """The candidates of a run that are compared with one base, in one suite, on one engine."""

    suite: str
    engine: str
    base: CandidateResult | None
    results: tuple[CandidateResult, ...]
    comparisons: tuple[Comparison, ...]
    verdict: RunVerdict
    unscored: tuple[CandidateRecord, ...]

    @property
    def definition(self) -> Suite | None:
        """The suite's definition; None if there is none any more."""
        try:
            return load_suite(self.suite)
        except SuiteError:
            return None

    def comparison(self, name: str) -> Comparison | None:
        """The comparison of a candidate; None if there is none."""
        return next((c for c in self.comparisons if c.candidate == name), None)


def benchmark_titles(board: BoardData) -> dict[str, str]:
    """Title by name of every benchmark that any candidate has, in order."""
    titles: dict[str, str] = {}
    for result in (*([board.base] if board.base else []), *board.results):
        for score in _scores(result, board.suite).values():
            titles.setdefault(score.benchmark, score.title)
    definition = board.definition
    if definition is None:
        return titles
    order = [b.name for b in definition.benchmarks]
    return dict(
        sorted(titles.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
    )


def board_table(board: BoardData, caption: str) -> ReportTable:
    """The leaderboard, best mean first, the base on top."""
    titles = benchmark_titles(board)
    columns = dict(list(titles.items())[:MOST_COLUMNS])
    by_name = {c.candidate: c for c in board.comparisons}
    rows = [_row(board, result, by_name.get(result.candidate.name), columns) for result in board.results]
    rows += [_unscored(board, candidate, len(columns)) for candidate in board.unscored]
    kept, notes = _kept(rows, board)
    kept, shared = _with_details(kept, board, by_name)
    notes += shared
    if board.base is not None:
        kept = [_base_row(board, board.base, columns), *kept]
    if len(titles) > len(columns):
        others = len(titles) - len(columns)
        notes.append(f"{others} further benchmarks are in the details of each recipe.")
    return ReportTable(
        caption=caption,
        first="Recipe",
        columns=_columns(board, columns),
        rows=tuple(kept),
        filters=_filters(board, kept),
        sorted_by=1,
        notes=tuple(notes),
    )


def forest(board: BoardData) -> DeltaTable | None:
    """The average of every recipe on one scale, the largest gain first; None if nothing was averaged."""
    lines = [
        delta_line(row, line(c.candidate, _NAME)).model_copy(update={"strong": False})
        for c in board.comparisons
        for row in c.averages
        if row.delta is not None
    ]
    if not lines:
        return None
    lines.sort(key=lambda entry: -(entry.delta or 0.0))
    notes: tuple[str, ...] = ()
    if len(lines) > _FOREST:
        half = _FOREST // 2
        notes = (
            f"The {half} largest gains and the {half} largest losses of {len(lines):,} recipes; the table below has all.",
        )
        lines = [*lines[:half], *lines[-half:]]
    return DeltaTable(
        caption="Average of each recipe against the base",
        first="Recipe",
        rows=tuple(lines),
        p_heading="p corrected",
        notes=notes,
    )


def _columns(board: BoardData, titles: Mapping[str, str]) -> tuple[ReportColumn, ...]:
    definition = board.definition
    mean = "Mean of the suite's benchmarks; marked where it is not the leaderboard's average."
    columns = [
        ReportColumn(title="Verdict", help="What the corrected tests show.", numeric=False),
        ReportColumn(title="Mean", help=mean, narrow=True),
    ]
    for name, title in titles.items():
        shots = next((b.shots for b in definition.benchmarks if b.name == name), None) if definition else None
        help_text = (
            f"Normalized score, 0 to 100{'' if shots is None else f', {shots} examples in the prompt'}."
        )
        columns.append(ReportColumn(title=title, help=help_text))
    return tuple(columns)


def _filters(board: BoardData, rows: Sequence[ReportRow]) -> tuple[ReportFilter, ...]:
    filters = []
    for standing, label in _LABELS.items():
        count = sum(row.group == standing.name.lower() for row in rows)
        if count:
            filters.append(ReportFilter(key=standing.name.lower(), label=label, count=count))
    return tuple(filters)


def _row(
    board: BoardData, result: CandidateResult, comparison: Comparison | None, titles: Mapping[str, str]
) -> ReportRow:
    name = result.candidate.name
    standing = board.verdict.standings.get(name)
    scores = _scores(result, board.suite)
    rows = {row.benchmark: row for row in comparison.rows} if comparison is not None else {}
    average = next(iter(comparison.averages), None) if comparison is not None else None
    if average is None and comparison is not None and comparison.rows:
        average = _refused_mean(comparison.rows)
    verdict = ReportCell(
        text=_LABELS[standing] if standing is not None else "",
        tone=_TONES[standing] if standing is not None else ReportTone.PLAIN,
    )
    cells = [verdict, _mean_cell(board, result, average)]
    cells += [
        delta_cell(scores[key].normalized, rows.get(key), _marks(scores[key]))
        if key in scores
        else ReportCell(text="–")
        for key in titles
    ]
    remark = "partial" if any(score.partial for score in scores.values()) else ""
    return ReportRow(
        name=line(name, _NAME),
        cells=tuple(cells),
        remark=remark,
        group=standing.name.lower() if standing is not None else "",
    )


def _refused_mean(rows: Sequence[ComparisonRow]) -> ComparisonRow | None:
    """The mean's row where all benchmarks were refused; None if some were compared."""
    if any(row.delta is not None for row in rows):
        return None
    return rows[0].model_copy(update={"benchmark": None})


def _mean_cell(board: BoardData, result: CandidateResult, average: ComparisonRow | None) -> ReportCell:
    scores = _scores(result, board.suite)
    if not scores:
        return ReportCell(text="–")
    mean = sum(score.normalized for score in scores.values()) / len(scores)
    definition = board.definition
    n_all = len(definition.benchmarks) if definition is not None else len(scores)
    cell = delta_cell(mean, average)
    if len(scores) < n_all:
        hint = f"mean of {len(scores)} of {n_all} benchmarks, not the leaderboard's average"
        mark = f" ({len(scores)}/{n_all})"
    elif any(score.partial for score in scores.values()):
        hint, mark = "on a part of the questions, not the leaderboard's average", _PARTIAL
    else:
        return cell
    return cell.model_copy(
        update={"text": cell.text + mark, "hint": f"{cell.hint}; {hint}" if cell.hint else hint}
    )


def _base_row(board: BoardData, base: CandidateResult, titles: Mapping[str, str]) -> ReportRow:
    scores = _scores(base, board.suite)
    cells = [ReportCell(text="base"), _mean_cell(board, base, None)]
    cells += [
        delta_cell(scores[key].normalized, None, _marks(scores[key]))
        if key in scores
        else ReportCell(text="–")
        for key in titles
    ]
    return ReportRow(name=line(base.candidate.name, _NAME), cells=tuple(cells), pinned=True)


def _unscored(board: BoardData, candidate: CandidateRecord, n_benchmarks: int) -> ReportRow:
    """A candidate without scores: pending, or decided early."""
    standing = board.verdict.standings.get(candidate.name, Standing.PENDING)
    verdict = ReportCell(text=_LABELS[standing], tone=_TONES[standing])
    return ReportRow(
        name=line(candidate.name, _NAME),
        cells=(verdict, *[ReportCell(text="–")] * (n_benchmarks + 1)),
        remark="" if standing in (Standing.PENDING, Standing.LEFT) else "decided early",
        group=standing.name.lower(),
    )


def _kept(rows: list[ReportRow], board: BoardData) -> tuple[list[ReportRow], list[str]]:
    """The rows by mean, best first, without those beyond the table's limit."""
    rows.sort(key=lambda row: (row.cells[1].value is None, -(row.cells[1].value or 0.0), row.name))
    if len(rows) <= MOST_ROWS:
        return rows, []
    shown = sorted(range(len(rows)), key=lambda at: (not _is_real(rows[at]), at))[:MOST_ROWS]
    note = (
        f"{MOST_ROWS:,} of {len(rows):,} recipes: all with a shown difference, then the best by mean. "
        "`mergeboard export` writes all of them; the verdict above is about all."
    )
    return [rows[at] for at in sorted(shown)], [note]


def _with_details(
    rows: Sequence[ReportRow], board: BoardData, comparisons: Mapping[str, Comparison]
) -> tuple[list[ReportRow], tuple[str, ...]]:
    """The rows with their details, those with a shown difference first where there are too many; and the remarks of all."""
    names = {line(name, _NAME): comparison for name, comparison in comparisons.items()}
    order = sorted(range(len(rows)), key=lambda at: (not _is_real(rows[at]), at))
    printed = set(order[:_PRINTED])
    base = board.base.candidate.name if board.base is not None else "the base"
    details = {
        at: details_of(names[rows[at].name], base) for at in order[:MOST_DETAILS] if rows[at].name in names
    }
    shared = (
        set.intersection(*(set(table.notes) for table in details.values())) if len(details) > 1 else set()
    )
    kept = [
        row.model_copy(
            update={
                "details": details[at].model_copy(
                    update={"notes": tuple(note for note in details[at].notes if note not in shared)}
                ),
                "printed": at in printed and row.group != _REFUSED,
            }
        )
        if at in details
        else row
        for at, row in enumerate(rows)
    ]
    return kept, tuple(sorted(shared))


def _is_real(row: ReportRow) -> bool:
    return row.group in (
        Standing.BETTER.name.lower(),
        Standing.WORSE.name.lower(),
        Standing.MIXED.name.lower(),
    )


def _scores(result: CandidateResult, suite: str) -> dict[str, BenchmarkScore]:
    return {
        job.benchmark: outcome.evaluation.result for job, outcome in result.evaluated if job.suite == suite
    }


def _marks(score: BenchmarkScore) -> str:
    return (_PARTIAL if score.partial else "") + (_ALARM if score.alarms else "")


_REFUSED = Standing.REFUSED.name.lower()
LEGEND = (
    f"{SHAPES[ReportTone.BETTER]} better and {SHAPES[ReportTone.WORSE]} worse than the base after the correction for all tests; "
    "△ ▽ only before it: of so many tests some look like this by chance; ⊘ not compared; ◔ a part of the questions; ⚠ doubtful "
    "responses. Small number: difference to the base in points."
)
"""What the signs of a leaderboard mean."""
