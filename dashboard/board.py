"""Leaderboard rows as values and as cells: scores, differences to the base, refused comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dashboard.comparisons import Broken, PairResult
from evals.errors import EvaluationError
from evals.normalize import suite_score
from evals.scores import PROBE_SUITE, BenchmarkScore, SuiteScore
from evals.suite import Suite, load_suite
from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.display.format import duration, parameters
from orchestrator.display.text_safety import line
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Column

NAME = "Recipe"
MEAN = "Mean"
FORBIDDEN = "⊘"
WAITING = "…"


class Shown(StrEnum):
    """What a leaderboard's cells show besides the normalized score."""

    POINTS = "delta_points"
    PERCENT = "delta_percent"
    SCORES = "scores"


class Tint(StrEnum):
    """Background of a cell; colours are always accompanied by a sign."""

    NONE = ""
    BETTER = "better"
    WORSE = "worse"
    FORBIDDEN = "not compared"


@dataclass(frozen=True)
class Row:
    """A candidate with its scores and its comparison with the base."""

    scores: CandidateScores
    result: PairResult | None
    pinned: bool = False
    is_base: bool = False

    def score(self, column: Column) -> BenchmarkScore | None:
        """The candidate's score in a column; None if it has none."""
        return next(
            (
                e.result
                for e in self.scores.evaluations
                if (e.suite, e.result.benchmark) == (column.suite, column.benchmark)
            ),
            None,
        )

    def difference(self, column: Column) -> ComparisonRow | None:
        """The comparison in a column; None if there is none (yet)."""
        if not isinstance(self.result, Comparison):
            return None
        key = (column.suite, column.benchmark)
        return next((r for r in self.result.rows if (r.suite, r.benchmark) == key), None)

    def mean(self, suite: str) -> ComparisonRow | None:
        """The comparison of a suite's mean; None if there is none (yet)."""
        if not isinstance(self.result, Comparison):
            return None
        return next((r for r in self.result.averages if r.suite == suite), None)


def known_suite(name: str) -> Suite | None:
    """The suite of a name; None if this version of mergeboard has none."""
    try:
        return load_suite(name)
    except EvaluationError:
        return None


def title(column: Column) -> str:
    """A benchmark's display name; probes are marked as such, because their values are not scores."""
    suite = known_suite(column.suite)
    if column.suite == PROBE_SUITE:
        return f"probe {line(column.benchmark, 40)}"
    if suite is None:
        return line(column.benchmark, 40)
    return next((b.title for b in suite.benchmarks if b.name == column.benchmark), line(column.benchmark, 40))


def cells(row: Row, columns: Sequence[Column], titles: Mapping[Column, str], shown: Shown) -> dict[str, Any]:
    """A row of the table as displayed texts."""
    candidate = row.scores.candidate
    mark = "◆ " if row.is_base else ("📌 " if row.pinned else "")
    shown_cells: dict[str, Any] = {NAME: mark + line(candidate.name, 70)}
    suite = known_suite(columns[0].suite) if columns else None
    if suite is not None:
        shown_cells[MEAN] = mean_cell(row, suite, shown)
    shown_cells |= {titles[column]: cell(row, column, shown) for column in columns}
    return shown_cells | {
        "Layers": candidate.layers,
        "Parameters": parameters(candidate.parameters),
        "Cost": duration(sum(e.duration_s for e in row.scores.evaluations) or None),
    }


def cell(row: Row, column: Column, shown: Shown) -> str:
    """A benchmark's cell: the normalized score, its marks, and the difference to the base."""
    score = row.score(column)
    if score is None:
        return "–"
    text = f"{score.normalized:.2f}{marks(score)}"
    if row.is_base or shown is Shown.SCORES:
        return text
    return f"{text}  {_difference(row.result, row.difference(column), shown)}"


def mean_cell(row: Row, suite: Suite, shown: Shown) -> str:
    """The suite's average, or the mean of the measured benchmarks, marked as such."""
    score = suite_of(row, suite)
    if score is None or score.partial_average is None:
        return "–"
    value = score.average if score.average is not None else score.partial_average
    of = "" if score.average is not None else f" ({len(score.benchmarks)}/{len(suite.benchmarks)})"
    if score.average is None and not score.missing:
        of = " ◔"
    if row.is_base or shown is Shown.SCORES:
        return f"{value:.2f}{of}"
    difference = row.mean(suite.name)
    if difference is None:
        return f"{value:.2f}{of}" + (f"  {WAITING}" if row.result is None else "")
    return f"{value:.2f}{of}  {_difference(row.result, difference, shown)}"


def suite_of(row: Row, suite: Suite) -> SuiteScore | None:
    """A row's results put together as its suite does."""
    names = {b.name for b in suite.benchmarks}
    results = [
        e.result for e in row.scores.evaluations if e.suite == suite.name and e.result.benchmark in names
    ]
    return suite_score(suite, results) if results else None


def marks(score: BenchmarkScore) -> str:
    """Signs for a partial score and for alarms."""
    return ("◔" if score.partial else "") + ("⚠" if score.alarms else "")


def tint(row: Row, column: Column | None, suite: str) -> Tint:
    """The background of a cell; `column` is None for the mean."""
    if row.is_base:
        return Tint.NONE
    comparison = row.mean(suite) if column is None else row.difference(column)
    if isinstance(row.result, Broken) or (comparison is not None and comparison.delta is None):
        return Tint.FORBIDDEN if column is not None and row.score(column) is not None else Tint.NONE
    if comparison is None or comparison.delta is None or not comparison.significant:
        return Tint.NONE
    return Tint.BETTER if comparison.delta.delta_points > 0 else Tint.WORSE


def reasons(rows: Sequence[Row]) -> tuple[str, ...]:
    """Reasons why cells of these rows are not compared, without duplicates, with the recipes concerned."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row.result, Broken):
            texts.setdefault(row.result.reason, []).append(row.scores.candidate.name)
        elif row.result is not None:
            for reason in dict.fromkeys(r for comparison in row.result.rows for r in comparison.refused):
                texts.setdefault(reason, []).append(row.scores.candidate.name)
    return tuple(f"{line(reason, 200)} — {_names(names)}" for reason, names in texts.items())


def flat(rows: Sequence[Row], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """All numbers of the rows for export, one record per candidate and benchmark."""
    return [_flat(row, column) for row in rows for column in columns if row.score(column) is not None]


def _flat(row: Row, column: Column) -> dict[str, Any]:
    candidate, score, comparison = row.scores.candidate, row.score(column), row.difference(column)
    assert score is not None
    delta = comparison.delta if comparison is not None else None
    return {
        "candidate": candidate.name,
        "position": candidate.position,
        "is_base": row.is_base,
        "layers": candidate.layers,
        "parameters": candidate.parameters,
        "weights_digest": candidate.weights_digest,
        "suite": column.suite,
        "benchmark": column.benchmark,
        "engine": column.engine,
        "raw": score.raw,
        "normalized": score.normalized,
        "n": score.n,
        "partial": score.partial,
        "alarms": "; ".join(f"{a.kind} {a.share:.2f}" for a in score.alarms),
        "delta_points": delta.delta_points if delta else None,
        "delta_percent": delta.delta_percent if delta else None,
        "interval_low": delta.interval.low if delta else None,
        "interval_high": delta.interval.high if delta else None,
        "p": delta.p if delta else None,
        "p_corrected": comparison.p_corrected if comparison else None,
        "verdict": comparison.verdict if comparison else None,
        "not_compared_because": "; ".join(comparison.refused) if comparison else None,
    }


def _difference(comparison: PairResult | None, row: ComparisonRow | None, shown: Shown) -> str:
    if isinstance(comparison, Broken):
        return FORBIDDEN
    if row is None:
        return WAITING
    if row.delta is None:
        return FORBIDDEN
    sign = ""
    if row.significant:
        sign = "▲ " if row.delta.delta_points > 0 else "▼ "
    forced = " (forced)" if row.forced else ""
    if shown is Shown.PERCENT:
        percent = row.delta.delta_percent
        return f"{sign}{percent:+z.1f} %{forced}" if percent is not None else f"{sign}n/a (base 0){forced}"
    span = row.delta.interval
    return f"{sign}{row.delta.delta_points:+z.2f} [{span.low:+z.1f}, {span.high:+z.1f}]{forced}"


def _names(names: Sequence[str]) -> str:
    first = line(names[0], 50)
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
