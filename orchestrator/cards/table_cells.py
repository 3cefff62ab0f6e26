"""Read the numbers of a table with the labels, metrics, shots and conditions of their rows and columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.claims.facts import Facts
from evals.claims.known import (
    is_metric,
    is_setting,
    joined,
    known_benchmarks,
    match_any,
    metric_in,
    unqualified,
)
from evals.claims.labels import LabelMatch, shots_in
from evals.suite import Suite
from orchestrator.cards.figures import Number, counted, number_in, numbers_in
from orchestrator.cards.grid import Grid
from orchestrator.cards.orientation import MODEL_HEADERS, Orientation, may_score
from orchestrator.cards.protocol import protocol_of, questions_in
from orchestrator.cards.series import DUPLICATE
from orchestrator.cards.stated import facts_of_cell, facts_of_label

_SHOTS = frozenset(("nshot", "nshots", "shots", "shot", "fewshot", "numfewshot"))
# Columns whose numbers are not scores.
_NO_SCORES = _SHOTS | frozenset(
    ("version", "filter", "stderr", "n", "rank", "size", "params", "parameters", "layers")
)
_METRICS = frozenset(("metric", "metrics"))


@dataclass(frozen=True)
class Cell:
    """A number of a table with facts from its row and column; `named` is None for an unknown benchmark."""

    label: str
    named: LabelMatch | None
    series: str
    place: tuple[int, int]  # the series' own cell: row (-1 is the header) and column
    metric: str | None
    shots: int | None
    n: int | None
    facts: Facts
    number: Number
    line: int


def cells_of(grid: Grid, place: Orientation, suites: Sequence[Suite]) -> list[Cell]:
    """The numbers of a table that can be scores or changes."""
    return _across(grid, suites) if place.across else _down(grid, place.column, suites)


def _across(grid: Grid, suites: Sequence[Suite]) -> list[Cell]:
    """Benchmarks are columns; each row is a series."""
    columns = _score_columns(grid, suites)
    model = next(
        (i for i, h in enumerate(grid.header) if joined(h) in MODEL_HEADERS and i not in columns), None
    )
    cells = []
    series_names: set[str] = set()
    for r, (row, line) in enumerate(zip(grid.rows, grid.lines, strict=True)):
        words = [
            i
            for i, c in enumerate(row)
            if i not in columns
            and joined(c)
            and number_in(c) is None
            and joined(_header(grid, i)) not in _NO_SCORES
        ]
        at = model if model is not None and model < len(row) else (words[0] if words else 0)
        title = row[at] if at in words or at == model else ""
        facts = protocol_of(title)
        for i in words:
            cell_facts = facts_of_label(row[i]) if i == at else facts_of_cell(_header(grid, i), row[i])
            facts = cell_facts.plus(facts.known)
        # Two rows of the same name are two series, because their scales can differ.
        title = title.replace(DUPLICATE, " ")
        series = title if title not in series_names else f"{title}{DUPLICATE}{r}"
        series_names.add(title)
        for i, label in columns.items():
            beside = facts.plus(_facts_beside(row[i]).known) if i < len(row) else facts
            for part, number in _numbers(label, row[i]) if i < len(row) else ():
                cells.append(
                    _cell(part, suites, series, (r, at), None, shots_in(title), beside, number, line)
                )
    return cells


def _score_columns(grid: Grid, suites: Sequence[Suite]) -> dict[int, str]:
    """The columns that can contain scores, with their labels; the first column only if it names a benchmark."""
    return {
        i: h
        for i, h in enumerate(grid.header)
        if match_any(h, suites) is not None
        or (i > 0 and may_score(h, _NO_SCORES) and joined(h) not in MODEL_HEADERS and _is_numeric(grid, i))
    }


def _is_numeric(grid: Grid, column: int) -> bool:
    """Whether at least half of the filled cells of a column are numbers."""
    filled = [c for row in grid.rows if column < len(row) and joined(c := row[column])]
    return 2 * sum(bool(numbers_in(c)) for c in filled) >= len(filled) > 0


def _down(grid: Grid, column: int, suites: Sequence[Suite]) -> list[Cell]:
    """Benchmarks are rows; each column is a series. A row without a label continues the row above."""
    cells = []
    label = ""
    keys = list(map(joined, grid.header))
    metric_column = next((i for i, k in enumerate(keys) if k in _METRICS and i != column), None)
    filters = next((i for i, k in enumerate(keys) if k == "filter"), None)
    shots_column = next((i for i, k in enumerate(keys) if k in _SHOTS), None)
    column_facts = _facts_of_columns(grid, column)
    names = [h if h or i <= column else "" for i, h in enumerate(grid.header)]
    for row, line in zip(grid.rows, grid.lines, strict=True):
        label = (row[column] if len(row) > column else "") or (label if metric_column is not None else "")
        if not label or (is_setting(label) and match_any(label, suites) is None):
            continue
        metric = row[metric_column] if metric_column is not None and metric_column < len(row) else None
        if metric and number_in(metric) is not None:
            metric = None  # the column "Metric" holds scores
        if metric and filters is not None and filters < len(row) and joined(row[filters]) not in ("none", ""):
            metric = f"{metric},{row[filters]}"
        facts = _facts_of_row(grid, row, column)
        shots = _shots_of(row, shots_column)
        for i, cell in enumerate(row):
            header = names[i] if i < len(names) else ""
            scores = len(row) == 2 or may_score(header, _NO_SCORES) or not any(grid.header)
            if i <= column or not scores or (i == metric_column and metric is not None):
                continue
            series = header if any(grid.header) else f"column {i}"
            beside = column_facts.get(i, Facts()).plus(facts.known).plus(_facts_beside(cell).known)
            of_series = metric or (header if is_metric(header) else None)
            for part, number in _numbers(label, cell):
                series_shots = shots if shots is not None else shots_in(header)
                cells.append(
                    _cell(part, suites, series, (-1, i), of_series, series_shots, beside, number, line)
                )
    return cells


def _shots_of(row: Sequence[str], column: int | None) -> int | None:
    """The number of shots in a row's column for it."""
    if column is None or column >= len(row):
        return None
    text = row[column].strip()
    return int(text[:3]) if text.isascii() and text.isdecimal() else shots_in(text)


def _cell(
    label: str,
    suites: Sequence[Suite],
    series: str,
    place: tuple[int, int],
    metric: str | None,
    shots: int | None,
    facts: Facts,
    number: Number,
    line: int,
) -> Cell:
    match = match_any(label, suites)
    known = known_benchmarks().get((match.known_as if match else None) or "")
    own_shots = shots_in(label)
    return Cell(
        label=label if match is not None else unqualified(label),
        named=match,
        series=series,
        place=place,
        metric=metric or metric_in(label),
        shots=own_shots
        if own_shots is not None
        else (shots if shots is not None else shots_in(metric or "")),
        n=questions_in(label),
        facts=protocol_of(label).plus(facts.known),
        number=counted(number, known),
        line=line,
    )


def _numbers(label: str, cell: str) -> Iterator[tuple[str, Number]]:
    """The numbers of a cell, each with its label: "MBPP / MBPP+" and "75.1 / 64.3" are two."""
    numbers = numbers_in(cell)
    parts = [p.strip() for p in label.split("/")]
    labels = parts if len(numbers) == len(parts) == 2 and all(parts) else [label] * len(numbers)
    yield from zip(labels, numbers, strict=True)


def _facts_of_columns(grid: Grid, column: int) -> dict[int, Facts]:
    """Facts about each column's numbers, from the header and rows such as "Precision"."""
    column_facts = {
        i: protocol_of(h).plus(facts_of_label(h).known) for i, h in enumerate(grid.header) if i != column
    }
    for row in grid.rows:
        label = row[column] if len(row) > column else ""
        for i, cell in enumerate(row):
            if i > column and label and number_in(cell) is None and len(cell) < 200:
                column_facts[i] = column_facts.get(i, Facts()).plus(facts_of_cell(label, cell).known)
    return column_facts


def _facts_of_row(grid: Grid, row: Sequence[str], column: int) -> Facts:
    """Facts about a row's numbers, from columns such as "Precision"."""
    facts = Facts()
    for i, cell in enumerate(row):
        if i != column and cell and number_in(cell) is None and joined(_header(grid, i)) not in _NO_SCORES:
            facts = facts.plus(facts_of_cell(_header(grid, i), cell).known)
    return facts


def _facts_beside(cell: str) -> Facts:
    """Facts in brackets beside a number, as in "61.2 (bf16)"."""
    return facts_of_label(cell) if "(" in cell else Facts()


def _header(grid: Grid, column: int) -> str:
    return grid.header[column] if column < len(grid.header) else ""
