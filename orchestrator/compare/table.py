"""Render comparisons as tables of 100 columns for terminals and text files."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evals.rounding import change_text, points_text
from evals.stats import MarginOutcome
from orchestrator.compare.comparison import SIGNIFICANT, Comparison, ComparisonRow
from orchestrator.compare.correction import correction_text
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import Terminal

_SIGNS = {
    "better": Text("better ▲", "green"),
    "worse": Text("worse ▼", "red"),
    "no difference shown": Text("not shown", "dim"),
}


def print_comparisons(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print one table per candidate with its remarks below."""
    for comparison in comparisons:
        console.print(_table(comparison))
        for line in _below(comparison):
            console.print(line, highlight=False)
        console.print()


def comparison_text(comparisons: Sequence[Comparison], width: int = 100) -> str:
    """The tables as plain text."""
    buffer = io.StringIO()
    print_comparisons(
        comparisons, Terminal(file=buffer, width=width, color_system=None, legacy_windows=False)
    )
    return buffer.getvalue()


def _table(comparison: Comparison) -> Table:
    title = f"{comparison.candidate} against {comparison.base}"
    table = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("Benchmark", no_wrap=True, max_width=15, overflow="ellipsis")
    for name in ("n", "Base", "Cand.", "Δ points", "95 % interval", "Δ percent", "flips", "p corr."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    marks = _marks(comparison)
    for row in comparison.rows:
        table.add_row(*_cells(row, marks))
    if comparison.averages:
        table.add_section()
    for row in comparison.averages:
        table.add_row(*_cells(row, marks), style="bold")
    return table


def _cells(row: ComparisonRow, marks: dict[str, int]) -> list[str | Text]:
    numbers = "".join(f"[{marks[text]}]" for text in _texts(row))
    title = f"{row.title}{' ' + numbers if numbers else ''}"
    base, candidate = (points_text(v) if v is not None else "–" for v in (row.base, row.candidate))
    if row.delta is None:
        return [title, "", base, candidate, "", "", "", "", "", "refused"]
    d = row.delta
    span = f"{change_text(d.interval.low)} … {change_text(d.interval.high)}"
    percent = f"{change_text(d.delta_percent, 1)} %" if d.delta_percent is not None else "–"
    flips = f"+{d.gained} −{d.lost}" if d.gained is not None else "–"
    word = _SIGNS[row.verdict] + Text(" !" if row.forced else "", "yellow")
    return [
        title,
        f"{d.n:,}",
        base,
        candidate,
        change_text(d.delta_points),
        span,
        percent,
        flips,
        p_value(row.p_corrected),
        word,
    ]


def _below(comparison: Comparison) -> list[str]:
    """Lines below a table: numbered remarks, the detectable difference and the correction of the p-values."""
    lines = [f"  [{number}] {text}" for text, number in _marks(comparison).items()]
    not_significant = [r for r in comparison.rows if r.delta is not None and not r.significant]
    if not_significant:
        detectable = ", ".join(
            f"{r.title} {r.delta.detectable_points:.1f}" for r in not_significant if r.delta is not None
        )
        lines.append(
            f"  Smallest true difference that would mostly have been found, in points: {detectable}."
        )
    lines += _margin_lines(comparison)
    alone = [r.title for r in (*comparison.rows, *comparison.averages) if r.alone]
    if alone:
        lines.append(
            f"  {', '.join(alone)}: p < {SIGNIFICANT} on its own; of {comparison.n_tests:,} tests without any effect about "
            f"{max(1, round(SIGNIFICANT * comparison.n_tests)):,} would show as much."
        )
    lines.append(
        f"  p corr.: {correction_text(comparison.n_tests, comparison.n_candidates)}; better or worse is p corr. < {SIGNIFICANT}. "
        "Intervals: each for its row alone."
    )
    return lines


def _margin_lines(comparison: Comparison) -> list[str]:
    """What is shown about the margin, one line per outcome."""
    titles: dict[MarginOutcome, list[str]] = {}
    margin = None
    for row in (*comparison.rows, *comparison.averages):
        if row.margin is not None:
            margin = row.margin.margin_points
            titles.setdefault(row.margin.outcome, []).append(row.title)
    if margin is None:
        return []
    lines = [
        f"  Margin {margin:g} points (one-sided 2.5 %, equivalence by two one-sided tests at 5 %, p corr.):"
    ]
    return lines + [
        f"    {outcome}: {', '.join(titles[outcome])}." for outcome in MarginOutcome if outcome in titles
    ]


def _marks(comparison: Comparison) -> dict[str, int]:
    texts = dict.fromkeys(text for row in (*comparison.rows, *comparison.averages) for text in _texts(row))
    return {text: number for number, text in enumerate(texts, start=1)}


def _texts(row: ComparisonRow) -> list[str]:
    prefix = "! forced although: " if row.forced else ""
    return [*(f"{prefix}{reason}" for reason in row.refused), *row.notes]
