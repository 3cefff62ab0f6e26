"""Extract scores from a card's tables, each with its model, unit and measuring conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evals.claims.facts import Facts
from evals.claims.labels import LabelMatch, match_label, plain, shots_in
from evals.claims.records import Figure, Scale, Unit, Where
from evals.suite import Suite
from orchestrator.cards.figures import Number, metric_fits, near_zero, number_in
from orchestrator.cards.grid import Grid
from orchestrator.cards.scale import Entry, Reading, readings
from orchestrator.cards.stated import facts_of_cell, facts_of_label
from orchestrator.cards.subjects import Names, says_ours

_SHOTS = frozenset(("nshot", "nshots", "shots", "shot", "fewshot", "numfewshot"))
# Columns whose numbers are not scores.
_NO_SCORES = _SHOTS | frozenset(
    ("version", "filter", "stderr", "n", "rank", "size", "params", "parameters", "layers")
)
_GENERIC = frozenset(
    (
        "value",
        "values",
        "score",
        "scores",
        "result",
        "results",
        "acc",
        "accuracy",
        "performance",
        "thismodel",
        "ours",
        "",
    )
)
_SCALES = {
    Scale.RAW: ("raw", "rawscore", "rawscores", "rawaccuracy", "unnormalized", "unnormalised"),
    Scale.NORMALIZED: ("normalized", "normalised", "normalizedscore", "normalisedscore", "normalizedscores"),
}
_DUPLICATE = "\0"  # never in a card; marks a further series of the same name
_METRICS = frozenset(("metric", "metrics"))
_MODELS = frozenset(("model", "models", "modelname", "name", "checkpoint", "candidate", "modell"))


@dataclass(frozen=True)
class _Cell:
    """A number of a table with facts from its row and column; `named` is None for an unknown benchmark."""

    label: str
    named: LabelMatch | None
    series: str
    place: tuple[int, int]  # the series' own cell: row (-1 is the header) and column
    metric: str | None
    shots: int | None
    facts: Facts
    number: Number
    line: int


def figures_of_grid(
    grid: Grid, group: int, names: Names, owner: str | None, suites: Sequence[Suite]
) -> list[Figure]:
    """The scores and changes of one table, with benchmarks in rows or in columns.

    `owner` is the model named in the text above the table: "own" for the card's, None if it names none.
    """
    across = sum(match_label(h, suites) is not None for h in grid.header)
    column, down = _label_column(grid, suites)
    if max(across, down) == 0:
        return []
    cells = _across(grid, suites) if across > down else _down(grid, column, suites)
    cell_readings = readings([_entry(cell, suites) for cell in cells])
    subjects = _subjects(cells, cell_readings, grid, names, owner)
    figures = [
        _figure(cell, reading, group, subjects[cell.series], suites)
        for cell, reading in zip(cells, cell_readings, strict=True)
    ]
    return sorted(_mark_ambiguous(figures), key=lambda f: f.line)


def _entry(cell: _Cell, suites: Sequence[Suite]) -> Entry:
    match = cell.named
    return Entry(
        series=cell.series,
        label=cell.label,
        known=match is not None,
        near_zero=match is None or near_zero(match.suite, match.benchmark, suites),
        written=cell.number.written,
        value=cell.number.value,
        digits=cell.number.digits,
        signed=cell.number.signed,
        percent=cell.number.percent or "%" in cell.label or "%" in cell.series,
    )


def _subjects(
    cells: Sequence[_Cell], cell_readings: Sequence[Reading], grid: Grid, names: Names, owner: str | None
) -> dict[str, str | None]:
    """The model of each series; None is the card's own model.

    The own model's series is, in this order: one marked "ours", one with the model's name, one with a general
    name such as "Score" (unless the text above names another model), the only one in bold. A single series of
    changes belongs to the own model.
    """
    scores = list(
        dict.fromkeys(
            c.series for c, r in zip(cells, cell_readings, strict=True) if r.unit is not Unit.CHANGE
        )
    )
    with_scores = frozenset(scores)
    changes = list(dict.fromkeys(c.series for c in cells if c.series not in with_scores))
    subjects: dict[str, str | None] = {s: s for s in (*scores, *changes)}
    in_bold = {c.series for c in cells if c.place in grid.bold}
    bold = [s for s in scores if s in in_bold]
    general = [s for s in scores if _is_general(_title(s))]
    own_series = [s for s in scores if says_ours(s)] or [s for s in scores if names.is_own(_title(s))]
    if own_series:
        subjects.update(dict.fromkeys(own_series))
    elif general:
        subjects.update(dict.fromkeys(general, None if owner in (None, "own") else owner))
    elif len(bold) == 1 and len(scores) > 1:
        subjects[bold[0]] = None
    if len(changes) == 1:
        subjects[changes[0]] = None
    return subjects


def _title(series: str) -> str:
    """The name of a series without the mark for duplicates."""
    return series.partition(_DUPLICATE)[0]


def _is_general(title: str) -> bool:
    return plain(title) in _GENERIC or title.startswith("column ") or _scale_of(title) is not None


def _mark_ambiguous(figures: Sequence[Figure]) -> list[Figure]:
    """Mark figures of the own model as unclear if the table has several values for the same quantity."""
    values: dict[tuple[object, ...], set[float]] = defaultdict(set)
    for figure in figures:
        values[_place(figure)].add(figure.points)
    return [
        f.model_copy(
            update={
                "unclear": f"{f.label} has {len(values[_place(f)])} values of the same model in this table"
            }
        )
        if f.subject is None and _counts(f) and len(values[_place(f)]) > 1 and f.unclear is None
        else f
        for f in figures
    ]


def _counts(figure: Figure) -> bool:
    matched = figure.benchmark is not None or figure.is_average
    return matched and figure.unit is not Unit.CHANGE and figure.error is None


def _place(figure: Figure) -> tuple[object, ...]:
    facts = tuple(sorted(figure.facts.known.items()))
    counted = (
        (figure.suite, figure.benchmark, figure.is_average)
        if _counts(figure)
        else (figure.label, figure.line)
    )
    return (figure.subject, *counted, figure.shots, figure.scale, facts)


def _label_column(grid: Grid, suites: Sequence[Suite]) -> tuple[int, int]:
    """The column with the most benchmark labels, and their number."""
    width = min(3, max(map(len, grid.rows), default=0))
    counts = [
        (sum(match_label(row[c], suites) is not None for row in grid.rows if len(row) > c), -c)
        for c in range(width)
    ]
    best = max(counts, default=(0, 0))
    return -best[1], best[0]


def _across(grid: Grid, suites: Sequence[Suite]) -> list[_Cell]:
    """Benchmarks are columns; each row is a series."""
    first = min(i for i, h in enumerate(grid.header) if match_label(h, suites) is not None)
    # Columns with unknown names count as scores if they come after the first known benchmark.
    columns = {i: h for i, h in enumerate(grid.header) if i >= first and _may_score(h)}
    model = next((i for i, h in enumerate(grid.header) if plain(h) in _MODELS and i not in columns), None)
    cells = []
    series_names: set[str] = set()
    for r, (row, line) in enumerate(zip(grid.rows, grid.lines, strict=True)):
        words = [
            i
            for i, c in enumerate(row)
            if i not in columns
            and plain(c)
            and number_in(c) is None
            and plain(_header(grid, i)) not in _NO_SCORES
        ]
        at = model if model is not None and model < len(row) else (words[0] if words else 0)
        title = row[at] if at in words or at == model else ""
        facts = Facts()
        for i in words:
            cell_facts = facts_of_label(row[i]) if i == at else facts_of_cell(_header(grid, i), row[i])
            facts = cell_facts.plus(facts.known)
        # Two rows of the same name are two series, because their scales can differ.
        title = title.replace(_DUPLICATE, " ")
        series = title if title not in series_names else f"{title}{_DUPLICATE}{r}"
        series_names.add(title)
        for i, label in columns.items():
            number = number_in(row[i]) if i < len(row) else None
            if number is not None:
                match = match_label(label, suites)
                all_facts = facts.plus(_facts_beside(row[i]).known)
                cells.append(
                    _Cell(label, match, series, (r, at), None, shots_in(label), all_facts, number, line)
                )
    return cells


def _down(grid: Grid, column: int, suites: Sequence[Suite]) -> list[_Cell]:
    """Benchmarks are rows; each column is a series. A row without a label continues the row above."""
    cells = []
    label = ""
    keys = list(map(plain, grid.header))
    metric_column = next((i for i, k in enumerate(keys) if k in _METRICS and i != column), None)
    filters = next((i for i, k in enumerate(keys) if k == "filter"), None)
    shots_column = next((i for i, k in enumerate(keys) if k in _SHOTS), None)
    column_facts = _facts_of_columns(grid, column)
    for row, line in zip(grid.rows, grid.lines, strict=True):
        label = (row[column] if len(row) > column else "") or (label if metric_column is not None else "")
        if not label:
            continue
        metric = row[metric_column] if metric_column is not None and metric_column < len(row) else None
        if (
            metric is not None
            and filters is not None
            and filters < len(row)
            and plain(row[filters]) != "none"
        ):
            metric = f"{metric},{row[filters]}"
        facts = _facts_of_row(grid, row, column)
        shots = shots_in(label)
        if (
            shots is None
            and shots_column is not None
            and shots_column < len(row)
            and row[shots_column].isdecimal()
        ):
            shots = int(row[shots_column][:3])
        for i, cell in enumerate(row):
            header = _header(grid, i)
            scores = len(row) == 2 or _may_score(header) or not any(grid.header)
            number = number_in(cell) if i > column and scores else None
            if number is not None:
                series = header if any(grid.header) else f"column {i}"
                all_facts = column_facts.get(i, Facts()).plus(facts.known).plus(_facts_beside(cell).known)
                cells.append(
                    _Cell(
                        label,
                        match_label(label, suites),
                        series,
                        (-1, i),
                        metric,
                        shots,
                        all_facts,
                        number,
                        line,
                    )
                )
    return cells


def _facts_of_columns(grid: Grid, column: int) -> dict[int, Facts]:
    """Facts about each column's numbers, from the header and rows such as "Precision"."""
    column_facts = {i: facts_of_label(h) for i, h in enumerate(grid.header) if i != column}
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
        if i != column and cell and number_in(cell) is None and plain(_header(grid, i)) not in _NO_SCORES:
            facts = facts.plus(facts_of_cell(_header(grid, i), cell).known)
    return facts


def _facts_beside(cell: str) -> Facts:
    """Facts in brackets beside a number, as in "61.2 (bf16)"."""
    return facts_of_label(cell) if "(" in cell else Facts()


def _header(grid: Grid, column: int) -> str:
    return grid.header[column] if column < len(grid.header) else ""


def _may_score(header: str) -> bool:
    """Whether a column of this name can contain scores."""
    return header.strip() not in ("", "#") and plain(header) not in _NO_SCORES


def _scale_of(series: str) -> Scale | None:
    return next((scale for scale, words in _SCALES.items() if plain(series) in words), None)


def _figure(
    cell: _Cell, reading: Reading, group: int, subject: str | None, suites: Sequence[Suite]
) -> Figure:
    match = cell.named
    if match is not None and match.benchmark is not None and cell.metric:
        suite = next(s for s in suites if s.name == match.suite)
        match = match if metric_fits(suite.benchmark(match.benchmark), cell.metric) else None
    return Figure(
        where=Where.TABLE,
        group=group,
        line=cell.line,
        subject=None if subject is None else _title(subject),
        label=cell.label,
        suite=match.suite if match else None,
        benchmark=match.benchmark if match else None,
        is_average=bool(match and match.is_average),
        written=cell.number.written,
        value=cell.number.value,
        digits=cell.number.digits,
        unit=reading.unit,
        metric=cell.metric,
        shots=cell.shots,
        facts=cell.facts,
        scale=_scale_of(_title(cell.series)),
        unclear=reading.unclear if match else None,
        error=reading.error if match else None,
    )
