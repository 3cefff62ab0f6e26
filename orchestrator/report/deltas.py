"""Comparisons as rows of forest plots and cells of tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.compare.correction import correction_text
from orchestrator.display.format import p_value
from orchestrator.report.page import DeltaLine, DeltaTable, ReportCell, ReportTone

SHAPES = {
    ReportTone.BETTER: "▲",
    ReportTone.WORSE: "▼",
    ReportTone.HINT: "△",
    ReportTone.HOLDS: "✓",
    ReportTone.FAILS: "✗",
    ReportTone.REFUSED: "⊘",
    ReportTone.WARNING: "!",
    ReportTone.PLAIN: "",
}
"""A sign of each tone besides its colour; a hint of a loss is `▽`."""
UNSHOWN = "no difference shown"


def signed(value: float, decimals: int = 1) -> str:
    """A difference with its sign: `+1.2`, `−0.4`, `0.0`."""
    text = f"{value:+z.{decimals}f}"
    return text.replace("+", "") if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def interval_text(low: float, high: float, decimals: int = 1) -> str:
    """A 95 % interval: `−2.0 to +3.1`."""
    return f"{signed(low, decimals)} to {signed(high, decimals)}"


def tone_of(row: ComparisonRow) -> ReportTone:
    """What a row shows."""
    if row.delta is None:
        return ReportTone.REFUSED
    if row.significant:
        return ReportTone.BETTER if row.improved else ReportTone.WORSE
    return ReportTone.HINT if row.alone else ReportTone.PLAIN


def shape_of(tone: ReportTone, delta: float | None) -> str:
    """The sign of a tone; a hint points where the difference does."""
    return "▽" if tone is ReportTone.HINT and delta is not None and delta < 0 else SHAPES[tone]


def word_of(row: ComparisonRow) -> str:
    """What a row shows, in a few words."""
    if row.delta is None:
        return "not compared"
    if row.significant:
        return row.verdict + (", forced" if row.forced else "")
    return ("not after correction" if row.alone else "not shown") + (", forced" if row.forced else "")


def score(value: float | None) -> str:
    """A normalized score with one decimal."""
    return "–" if value is None else f"{value:.1f}"


def delta_line(row: ComparisonRow, label: str | None = None) -> DeltaLine:
    """A comparison row as a row of a forest plot."""
    delta = row.delta
    common = {
        "label": label or row.title,
        "base": score(row.base),
        "candidate": score(row.candidate),
        "tone": tone_of(row),
        "word": word_of(row),
        "strong": row.benchmark is None,
        "note": "; ".join(row.refused),
    }
    if delta is None:
        return DeltaLine.model_validate(common)
    flips = f"+{delta.gained} −{delta.lost}" if delta.gained is not None else "no samples"
    return DeltaLine.model_validate(
        {
            **common,
            "delta": delta.delta_points,
            "low": delta.interval.low,
            "high": delta.interval.high,
            "p": p_value(row.p_corrected),
            "flips": flips,
        }
    )


def details_of(comparison: Comparison, base: str) -> DeltaTable:
    """All benchmarks of a candidate, its averages first; a reason that holds for all of them is said once."""
    rows = (*comparison.averages, *comparison.rows)
    lines = tuple(delta_line(row) for row in rows)
    notes = notes_of(rows)
    reasons = {entry.note for entry in lines}
    if len(lines) > 1 and len(reasons) == 1 and (reason := next(iter(reasons))):
        lines = tuple(entry.model_copy(update={"note": ""}) for entry in lines)
        notes = (f"Not compared: {reason}.", *notes)
    return DeltaTable(
        caption=f"{comparison.candidate} against {base}", rows=lines, p_heading="p corrected", notes=notes
    )


def notes_of(rows: Sequence[ComparisonRow]) -> tuple[str, ...]:
    """Remarks on rows, each once, with the benchmarks that it is about unless it is about all."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            texts.setdefault(note, []).append(row.title)
    benchmarks = {row.title for row in rows if row.benchmark is not None}
    return tuple(
        note if benchmarks <= set(titles) or not benchmarks else f"{', '.join(titles)}: {note}"
        for note, titles in texts.items()
    )


def delta_cell(value: float | None, row: ComparisonRow | None, mark: str = "") -> ReportCell:
    """A score with its difference to the base; `mark` is a sign of a partial or doubtful score."""
    text = score(value) + mark
    if row is None:
        return ReportCell(text=text, value=value)
    if row.delta is None:
        return ReportCell(
            text=text,
            value=value,
            delta="⊘" if value is not None else "",
            tone=ReportTone.REFUSED,
            hint=f"not compared: {'; '.join(row.refused)}",
        )
    tone, delta = tone_of(row), row.delta
    return ReportCell(
        text=text,
        value=value,
        delta=f"{shape_of(tone, delta.delta_points)}{signed(delta.delta_points)}",
        tone=tone,
        hint=f"95 % interval {interval_text(delta.interval.low, delta.interval.high)}, p {p_value(row.p_corrected)}",
    )


def tests_text(comparisons: Iterable[Comparison]) -> str:
    """What the p-values are corrected for."""
    family = list(comparisons)
    n_tests = max((c.n_tests for c in family), default=0)
    n_candidates = max((c.n_candidates for c in family), default=0)
    return correction_text(n_tests, n_candidates)
