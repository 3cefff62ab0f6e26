"""Tables whose rows can be opened by click and by key; those of a comparison have a forest plot above them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.components.colours import component_colours
from orchestrator.charts import Meaning, meaning_of
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
    ("Benchmark", "text", False, "Normalized as on its leaderboard"),
    ("Base", "number", False, "Normalized score of the base, 0 to 100"),
    ("Candidate", "number", False, "Normalized score of the candidate, 0 to 100"),
    ("Δ points", "number", False, "Candidate minus base, in points of the normalized score"),
    ("95 % interval", "number", True, "Of this row alone, from the answers to the same questions"),
    ("Δ %", "number", True, "Relative to the base's score"),
    ("Gained", "number", True, "Questions that only the candidate answers right"),
    ("Lost", "number", True, "Questions that only the base answers right"),
    ("Verdict", "verdict", False, "After correction for everything that was tried"),
)
_KINDS = {
    Meaning.BETTER: "better",
    Meaning.WORSE: "worse",
    Meaning.BETTER_UNCORRECTED: "better before",
    Meaning.WORSE_UNCORRECTED: "worse before",
    Meaning.NEUTRAL: "unsure",
    Meaning.REFUSED: "refused",
}
"""CSS classes."""
VERDICT_MEANING = (
    "▲ ▼ better or worse, after correction for everything that was tried. △ ▽ only before the correction: the "
    "interval excludes 0. ○ no difference shown. ⊘ not compared."
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
            "rows": [_row(row, selected) for row in rows],
            "bring": bring,
        },
        on_picked_change=picked,
    )


def show_table(
    rows: Mapping[str, Sequence[str]],
    titles: Sequence[str],
    *,
    key: str,
    name: str,
    opens: str = "",
    on_open: Callable[[str], None] | None = None,
    selected: str | None = None,
    wide: Collection[str] = (),
    long: Collection[str] = (),
    numbers: Collection[str] = (),
    helps: Mapping[str, str] | None = None,
) -> None:
    """Draw texts as a table; `on_open` is called with the key of a row that is clicked.

    The first column is the name of a row. Columns in `wide` are left out where there is no room, those in `long`
    are wrapped, those in `numbers` aligned at the right; `helps` explains columns.
    """

    def picked() -> None:
        chosen = st.session_state[key].get("picked")
        if on_open is not None and chosen in rows:
            on_open(str(chosen))

    def kind(title: str) -> str:
        return "long" if title in long else "number" if title in numbers else "text"

    _rows(
        key=key,
        data={
            "colours": component_colours(),
            "name": name,
            "opens": opens,
            "columns": [
                {"title": t, "kind": kind(t), "wide": t in wide, "help": (helps or {}).get(t, "")}
                for t in titles
            ],
            "rows": [
                {
                    "key": row,
                    "opens": on_open is not None,
                    "chosen": row == selected,
                    "kind": "",
                    "cells": list(texts),
                }
                for row, texts in rows.items()
            ],
            "bring": False,
        },
        on_picked_change=picked,
    )


def meaning_of_row(row: ComparisonRow) -> Meaning:
    """What a row's difference means."""
    return meaning_of(
        row.delta.delta_points if row.delta else None,
        significant=row.significant,
        excludes_zero=row.alone,
        lower_is_better=row.lower_is_better,
    )


def _row(row: ComparisonRow, selected: str | None) -> dict[str, Any]:
    delta = row.delta
    meaning = meaning_of_row(row)
    span = f"[{delta.interval.low:+z.1f}, {delta.interval.high:+z.1f}]" if delta else ""
    points = f"{delta.delta_points:+z.1f}" if delta else ""
    percent = f"{delta.delta_percent:+z.1f} %" if delta and delta.delta_percent is not None else ""
    return {
        "key": row.benchmark,
        "chosen": selected is not None and row.benchmark == selected,
        "average": row.benchmark is None,
        "opens": row.benchmark is not None and row.base is not None and row.candidate is not None,
        "kind": _KINDS[meaning],
        "mark": meaning.mark or "○",
        "delta": delta.delta_points if delta else None,
        "low": delta.interval.low if delta else None,
        "high": delta.interval.high if delta else None,
        "value": points,
        "interval": span,
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
            f"{meaning.mark} {meaning}".strip() + (" (forced)" if row.forced else ""),
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
