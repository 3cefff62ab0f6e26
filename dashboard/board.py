"""The rows of a leaderboard as values and as cells: scores, differences to the base, and what may not be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dashboard.comparisons import Broken, Found
from evals.errors import EvaluationError
from evals.normalize import suite_score
from evals.scores import PROBE_SUITE, BenchmarkScore, SuiteScore
from evals.suite import Suite, load_suite
from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.display.format import duration, parameters
from orchestrator.display.text_safety import line
from orchestrator.store.pages import Column
from orchestrator.store.records import CandidateScores

NAME = "Recipe"
MEAN = "Mean"
FORBIDDEN = "⊘"
WAITING = "…"


class Shown(StrEnum):
    """What a leaderboard's cells hold besides the normalized score."""

    POINTS = "delta_points"
    PERCENT = "delta_percent"
    SCORES = "scores"


class Tint(StrEnum):
    """How a cell is marked; colour and sign go together."""

    NONE = ""
    BETTER = "better"
    WORSE = "worse"
    FORBIDDEN = "not compared"


@dataclass(frozen=True)
class Row:
    """A candidate with what was found about it."""

    scores: CandidateScores
    found: Found | None
    pinned: bool = False
    is_base: bool = False

    def score(self, column: Column) -> BenchmarkScore | None:
        """Its result in a column."""
        return next(
            (
                e.result
                for e in self.scores.evaluations
                if (e.suite, e.result.benchmark) == (column.suite, column.benchmark)
            ),
            None,
        )

    def difference(self, column: Column) -> ComparisonRow | None:
        """Its comparison in a column, where it is there."""
        if not isinstance(self.found, Comparison):
            return None
        wanted = (column.suite, column.benchmark)
        return next((r for r in self.found.rows if (r.suite, r.benchmark) == wanted), None)

    def mean(self, suite: str) -> ComparisonRow | None:
        """The comparison of its suite's mean."""
        if not isinstance(self.found, Comparison):
            return None
        return next((r for r in self.found.averages if r.suite == suite), None)


def known_suite(name: str) -> Suite | None:
    """A suite, if this version of mergeboard knows it."""
    try:
        return load_suite(name)
    except EvaluationError:
        return None


def title(column: Column) -> str:
    """A benchmark's name for people; a probe is called one, since its values are no scores."""
    suite = known_suite(column.suite)
    if column.suite == PROBE_SUITE:
        return f"probe {line(column.benchmark, 40)}"
    if suite is None:
        return line(column.benchmark, 40)
    return next((b.title for b in suite.benchmarks if b.name == column.benchmark), line(column.benchmark, 40))


def cells(row: Row, columns: Sequence[Column], titles: Mapping[Column, str], shown: Shown) -> dict[str, Any]:
    """A row of the table as it is shown."""
    candidate = row.scores.candidate
    mark = "◆ " if row.is_base else ("📌 " if row.pinned else "")
    found: dict[str, Any] = {NAME: mark + line(candidate.name, 70)}
    suite = known_suite(columns[0].suite) if columns else None
    if suite is not None:
        found[MEAN] = mean_cell(row, suite, shown)
    found |= {titles[column]: cell(row, column, shown) for column in columns}
    return found | {
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
    return f"{text}  {_difference(row.found, row.difference(column), shown)}"


def mean_cell(row: Row, suite: Suite, shown: Shown) -> str:
    """The suite's average, or the mean of what is there, marked as such."""
    whole = suite_of(row, suite)
    if whole is None or whole.partial_average is None:
        return "–"
    value = whole.average if whole.average is not None else whole.partial_average
    of = "" if whole.average is not None else f" ({len(whole.benchmarks)}/{len(suite.benchmarks)})"
    if whole.average is None and not whole.missing:
        of = " ◔"
    if row.is_base or shown is Shown.SCORES:
        return f"{value:.2f}{of}"
    difference = row.mean(suite.name)
    if difference is None:
        return f"{value:.2f}{of}" + (f"  {WAITING}" if row.found is None else "")
    return f"{value:.2f}{of}  {_difference(row.found, difference, shown)}"


def suite_of(row: Row, suite: Suite) -> SuiteScore | None:
    """A row's results put together as its suite does."""
    known = {b.name for b in suite.benchmarks}
    results = [
        e.result for e in row.scores.evaluations if e.suite == suite.name and e.result.benchmark in known
    ]
    return suite_score(suite, results) if results else None


def marks(score: BenchmarkScore) -> str:
    """Signs of what to know about a score: partial, alarmed."""
    return ("◔" if score.partial else "") + ("⚠" if score.alarms else "")


def tint(row: Row, column: Column | None, suite: str) -> Tint:
    """How a cell is marked; None is the mean."""
    if row.is_base:
        return Tint.NONE
    found = row.mean(suite) if column is None else row.difference(column)
    if isinstance(row.found, Broken) or (found is not None and found.delta is None):
        return Tint.FORBIDDEN if column is not None and row.score(column) is not None else Tint.NONE
    if found is None or found.delta is None or not found.significant:
        return Tint.NONE
    return Tint.BETTER if found.delta.delta_points > 0 else Tint.WORSE


def reasons(rows: Sequence[Row]) -> tuple[str, ...]:
    """Why cells of these rows are not compared, in words, each once with the first recipe that it is about."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row.found, Broken):
            texts.setdefault(row.found.reason, []).append(row.scores.candidate.name)
        elif row.found is not None:
            for reason in dict.fromkeys(r for found in row.found.rows for r in found.refused):
                texts.setdefault(reason, []).append(row.scores.candidate.name)
    return tuple(f"{line(reason, 200)} — {_names(names)}" for reason, names in texts.items())


def flat(rows: Sequence[Row], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Every number of the rows, one line per candidate and benchmark: what is taken away as CSV or Parquet."""
    return [_flat(row, column) for row in rows for column in columns if row.score(column) is not None]


def _flat(row: Row, column: Column) -> dict[str, Any]:
    candidate, score, found = row.scores.candidate, row.score(column), row.difference(column)
    assert score is not None
    delta = found.delta if found is not None else None
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
        "p_corrected": found.p_corrected if found else None,
        "verdict": found.verdict if found else None,
        "not_compared_because": "; ".join(found.refused) if found else None,
    }


def _difference(found: Found | None, row: ComparisonRow | None, shown: Shown) -> str:
    if isinstance(found, Broken):
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
