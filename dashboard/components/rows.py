"""Forest plot and table of a comparison: one row per benchmark and average, of which one can be opened."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.components.colours import component_colours
from orchestrator.compare import Comparison, ComparisonRow
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import line

_HERE = Path(__file__).parent
_rows = st.components.v2.component(
    "mergeboard_compared_rows",
    html='<div class="rows"></div>',
    css=(_HERE / "rows.css").read_text(encoding="utf-8"),
    js=(_HERE / "rows.js").read_text(encoding="utf-8"),
)
_COLUMNS = (
    ("Benchmark", "text", False, ""),
    ("Base", "number", False, "Normalized score of the base, 0 to 100"),
    ("Candidate", "number", False, "Normalized score of the candidate, 0 to 100"),
    ("Δ points", "number", False, "Candidate minus base, in points of the normalized score"),
    ("95 % interval", "number", True, "Of this row alone, from the answers to the same questions"),
    ("Δ %", "number", True, "Relative to the base's score"),
    ("Gained", "number", True, "Questions that only the candidate answers right"),
    ("Lost", "number", True, "Questions that only the base answers right"),
    ("Verdict", "verdict", False, "After correction for everything that was tried"),
)
_VERDICTS = {
    "better": "▲ better",
    "worse": "▼ worse",
    "unsure": "no difference shown",
    "alone": "◇ not after correction",
    "refused": "⊘ not compared",
}
VERDICT_MEANING = (
    "▲ ▼: better or worse after correction for everything that was tried. ◇: the interval excludes 0, but not after the "
    "correction. ○: no difference shown. ⊘: not compared."
)


def show_rows(
    comparison: Comparison,
    *,
    key: str,
    selected: str | None,
    bring: bool,
    opens: str,
    on_open: Callable[[str], None],
) -> None:
    """Draw the forest plot and the table; `on_open` is called with the name of a benchmark that is clicked.

    `opens` says what a click does. With `bring`, the selected row is scrolled into view when the page opens.
    """
    rows = [*comparison.rows, *comparison.averages]

    def picked() -> None:
        name = st.session_state[key].get("picked")
        if any(row.benchmark == name for row in comparison.rows):
            on_open(str(name))

    _rows(
        key=key,
        data={
            "colours": component_colours(),
            "name": f"Benchmarks, {line(comparison.candidate, 60)} against {line(comparison.base, 60)}",
            "axis": "Candidate minus base, points of the normalized score; lines are 95 % intervals",
            "alt": _alternative(comparison, rows),
            "opens": opens,
            "scale": _scale(rows),
            "columns": [
                {"title": title, "kind": kind, "wide": wide, "help": text}
                for title, kind, wide, text in _COLUMNS
            ],
            "rows": [_row(row) for row in rows],
            "selected": selected,
            "bring": bring,
        },
        on_picked_change=picked,
    )


def mark_of(row: ComparisonRow) -> str:
    """The kind of a row: `better`, `worse`, `alone`, `unsure` or `refused`."""
    if row.delta is None:
        return "refused"
    return "alone" if row.alone else row.verdict if row.significant else "unsure"


def _row(row: ComparisonRow) -> dict[str, Any]:
    delta = row.delta
    mark = mark_of(row)
    span = f"[{delta.interval.low:+z.1f}, {delta.interval.high:+z.1f}]" if delta else ""
    points = f"{delta.delta_points:+z.1f}" if delta else ""
    percent = f"{delta.delta_percent:+z.1f} %" if delta and delta.delta_percent is not None else ""
    return {
        "key": row.benchmark,
        "average": row.benchmark is None,
        "opens": row.benchmark is not None and row.base is not None and row.candidate is not None,
        "mark": mark,
        "delta": delta.delta_points if delta else None,
        "low": delta.interval.low if delta else None,
        "high": delta.interval.high if delta else None,
        "value": f"{points} {span}",
        "hint": _hint(row),
        "cells": [
            line(row.title, 40),
            _number(row.base),
            _number(row.candidate),
            points or "–",
            span or "–",
            percent or "–",
            _count(delta.gained if delta else None),
            _count(delta.lost if delta else None),
            _VERDICTS[mark] + (" (forced)" if row.forced else ""),
        ],
    }


def _hint(row: ComparisonRow) -> str:
    if row.delta is None:
        return line("; ".join(row.refused), 300)
    return f"p {p_value(row.p_corrected)} after correction, {row.delta.n:,} questions"


def _scale(rows: Sequence[ComparisonRow]) -> dict[str, Any]:
    """The axis of the plot: it holds 0 and every interval, with at most seven round ticks."""
    ends = [end for r in rows if r.delta for end in (r.delta.interval.low, r.delta.interval.high)]
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    width = max(high - low, 1.0)
    low, high = low - 0.04 * width, high + 0.04 * width
    power = 10.0 ** math.floor(math.log10(width / 3))
    step = next(power * m for m in (1, 2, 5, 10, 20) if width / (power * m) <= 6)
    ticks = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return {
        "low": low,
        "high": high,
        "ticks": [{"value": t, "text": f"{t:+zg}" if t else "0"} for t in ticks],
    }


def _alternative(comparison: Comparison, rows: Sequence[ComparisonRow]) -> str:
    """The plot in words."""
    parts = [
        f"{line(r.title, 40)} {r.delta.delta_points:+z.1f}, from {r.delta.interval.low:+z.1f} to {r.delta.interval.high:+z.1f}"
        for r in rows
        if r.delta
    ]
    title = f"Forest plot, {line(comparison.candidate, 60)} minus {line(comparison.base, 60)}, in points"
    return f"{title}: {'; '.join(parts)}."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
