"""Extract scores from a card's tables, each with its model, unit and measuring conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evals.claims.known import is_metric, joined, known_benchmarks
from evals.claims.labels import LabelMatch
from evals.claims.records import Figure, Unit, Where
from evals.suite import Suite
from orchestrator.cards.figures import in_percent, metric_fits, near_zero, unit_of
from orchestrator.cards.grid import Grid
from orchestrator.cards.orientation import Context, orientation
from orchestrator.cards.scale import Entry, Reading, readings
from orchestrator.cards.series import scale_of, subject_of, subjects_of, title_of
from orchestrator.cards.subjects import Names
from orchestrator.cards.table_cells import Cell, cells_of


def figures_of_grid(
    grid: Grid,
    group: int,
    names: Names,
    owner: str | None,
    suites: Sequence[Suite],
    context: Context = Context.NONE,
    topic: str | None = None,
) -> list[Figure]:
    """The scores and changes of one table, with benchmarks in rows or in columns.

    `owner` is the model named in the text above the table: "own" for the card's, None if it names none; `context` is what that
    text announces, and `topic` the known benchmark that it names.
    """
    place = orientation(grid, suites, names, context)
    if place is None:
        return []
    cells = _about(topic, cells_of(grid, place, suites))
    drafts = [_figure(cell, group, suites) for cell in cells]
    cell_readings = readings([_entry(c, d, suites) for c, d in zip(cells, drafts, strict=True)])
    subjects = _subjects(cells, cell_readings, grid, names, owner)
    figures = [
        draft.model_copy(
            update=_settled(draft, reading)
            | {"subject": None if (subject := subjects[cell.series]) is None else subject_of(subject)}
        )
        for cell, draft, reading in zip(cells, drafts, cell_readings, strict=True)
    ]
    return sorted(_mark_ambiguous(figures), key=lambda f: f.line)


def _about(topic: str | None, cells: list[Cell]) -> list[Cell]:
    """The cells of a table below a benchmark's name that names no benchmark itself: they are parts of that one."""
    if topic is None or any(c.named is not None and not c.named.is_average for c in cells):
        return cells
    known = known_benchmarks()[topic]
    part = None if known.in_percent else LabelMatch(suite=None, benchmark=None, known_as=topic)
    whole = LabelMatch(suite=None, benchmark=None, known_as=topic)
    return [
        replace(cell, label=topic, named=whole)
        if cell.named is not None or is_metric(cell.label)
        else replace(
            cell,
            label=cell.label if joined(topic) in joined(cell.label) else f"{topic} {cell.label}",
            named=part,
        )
        for cell in cells
    ]


def _settled(figure: Figure, reading: Reading) -> dict[str, Any]:
    """The unit of a figure; one of an unknown benchmark is neither unclear nor an error."""
    update = unit_of(figure, reading)
    return update if in_percent(figure) else update | {"unclear": None, "error": None}


def _entry(cell: Cell, figure: Figure, suites: Sequence[Suite]) -> Entry:
    return Entry(
        series=cell.series,
        label=cell.label,
        known=in_percent(figure),
        near_zero=figure.suite is None or near_zero(figure.suite, figure.benchmark, suites),
        written=cell.number.written,
        value=cell.number.value,
        digits=cell.number.digits,
        signed=cell.number.signed,
        percent=cell.number.percent or "%" in cell.label or "%" in cell.series,
    )


def _subjects(
    cells: Sequence[Cell], cell_readings: Sequence[Reading], grid: Grid, names: Names, owner: str | None
) -> dict[str, str | None]:
    """The model of each series; None is the card's own model."""
    scores = list(
        dict.fromkeys(
            c.series for c, r in zip(cells, cell_readings, strict=True) if r.unit is not Unit.CHANGE
        )
    )
    with_scores = frozenset(scores)
    changes = list(dict.fromkeys(c.series for c in cells if c.series not in with_scores))
    in_bold = {c.series for c in cells if c.place in grid.bold}
    return subjects_of(scores, changes, [s for s in scores if s in in_bold], names, owner)


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
    return (figure.subject, *counted, figure.metric, figure.shots, figure.scale, facts)


def _figure(cell: Cell, group: int, suites: Sequence[Suite]) -> Figure:
    """The figure of a cell, without its subject and unit."""
    match = cell.named
    if match is not None and match.benchmark is not None and cell.metric:
        suite = next(s for s in suites if s.name == match.suite)
        if not metric_fits(suite.benchmark(match.benchmark), cell.metric):
            match = LabelMatch(suite=None, benchmark=None, known_as=match.known_as)
    return Figure(
        where=Where.TABLE,
        group=group,
        line=cell.line,
        subject=None,
        label=cell.label,
        suite=match.suite if match else None,
        benchmark=match.benchmark if match else None,
        known_as=match.known_as if match else None,
        is_average=bool(match and match.is_average),
        written=cell.number.written,
        value=cell.number.value,
        digits=cell.number.digits,
        unit=Unit.POINTS,
        metric=cell.metric,
        shots=cell.shots,
        n=cell.n,
        facts=cell.facts,
        scale=scale_of(title_of(cell.series)),
    )
