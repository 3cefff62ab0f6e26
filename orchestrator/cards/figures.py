"""Figures out of a card's tables and `model-index`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.claims.labels import Named, named, plain, shots_in
from evals.claims.records import Figure, Unit, Where
from evals.suite import Benchmark, Suite
from orchestrator.cards.front_matter import KEY, FrontMatter
from orchestrator.cards.grid import Grid
from orchestrator.cards.stated import facts_of_args

_NUMBER = re.compile(
    r"(?P<sign>[+\-\u2212\u2013]?)\s?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)\s*+(?P<percent>%?)"
    r"\s*+(?:±.*|\(.*\)|[\u2191\u2193\u25b2\u25bc].*)?$"
)
_CHANGE = re.compile(r"improve|change|delta|gain|differ|\bdiff\b|[Δ∆]|\bvs\b", re.IGNORECASE)
# Columns of tables that hold numbers which are no scores.
_NO_SCORES = frozenset(
    ("version", "nshot", "nshots", "shots", "shot", "fewshot", "filter", "stderr", "n", "rank")
) | frozenset(("size", "params", "parameters", "layers"))
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
    )
)
_METRICS = frozenset(("metric", "metrics"))


@dataclass(frozen=True)
class Number:
    """A number in a cell."""

    written: str
    value: float
    digits: int
    signed: bool
    percent: bool


@dataclass(frozen=True)
class _Cell:
    """A number of a table, with what its row and column say about it; `named` is None for an unknown benchmark."""

    label: str
    named: Named | None
    series: str
    metric: str | None
    number: Number
    line: int


def number_in(cell: str) -> Number | None:
    """The number that a cell holds; None where it holds none, or words besides."""
    match = _NUMBER.match(cell.strip()) if len(cell) < 60 else None
    if match is None:
        return None
    number = match["number"]
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number) and not re.fullmatch(r"\d{1,3},\d{3}", number):
        number = number.replace(",", "")
    number = number.replace(",", ".")
    minus = match["sign"] not in ("", "+")
    return Number(
        written=f"{match['sign']}{match['number']}{match['percent']}",
        value=-float(number) if minus else float(number),
        digits=len(number.partition(".")[2]),
        signed=bool(match["sign"]),
        percent=bool(match["percent"]),
    )


def figures_of_grid(
    grid: Grid, group: int, where: Where, own_names: Sequence[str], suites: Sequence[Suite]
) -> list[Figure]:
    """The scores and changes of one table, whichever way round it is."""
    across = sum(named(h, suites) is not None for h in grid.header)
    column, down = _label_column(grid, suites)
    if max(across, down) == 0:
        return []
    cells = _across(grid, suites) if across > down else _down(grid, column, suites)
    series: dict[str, list[_Cell]] = {}
    for cell in cells:
        series.setdefault(cell.series, []).append(cell)
    units = {name: _unit(name, [c.number for c in members]) for name, members in series.items()}
    one_change = sum(unit is Unit.CHANGE for unit in units.values()) == 1
    own = {plain(n) for n in own_names if n} | _GENERIC
    found = []
    for name, members in series.items():
        is_own = (
            plain(name) in own or name.startswith("column ") or (units[name] is Unit.CHANGE and one_change)
        )
        subject = None if is_own else name
        found += [_figure(cell, units[name], (group, where), subject, suites) for cell in members]
    return sorted(found, key=lambda f: f.line)


def figures_of_index(found: FrontMatter, suites: Sequence[Suite]) -> tuple[list[Figure], tuple[str, ...]]:
    """The figures of the `model-index`, and the names of the models in it."""
    models = found.data.get(KEY)
    figures: list[Figure] = []
    names: list[str] = []
    for m, model in enumerate(models if isinstance(models, list) else []):
        if not isinstance(model, dict):
            continue
        names.append(str(model.get("name", "")))
        results = model.get("results")
        for r, result in enumerate(results if isinstance(results, list) else []):
            if isinstance(result, dict):
                line = found.line_of(KEY, m, "results", r)
                figures += _of_result(result, line, m, names[-1] if m else None, suites)
    digits = max((f.digits for f in figures), default=0)  # YAML drops the zero of 6.80
    return [f.model_copy(update={"digits": max(f.digits, digits)}) for f in figures], tuple(names)


def _of_result(
    result: Mapping[str, Any], line: int, group: int, subject: str | None, suites: Sequence[Suite]
) -> list[Figure]:
    dataset, source = _section(result, "dataset"), _section(result, "source")
    metrics = result.get("metrics")
    figures = []
    for metric in metrics if isinstance(metrics, list) else []:
        number = number_in(str(metric.get("value"))) if isinstance(metric, dict) else None
        if number is None:
            continue
        args = dataset.get("args")
        label = str(dataset.get("name", dataset.get("type", "")))
        meant = _of_dataset(dataset, label, str(metric.get("type", "")), suites)
        shots = args.get("num_few_shot") if isinstance(args, dict) else None
        figures.append(
            Figure(
                where=Where.MODEL_INDEX,
                group=group,
                line=line,
                subject=subject,
                label=label,
                suite=meant.suite if meant else None,
                benchmark=meant.benchmark if meant else None,
                is_average=bool(meant and meant.is_average),
                written=number.written,
                value=number.value,
                digits=number.digits,
                unit=Unit.FRACTION if 0 < number.value <= 1 and number.digits > 2 else Unit.POINTS,
                metric=str(metric.get("type", "")) or None,
                shots=shots if isinstance(shots, int) and 0 <= shots < 1000 else shots_in(label),
                source_name=_text(source, "name"),
                source_url=_text(source, "url"),
                facts=facts_of_args(args, metric.get("args")),
            )
        )
    return figures


def _of_dataset(dataset: Mapping[str, Any], label: str, metric: str, suites: Sequence[Suite]) -> Named | None:
    """The benchmark that a result is of: by the data set's name or type, if the metric is the board's."""
    meant = named(label, suites)
    for suite in suites:
        for benchmark in suite.benchmarks:
            card = benchmark.card
            by_name = meant is not None and (meant.suite, meant.benchmark) == (suite.name, benchmark.name)
            by_type = (
                meant is None
                and card is not None
                and card.dataset_type == dataset.get("type")
                and dataset.get("config") in (None, card.dataset_config)
            )
            if (by_name or by_type) and _metric_fits(benchmark, metric):
                return Named(suite=suite.name, benchmark=benchmark.name)
    return meant if meant is not None and meant.is_average else None


def _metric_fits(benchmark: Benchmark, metric: str) -> bool:
    """Whether a metric, as a card names it, is the benchmark's own; one of several is not."""
    names = {"", "accuracy"}
    if len(benchmark.metrics) == 1:
        names.add(plain(benchmark.metrics[0].partition(",")[0]))
    if benchmark.card is not None:
        names |= {plain(benchmark.card.metric_type), plain(benchmark.card.metric_name or "")}
    return plain(metric) in names


def _section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def _label_column(grid: Grid, suites: Sequence[Suite]) -> tuple[int, int]:
    """The column with the most labels of benchmarks, and how many it has."""
    width = min(3, max(map(len, grid.rows), default=0))
    counts = [
        (sum(named(row[c], suites) is not None for row in grid.rows if len(row) > c), -c)
        for c in range(width)
    ]
    best = max(counts, default=(0, 0))
    return -best[1], best[0]


def _across(grid: Grid, suites: Sequence[Suite]) -> list[_Cell]:
    """Benchmarks are columns; each row is a series."""
    first = min(i for i, h in enumerate(grid.header) if named(h, suites) is not None)
    # Columns of a table of scores whose names are not known are scores too, if they stand among those that are.
    columns = {i: h for i, h in enumerate(grid.header) if i >= first and _may_score(h)}
    cells = []
    for row, line in zip(grid.rows, grid.lines, strict=True):
        words = [c for i, c in enumerate(row) if i not in columns and c and number_in(c) is None]
        for i, label in columns.items():
            number = number_in(row[i]) if i < len(row) else None
            if number is not None:
                cells.append(
                    _Cell(label, named(label, suites), words[0] if words else "", None, number, line)
                )
    return cells


def _down(grid: Grid, column: int, suites: Sequence[Suite]) -> list[_Cell]:
    """Benchmarks are rows; each column is a series. A row without a label goes on with the one above."""
    cells = []
    label = ""
    metric_column = next((i for i, h in enumerate(grid.header) if plain(h) in _METRICS and i != column), None)
    for row, line in zip(grid.rows, grid.lines, strict=True):
        label = (row[column] if len(row) > column else "") or (label if metric_column is not None else "")
        if not label:
            continue
        metric = row[metric_column] if metric_column is not None and metric_column < len(row) else None
        for i, cell in enumerate(row):
            header = grid.header[i] if i < len(grid.header) else ""
            scores = len(row) == 2 or _may_score(header) or not any(grid.header)
            number = number_in(cell) if i > column and scores else None
            if number is not None:
                series = header if any(grid.header) else f"column {i}"
                cells.append(_Cell(label, named(label, suites), series, metric, number, line))
    return cells


def _may_score(header: str) -> bool:
    """Whether a column of this name may hold scores."""
    return header.strip() not in ("", "#") and plain(header) not in _NO_SCORES


def _unit(series: str, numbers: Sequence[Number]) -> Unit:
    """What the numbers of one series count."""
    signed = any(n.signed for n in numbers)
    if signed or (_CHANGE.search(series) and not all(n.value > 20 for n in numbers)):
        return Unit.CHANGE
    if all(0 <= n.value <= 1 for n in numbers) and any(n.value > 0 and n.digits > 2 for n in numbers):
        return Unit.FRACTION
    return Unit.POINTS


def _figure(
    cell: _Cell, unit: Unit, place: tuple[int, Where], subject: str | None, suites: Sequence[Suite]
) -> Figure:
    meant = cell.named
    if meant is not None and meant.benchmark is not None and cell.metric:
        suite = next(s for s in suites if s.name == meant.suite)
        meant = meant if _metric_fits(suite.benchmark(meant.benchmark), cell.metric) else None
    return Figure(
        where=place[1],
        group=place[0],
        line=cell.line,
        subject=subject,
        label=cell.label,
        suite=meant.suite if meant else None,
        benchmark=meant.benchmark if meant else None,
        is_average=bool(meant and meant.is_average),
        written=cell.number.written,
        value=cell.number.value,
        digits=cell.number.digits,
        unit=unit,
        metric=cell.metric,
        shots=shots_in(cell.label),
    )
