"""Read scores in JSON and YAML blocks of a card: result files of harnesses, and plain mappings of benchmarks to numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.claims.known import is_metric, is_setting, label_words, match_any, words
from evals.claims.labels import LabelMatch, shots_in
from evals.claims.records import Figure, Unit, Where
from evals.outside_file import parse_json
from evals.suite import Suite
from orchestrator.cards.figures import Number, in_percent, near_zero, number_in, unit_of
from orchestrator.cards.orientation import Context
from orchestrator.cards.protocol import protocol_of, questions_in
from orchestrator.cards.scale import Entry, readings
from orchestrator.cards.subjects import Names
from recipes.errors import RecipeSyntaxError
from recipes.yaml_text import load_yaml_documents

_MAX_BLOCK = 200_000
_MAX_BLOCKS = 50
_MAX_DEPTH = 6
_MAX_LEAVES = 5_000
_YAML_LINE = re.compile(r"^[ ]{0,8}(?P<key>[\w+.'/-][\w+.' /-]{0,60}):(?: +-?\d|$)", re.MULTILINE)
_VALUE_KEYS = frozenset(("value", "score", "result", "mean", "average", "metric"))
_SHOT_KEYS = frozenset(("shots", "nshot", "numfewshot", "fewshot", "nshots"))


@dataclass(frozen=True)
class _Leaf:
    """A number with the keys above it."""

    label: str
    metric: str | None
    shots: int | None
    subject: str | None
    number: Number
    line: int


def figures_of_blocks(
    lines: Sequence[str],
    in_code: Sequence[bool],
    contexts: Sequence[Context],
    first_group: int,
    names: Names,
    suites: Sequence[Suite],
) -> list[Figure]:
    """The scores in the fenced blocks of a card that are JSON or YAML; `contexts` is of the heading above each line."""
    figures: list[Figure] = []
    for number, (start, text) in enumerate(_blocks(lines, in_code)):
        data = _parsed(text, suites)
        if not isinstance(data, Mapping):
            continue
        walk = _Walk(announced=contexts[start] is Context.SCORES)
        leaves = list(_leaves(data, walk, _Place(start, text), names, suites))
        figures += _figures(leaves[:_MAX_LEAVES], first_group + number, suites)
    return figures


def _blocks(lines: Sequence[str], in_code: Sequence[bool]) -> Iterator[tuple[int, str]]:
    """The first line (from 0) and the text of each fenced block that can be data."""
    start, count = 0, 0
    for i in range(len(lines) + 1):
        if i < len(lines) and in_code[i]:
            continue
        if i > start and count < _MAX_BLOCKS:
            # The closing line counts as inside.
            block = (
                lines[start : i - 1] if lines[i - 1].lstrip().startswith(("```", "~~~")) else lines[start:i]
            )
            text = "\n".join(block)
            if any(map(str.strip, block)) and len(text) <= _MAX_BLOCK:
                count += 1
                yield start, text
        start = i + 1


def _parsed(text: str, suites: Sequence[Suite]) -> Any:
    """The block as data; None if it is neither a JSON object nor a YAML mapping with a benchmark's name and a number."""
    if text.lstrip().startswith("{"):
        try:
            return parse_json(text)
        except ValueError:
            return None
    if not any(match_any(m["key"], suites) is not None for m in _YAML_LINE.finditer(text)):
        return None
    try:
        documents = load_yaml_documents(text, "a block of the card")
    except RecipeSyntaxError:
        return None
    return documents[0].data if documents else None


class _Place:
    """Finds the line of a key in a block; keys come in the order of the text."""

    def __init__(self, start: int, text: str) -> None:
        self._text, self._at, self._line = text, 0, start + 1

    def line_of(self, key: str) -> int:
        """The line of the next place of a key, from 1 within the card."""
        at = self._text.find(key, self._at)
        if at >= 0:
            self._line += self._text.count("\n", self._at, at)
            self._at = at
        return self._line


@dataclass(frozen=True)
class _Walk:
    """What holds below a key: its benchmark, its model, and whether scores are announced."""

    benchmark: str | None = None
    subject: str | None = None
    announced: bool = False
    depth: int = 0


def _leaves(
    data: Mapping[Any, Any], walk: _Walk, place: _Place, names: Names, suites: Sequence[Suite]
) -> Iterator[_Leaf]:
    """The numbers below a mapping. A key is a benchmark, a metric, a model, or a word such as "results"."""
    known = any(match_any(_label(str(k)), suites) is not None for k in data)
    shots = next((_shots(v) for k, v in data.items() if _plain(k) in _SHOT_KEYS), None)
    for raw, value in data.items():
        key = str(raw)[:200]
        line = place.line_of(key)
        if isinstance(value, Mapping):
            below = _below(key, value, walk, known, names, suites)
            if below is not None and below.depth <= _MAX_DEPTH:
                yield from _leaves(value, below, place, names, suites)
            continue
        number = _number(value)
        if number is not None and "stderr" not in key.lower() and _plain(key) not in _SHOT_KEYS:
            yield from _leaf(key, number, line, walk, known, shots, suites)


def _below(
    key: str, value: Mapping[Any, Any], walk: _Walk, known: bool, names: Names, suites: Sequence[Suite]
) -> _Walk | None:
    """What holds below a key; None if nothing below it is a score."""
    label = _label(key)
    named = match_any(label, suites) is not None
    depth = walk.depth + 1
    if named or (known and not is_setting(label) and not _is_section(label)):
        return _Walk(key, walk.subject, True, depth)
    if _is_section(label) or names.is_own(label):
        return _Walk(walk.benchmark, None, True, depth)
    if walk.announced and walk.benchmark is None and _of_benchmarks(value, suites):
        return _Walk(None, label, True, depth)
    if walk.announced and not is_setting(label) and _of_metrics(value):
        return _Walk(key, walk.subject, True, depth)
    return None


def _leaf(
    key: str,
    number: Number,
    line: int,
    walk: _Walk,
    known: bool,
    shots: int | None,
    suites: Sequence[Suite],
) -> Iterator[_Leaf]:
    """The number of a key as a score: of the benchmark above it, or of the one that the key names."""
    metric = key.partition(",")[0]
    general = _plain(metric) in _VALUE_KEYS
    if walk.benchmark is not None:
        if general or is_metric(metric) or _is_measure(metric):
            yield _Leaf(walk.benchmark, None if general else key, shots, walk.subject, number, line)
    elif match_any(_label(key), suites) is not None or (known and not is_setting(key) and not is_metric(key)):
        yield _Leaf(key, None, None, walk.subject, number, line)


def _figures(leaves: Sequence[_Leaf], group: int, suites: Sequence[Suite]) -> list[Figure]:
    drafts = [_draft(leaf, group, suites) for leaf in leaves]
    entries = [
        Entry(
            series=f"{d.subject or ''}",
            label=d.label,
            known=in_percent(d),
            near_zero=d.suite is None or near_zero(d.suite, d.benchmark, suites),
            written=d.written,
            value=d.value,
            digits=d.digits,
            signed=leaf.number.signed,
            percent=leaf.number.percent,
        )
        for d, leaf in zip(drafts, leaves, strict=True)
    ]
    return [
        d.model_copy(update=unit_of(d, reading)) for d, reading in zip(drafts, readings(entries), strict=True)
    ]


def _draft(leaf: _Leaf, group: int, suites: Sequence[Suite]) -> Figure:
    label = _label(leaf.label)
    match = match_any(label, suites) or LabelMatch(suite=None, benchmark=None)
    return Figure(
        where=Where.TEXT,
        group=group,
        line=leaf.line,
        subject=leaf.subject,
        label=label,
        suite=None,
        benchmark=None,
        known_as=match.known_as,
        is_average=match.is_average,
        written=leaf.number.written,
        value=leaf.number.value,
        digits=leaf.number.digits,
        unit=Unit.POINTS,
        metric=leaf.metric,
        shots=leaf.shots if leaf.shots is not None else _shots_of_key(leaf.label),
        n=questions_in(label),
        facts=protocol_of(f"{label} {leaf.metric or ''}"),
    )


def _label(key: str) -> str:
    """The benchmark in a key; the old board's are like "harness|arc:challenge|25"."""
    parts = key.split("|")
    return parts[1].replace(":", "_") if len(parts) >= 2 and parts[1] else key


def _shots_of_key(key: str) -> int | None:
    parts = key.split("|")
    text = parts[2] if len(parts) >= 3 else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else shots_in(key)


def _is_section(label: str) -> bool:
    """Whether a key announces scores, as "results" does."""
    return bool(label_words(label) & words().score_headings)


def _is_measure(metric: str) -> bool:
    """Whether a key is a harness' name of a metric, such as prompt_level_strict_acc."""
    said = label_words(metric.replace("_", " "))
    return bool(said & words().metrics) and not said & words().not_scores


def _of_benchmarks(data: Mapping[Any, Any], suites: Sequence[Suite]) -> bool:
    return any(match_any(_label(str(k)), suites) is not None for k in data)


def _of_metrics(data: Mapping[Any, Any]) -> bool:
    return any(is_metric(str(k).partition(",")[0]) or _is_measure(str(k)) for k in data)


def _plain(key: Any) -> str:
    return "".join(c for c in str(key).lower() if c.isalnum())


def _shots(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000 else None


def _number(value: Any) -> Number | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return number_in(text[:60])
