"""Parse numbers in table cells, and the scores in a card's `model-index`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evals.claims.known import KnownBenchmark, is_metric, is_rate, known_benchmarks, match_any
from evals.claims.labels import LabelMatch, match_label, plain, shots_in
from evals.claims.records import Figure, Unit, Where
from evals.suite import Aggregation, Benchmark, OutputKind, Suite
from orchestrator.cards.front_matter import KEY, FrontMatter
from orchestrator.cards.protocol import protocol_of
from orchestrator.cards.scale import Entry, Reading, readings
from orchestrator.cards.stated import facts_of_args

_NUMBER = re.compile(
    r"[~\u2248]?(?P<sign>[+\-\u2212\u2013]?)\s?(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)\s*+(?P<percent>%?)"
    r"(?:\s*+/\s*+(?P<of>\d{1,6})(?![\d.,]))?"
    r"\s*+(?:p(?:oin)?ts?\b\.?)?\s*+[*\u2020\u2021\u00a7\u00b9\u00b2\u00b3\u2070]{0,3}"
    r"\s*+(?:±.*|\+/-.*|\(.*\)|\[.*\]|[\u2191\u2193\u25b2\u25bc\U0001f3c6\U0001f947\u2b50\u2705].*)?$"
)
_SUPERSCRIPT = re.compile(r"<sup>[^<>]{0,20}</sup>", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """A number as it is written in a cell."""

    written: str
    value: float
    digits: int
    signed: bool
    percent: bool
    of: int | None = None  # the number after a slash, as in 101/164 or 8.3/10


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
        of=int(match["of"]) if match["of"] else None,
    )


def numbers_in(cell: str) -> list[Number]:
    """The numbers of a cell: one, or two with a slash between them, as in "71.2 / 68.0"."""
    number = number_in(cell)
    if number is not None and (number.of is None or number.value <= number.of):
        return [number]
    parts = cell.split("/") if len(cell) < 60 else []
    numbers = [number_in(part) for part in parts]
    return [n for n in numbers if n is not None] if len(parts) == 2 and all(numbers) else []


def counted(number: Number, known: KnownBenchmark | None) -> Number:
    """The number as a score: 101/164 becomes 61.59 %, 8.3/10 stays 8.3 on a range that ends at 10."""
    if known is not None and known.high != 100 and re.fullmatch(r"\d{1,3},\d{3}", number.written):
        return replace(number, value=float(number.written.replace(",", "")), digits=0)
    if number.of is None or (known is not None and known.high == number.of) or number.of == 0:
        return number
    if number.of == 100:
        return replace(number, percent=True)
    points = round(100 * number.value / number.of, 2)
    return replace(number, value=points, digits=2, percent=True, written=f"{number.written}/{number.of}")


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
            known=in_percent(f),
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
            update = unit_of(figures[i], reading)
            indexed.append((i, figures[i].model_copy(update=update)))
            if reading.unclear is None:
                finest[place] = max(finest.get(place, 0), figures[i].digits)
    return [
        f.model_copy(update={"digits": max(f.digits, finest.get(lists[i], 0))})
        for i, f in sorted(indexed, key=lambda pair: pair[0])
    ]


def in_percent(figure: Figure) -> bool:
    """Whether a figure is known to be a share, 0 to 1 or 0 to 100: by its benchmark, else by its metric."""
    if figure.suite is not None or figure.is_average:
        return True
    if figure.metric is not None and is_metric(figure.metric):
        return is_rate(figure.metric)
    known = known_benchmarks().get(figure.known_as or "")
    return known.in_percent if known is not None else False


def unit_of(figure: Figure, reading: Reading) -> dict[str, Any]:
    """The unit, ambiguity and error of a figure; one that is no share keeps the benchmark's own range."""
    known = known_benchmarks().get(figure.known_as or "")
    own_range = (known is not None and not known.in_percent) or figure.value > 100
    if (own_range or _other_metric(figure)) and figure.suite is None and reading.unit is not Unit.CHANGE:
        return {"unit": Unit.OWN, "unclear": None, "error": None}
    return {"unit": reading.unit, "unclear": reading.unclear, "error": reading.error}


def _other_metric(figure: Figure) -> bool:
    """Whether the metric is none of those that are shares."""
    return (
        figure.metric is not None
        and is_metric(figure.metric)
        and not is_rate(figure.metric)
        and figure.value > 1
    )


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
        named = match_any(label, suites) or match_any(str(dataset.get("type", "")), suites)
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
                known_as=named.known_as if named else None,
                is_average=bool(match and match.is_average),
                written=number.written,
                value=number.value,
                digits=number.digits,
                unit=Unit.POINTS,
                metric=str(metric.get("type", "")) or None,
                shots=shots if isinstance(shots, int) and 0 <= shots < 1000 else shots_in(label),
                source_name=_text(source, "name"),
                source_url=_text(source, "url"),
                facts=protocol_of(f"{label} {metric.get('type', '')}").plus(
                    facts_of_args(args, metric.get("args")).known
                ),
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
