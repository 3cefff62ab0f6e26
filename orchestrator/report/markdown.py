"""Render a report as Markdown for a pull request or a card: verdict, tables, forest plots as text, provenance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from orchestrator.display.text_safety import escaped, line, plain
from orchestrator.report.deltas import interval_text, shape_of, signed
from orchestrator.report.drawing import limits
from orchestrator.report.page import (
    CodeText,
    DeltaTable,
    FactList,
    LineList,
    QuestionList,
    ReportBlock,
    ReportLine,
    ReportMap,
    ReportPage,
    ReportPicture,
    ReportTable,
    ReportTone,
    SequenceList,
)

_LONG = 600
_WIDTH = 41
_LABEL = 26
_MOST_ROWS = 50
_MOST_QUESTIONS = 6
_QUESTION = 300
_BEST_CELLS = 10


def render_markdown(page: ReportPage) -> str:
    """The report as Markdown; every foreign text is escaped, and cut where it is long."""
    parts = [f"# {_text(page.title)}", _text(page.subtitle) if page.subtitle else ""]
    parts += [f"> **Note:** {_text(notice.text)}" for notice in page.notices]
    parts += [f"**{_text(page.verdict.headline)}**", _lines(page.verdict.lines)]
    for section in page.sections:
        parts += [f"## {_text(section.title)}", _text(section.intro) if section.intro else ""]
        parts += [_block(block) for block in section.blocks]
    made_on = page.made_at.strftime("%Y-%m-%d %H:%M UTC")
    parts.append(f"Made {made_on} by mergeboard {_text(page.made_by)}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: ReportBlock) -> str:
    renderers: dict[str, Callable[..., str]] = {
        "deltas": _deltas,
        "sequences": _sequences,
        "table": _table,
        "map": _map,
        "questions": _questions,
        "facts": _facts,
        "lines": _line_list,
        "code": _code,
        "picture": _picture,
    }
    return renderers[block.type](block)


def forest_text(table: DeltaTable) -> str:
    """A forest plot in characters: `├──●──┤`, the base at `│`; ▲ and ▼ are shown differences."""
    low, high = limits(table.rows)

    def at(value: float) -> int:
        return round((value - low) / (high - low) * (_WIDTH - 1))

    zero = at(0.0)
    decimals = table.decimals
    ends = f"{signed(low, decimals)}".ljust(_WIDTH // 2) + f"{signed(high, decimals)}".rjust(
        _WIDTH - _WIDTH // 2
    )
    rows = [f"{'':{_LABEL}} {ends}"]
    for row in table.rows[:_MOST_ROWS]:
        label = f"{_plain(row.label, _LABEL):{_LABEL}}"
        if row.delta is None or row.low is None or row.high is None:
            rows.append(f"{label} {'':{_WIDTH}} {row.word}")
            continue
        cells = [" "] * _WIDTH
        cells[zero] = "│"
        start, end = at(row.low), at(row.high)
        cells[start : end + 1] = "─" * (end - start + 1)
        cells[start], cells[end] = "├", "┤"
        if start <= zero <= end:
            cells[zero] = "┼"
        cells[at(row.delta)] = shape_of(row.tone, row.delta) or "●"
        p = f"  p {row.p}" if row.p else ""
        rows.append(f"{label} {''.join(cells)} {signed(row.delta, decimals):>6}{p}  {row.word}")
    if len(table.rows) > _MOST_ROWS:
        rows.append(f"and {len(table.rows) - _MOST_ROWS:,} more")
    return "\n".join(row.rstrip() for row in rows)


def _deltas(table: DeltaTable) -> str:
    refused = [
        f"- {_text(row.label)}: {_text(row.note)}" for row in table.rows if row.delta is None and row.note
    ]
    heads = (
        table.first, *table.headings, "Δ", "95 % interval", table.flips, table.p_heading, "shown",
    )  # fmt: skip
    body = [
        (
            _text(row.label),
            row.base,
            row.candidate,
            "–" if row.delta is None else signed(row.delta, table.decimals),
            "" if row.low is None or row.high is None else interval_text(row.low, row.high, table.decimals),
            row.flips,
            row.p,
            f"{shape_of(row.tone, row.delta)} {row.word}".strip(),
        )
        for row in table.rows[:_MOST_ROWS]
    ]
    parts = [_fence(forest_text(table)), _grid(heads, body, right=range(1, 7)), "\n".join(refused)]
    return "\n\n".join(part for part in [*parts, _notes(table.notes)] if part)


def _sequences(block: SequenceList) -> str:
    body = [
        (
            _text(entry.candidate),
            _text(entry.benchmark),
            _text(entry.score),
            f"{shape_of(entry.tone, None)} {_text(entry.text)}".strip(),
        )
        for entry in block.lines[:_MOST_ROWS]
    ]
    more = len(block.lines) - _MOST_ROWS
    notes = [*block.notes, *([f"and {more:,} more comparisons"] if more > 0 else [])]
    grid = _grid(("candidate", "benchmark", "score", "decision"), body, right=[2])
    return "\n\n".join(part for part in (grid, _notes(notes)) if part)


def _table(table: ReportTable) -> str:
    heads = (_text(table.first), *(_text(column.title) for column in table.columns))
    body = [
        (
            _text(row.name) + (f" ({_text(row.remark)})" if row.remark else ""),
            *(f"{_number(cell.text)} {cell.delta}".strip() for cell in row.cells),
        )
        for row in table.rows[:_MOST_ROWS]
    ]
    right = [n for n, column in enumerate(table.columns, start=1) if column.numeric]
    more = len(table.rows) - _MOST_ROWS
    notes = [*table.notes, *([f"and {more:,} more rows"] if more > 0 else [])]
    return "\n\n".join(part for part in (_grid(heads, body, right), _notes(notes)) if part)


def _map(heat: ReportMap) -> str:
    measured = [cell for cell in heat.cells if cell.delta is not None]
    best = sorted(measured, key=lambda cell: -(cell.delta or 0.0))[:_BEST_CELLS]
    title = f"**{_text(heat.title)}**: {_text(heat.subtitle, _LONG)}"
    if not heat.large:
        return title
    return "\n".join([title, "", *(f"- {_text(cell.text)}" for cell in best)])


def _questions(block: QuestionList) -> str:
    parts = []
    for question in block.questions[:_MOST_QUESTIONS]:
        what = "gained" if question.gained else "lost"
        lines = [
            f"- **{_text(question.place)}**, {what} by {_text(question.candidate)}",
            f"  - right answer: {_text(question.target, _QUESTION)}",
            f"  - {_text(block.base)}: {_text(''.join(p.text for p in question.base), _QUESTION)}",
            f"  - {_text(question.candidate)}: {_text(''.join(p.text for p in question.response), _QUESTION)}",
        ]
        if question.question:
            lines.insert(1, f"  - question: {_text(question.question, _QUESTION)}")
        parts.append("\n".join(lines))
    more = len(block.questions) - _MOST_QUESTIONS
    return "\n".join([*parts, *([f"- and {more:,} more in the HTML report"] if more > 0 else [])])


def _facts(block: FactList) -> str:
    return "\n".join(f"- {_text(fact.name)}: {_text(fact.value, _LONG)}" for fact in block.facts)


def _line_list(block: LineList) -> str:
    return _lines(block.lines)


def _lines(lines: Sequence[ReportLine]) -> str:
    return "\n".join(f"- {_sign(entry.tone)}{_text(entry.text, _LONG)}" for entry in lines)


def _code(block: CodeText) -> str:
    if block.folded:
        return ""
    return f"{_text(block.title)}:\n\n{_fence(plain(block.text))}"


def _picture(block: ReportPicture) -> str:
    """The picture's title: Markdown has no image of its own, and the page has it."""
    return f"*Picture: {_text(block.title)}*"


def _fence(text: str) -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] | range) -> str:
    aligned = ["--:" if n in right else "---" for n in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, aligned, *rows))


def _notes(notes: Sequence[str]) -> str:
    return "\n".join(f"- {_text(note, _LONG)}" for note in notes)


def _sign(tone: ReportTone) -> str:
    sign = shape_of(tone, None)
    return f"{sign} " if sign else ""


def _text(text: str, limit: int = _LONG) -> str:
    return escaped(text, limit)


def _number(text: str) -> str:
    """A cell's text: numbers as they are, words escaped."""
    return text if re.fullmatch(r"[-+−\d.,%]+", text) else escaped(text)


def _plain(text: str, limit: int) -> str:
    """A label in a code block: one line without the fence's character."""
    return line(text, limit - 1).replace("`", "'")
