"""Parse numbers in table cells, and the scores in a card's `model-index`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.claims.labels import LabelMatch, match_label, plain, shots_in
from evals.claims.records import Figure, Unit, Where
from evals.suite import Aggregation, Benchmark, OutputKind, Suite
from orchestrator.cards.front_matter import KEY, FrontMatter
from orchestrator.cards.scale import Entry, readings
from orchestrator.cards.stated import facts_of_args

_NUMBER = re.compile(
    r"(?P<sign>[+\-\u2212\u2013]?)\s?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)\s*+(?P<percent>%?)"
    r"\s*+(?:±.*|\(.*\)|[\u2191\u2193\u25b2\u25bc].*)?$"
)


@dataclass(frozen=True)
class Number:
    """A number as it is written in a cell."""

    written: str
    value: float
    digits: int
    signed: bool
    percent: bool


def number_in(cell: str) -> Number | None:
    """Parse a cell's number; None if it has no number, or other words."""
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


def figures_of_index(metadata: FrontMatter, suites: Sequence[Suite]) -> tuple[list[Figure], tuple[str, ...]]:
    """The scores in the `model-index`, and the names of its models."""
    models = metadata.data.get(KEY)
    figures: list[Figure] = []
    names: list[str] = []
    for m, model in enumerate(models if isinstance(models, list) else []):
        if not isinstance(model, dict):
            continue
        names.append(str(model.get("name", "")))
        results = model.get("results")
        for r, result in enumerate(results if isinstance(results, list) else []):
            if isinstance(result, dict):
                line = metadata.line_of(KEY, m, "results", r)
                figures += _of_result(result, line, m, names[-1] if m else None, suites)
    return _with_readings(figures, suites), tuple(names)


def _with_readings(figures: Sequence[Figure], suites: Sequence[Suite]) -> list[Figure]:
    """Set the units of `model-index` figures; those of one model and suite are read as one list.

    YAML drops the zero of 6.80, so all figures of a list get the largest number of decimals in it.
    """
    lists = [(f.group, f.suite or "") for f in figures]
    entries = [
        Entry(
            series=f"{group} {suite}",
            label=f.label,
            known=f.suite is not None,
            near_zero=near_zero(f.suite, f.benchmark, suites),
            written=f.written,
            value=f.value,
            digits=f.digits,
            signed=f.value < 0,
            percent="%" in f.written,
        )
        for f, (group, suite) in zip(figures, lists, strict=True)
    ]
    finest: dict[tuple[int, str], int] = {}
    indexed = []
    for place in dict.fromkeys(lists):
        members = [i for i, other in enumerate(lists) if other == place]
        for i, reading in zip(members, readings([entries[i] for i in members]), strict=True):
            update = {"unit": reading.unit, "unclear": reading.unclear, "error": reading.error}
            indexed.append((i, figures[i].model_copy(update=update)))
            if reading.unclear is None:
                finest[place] = max(finest.get(place, 0), figures[i].digits)
    return [
        f.model_copy(update={"digits": max(f.digits, finest.get(lists[i], 0))})
        for i, f in sorted(indexed, key=lambda pair: pair[0])
    ]


def near_zero(suite: str | None, benchmark: str | None, suites: Sequence[Suite]) -> bool:
    """Whether a score can be below 1 %; False if chance gives more, as in raw multiple choice."""
    for candidate_suite in suites:
        for b in candidate_suite.benchmarks:
            if (candidate_suite.name, b.name) == (suite, benchmark):
                raw = b.aggregation not in (Aggregation.SUBSET_MEAN_NORMALIZED, Aggregation.POOLED_NORMALIZED)
                return not (raw and b.output is OutputKind.MULTIPLE_CHOICE)
    return True


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
        match = _of_dataset(dataset, label, str(metric.get("type", "")), suites)
        shots = args.get("num_few_shot") if isinstance(args, dict) else None
        figures.append(
            Figure(
                where=Where.MODEL_INDEX,
                group=group,
                line=line,
                subject=subject,
                label=label,
                suite=match.suite if match else None,
                benchmark=match.benchmark if match else None,
                is_average=bool(match and match.is_average),
                written=number.written,
                value=number.value,
                digits=number.digits,
                unit=Unit.POINTS,
                metric=str(metric.get("type", "")) or None,
                shots=shots if isinstance(shots, int) and 0 <= shots < 1000 else shots_in(label),
                source_name=_text(source, "name"),
                source_url=_text(source, "url"),
                facts=facts_of_args(args, metric.get("args")),
            )
        )
    return figures


def _of_dataset(
    dataset: Mapping[str, Any], label: str, metric: str, suites: Sequence[Suite]
) -> LabelMatch | None:
    """Match a result to a benchmark by the data set's name or type, if the metric is the benchmark's."""
    match = match_label(label, suites)
    for suite in suites:
        for benchmark in suite.benchmarks:
            card = benchmark.card
            by_name = match is not None and (match.suite, match.benchmark) == (suite.name, benchmark.name)
            by_type = (
                match is None
                and card is not None
                and card.dataset_type == dataset.get("type")
                and dataset.get("config") in (None, card.dataset_config)
            )
            if (by_name or by_type) and metric_fits(benchmark, metric):
                return LabelMatch(suite=suite.name, benchmark=benchmark.name)
    return match if match is not None and match.is_average else None


def metric_fits(benchmark: Benchmark, metric: str) -> bool:
    """Whether a metric name in a card is the benchmark's metric; False for one of several metrics."""
    names = {"", "accuracy"}
    primary, _, primary_filter = benchmark.metrics[0].partition(",")
    metric, _, metric_filter = metric.partition(",")
    if metric_filter and primary_filter and plain(metric_filter) != plain(primary_filter):
        return False
    if len(benchmark.metrics) == 1:
        names.add(plain(primary))
    if benchmark.card is not None:
        names |= {plain(benchmark.card.metric_type), plain(benchmark.card.metric_name or "")}
    return plain(metric) in names


def _section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None
