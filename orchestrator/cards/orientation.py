"""Decide whether a table holds scores, and whether its benchmarks are rows or columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from evals.claims.known import is_metric, is_setting, joined, label_words, match_any, topic_of, words
from evals.claims.labels import LabelMatch
from evals.suite import Suite
from orchestrator.cards.figures import number_in
from orchestrator.cards.grid import Grid
from orchestrator.cards.subjects import Names, says_ours

MODEL_HEADERS = frozenset(
    (
        "model",
        "models",
        "modelname",
        "name",
        "checkpoint",
        "candidate",
        "modell",
        "modele",
        "modelo",
        "llm",
        "模型",
        "モデル",
        "モデル名",
    )
)
_BENCHMARK_NAME = re.compile(r"[\w-](?:Bench|bench|BENCH|Eval)$")
_TRAINING = frozenset(("epoch", "epochs", "step", "steps"))
_FILES = frozenset(("filename", "file", "files", "quant", "bpw", "branch"))
_MIN_SHARE = 0.6  # of the cells of a table without a known benchmark that must be numbers


class Context(StrEnum):
    """What the heading or caption above numbers announces."""

    SCORES = "scores"
    OTHER = "other"
    NONE = "none"


@dataclass(frozen=True)
class Orientation:
    """Where a table's benchmarks are: in its header, or in one column."""

    across: bool
    column: int


def context_of(caption: str | None, heading: str | None, *, is_title: bool = False) -> Context:
    """What the line above numbers announces, else their heading. A line of prose and a card's title announce no other numbers."""
    for text in (caption, heading):
        said = label_words(text or "")
        if said & words().score_headings:
            return Context.OTHER if said & words().speed_headings else Context.SCORES
        if text and topic_of(text) is not None:
            return Context.SCORES
    if is_title:
        return Context.NONE
    return Context.OTHER if label_words(heading or "") & words().other_headings else Context.NONE


def orientation(grid: Grid, suites: Sequence[Suite], names: Names, context: Context) -> Orientation | None:
    """Where the table's benchmarks are; None if it is no table of scores.

    A table with known benchmarks is one of scores, unless its heading announces other numbers. One without is read by its structure:
    below a heading that announces scores, with a column of models or of benchmarks, and with numbers in most cells.
    """
    header = frozenset(w for h in grid.header for w in label_words(h))
    if header & _TRAINING and "loss" in header:
        return None
    matches = [m for h in grid.header if (m := match_any(h, suites)) is not None]
    column, labels = _label_column(grid, suites)
    known = max(_named(matches), _named(labels))
    if context is Context.OTHER and known < 2:
        return None
    if known or (context is Context.SCORES and (matches or labels)):
        return Orientation(across=len(matches) > len(labels), column=column)
    if (matches or labels) and not (header & _FILES):
        return Orientation(len(matches) > len(labels), column) if _says_model(grid, names) else None
    harness = "metric" in header and "value" in header
    announced = context is Context.SCORES or harness or _named_as_benchmarks(grid)
    if not announced or header & _FILES:
        return None
    return _by_structure(grid, names)


def _named_as_benchmarks(grid: Grid) -> bool:
    """Whether two columns or two rows have names such as "FooBench" and "Bar-Eval"."""
    first = [row[0] for row in grid.rows if row]
    return any(
        sum(_BENCHMARK_NAME.search(label.strip()[-40:]) is not None for label in labels) >= 2
        for labels in (grid.header, first)
    )


def may_score(header: str, no_scores: frozenset[str]) -> bool:
    """Whether a row or column of this name can contain scores."""
    return header.strip() not in ("", "#") and joined(header) not in no_scores and not is_setting(header)


def _named(matches: Sequence[LabelMatch]) -> int:
    """The number of labels that name a benchmark, not an average."""
    return sum(not m.is_average for m in matches)


def _label_column(grid: Grid, suites: Sequence[Suite]) -> tuple[int, list[LabelMatch]]:
    """The column with the most benchmark labels, and what they name."""
    best: tuple[int, list[LabelMatch]] = (0, [])
    for column in range(min(3, max(map(len, grid.rows), default=0))):
        labels = [
            m for row in grid.rows if len(row) > column and (m := match_any(row[column], suites)) is not None
        ]
        if len(labels) > len(best[1]):
            best = (column, labels)
    return best


def _says_model(grid: Grid, names: Names) -> bool:
    """Whether a header or row names the card's own model or a column of models."""
    first = [row[0] for row in grid.rows if row]
    return any(
        joined(h) in MODEL_HEADERS or says_ours(h) or names.is_own(h) for h in (*grid.header, *first) if h
    )


def _by_structure(grid: Grid, names: Names) -> Orientation | None:
    across = joined(grid.header[0]) in MODEL_HEADERS or any(
        row and (names.is_own(row[0]) or says_ours(row[0])) for row in grid.rows
    )
    column = 0
    if not across:
        headers = [joined(h) in words().benchmark_headers for h in grid.header[:3]]
        own = any(names.is_own(h) or says_ours(h) for h in grid.header[1:])
        if not (own or any(headers)):
            return None
        labels = [i for i, is_benchmark in enumerate(headers) if is_benchmark]
        column = max([i for i in labels if not joined(grid.header[i]).startswith("metric")] or labels or [0])
    return Orientation(across, column) if _mostly_scores(grid, column) else None


def _mostly_scores(grid: Grid, column: int) -> bool:
    """Whether most cells beside the labels are numbers that can be scores, and few are settings."""
    headers = [i for i in range(column + 1, len(grid.header)) if _has_numbers(grid, i)]
    settings = [i for i in headers if is_setting(grid.header[i]) and not is_metric(grid.header[i])]
    if len(settings) == len(headers) or 2 * len(settings) > len(headers) + 1:
        return False
    rows = [row for row in grid.rows if row and not is_setting(row[column] if len(row) > column else "")]
    cells = [row[i] for row in rows for i in headers if i < len(row) and i not in settings]
    filled = [c for c in cells if c.strip() not in ("", "-", "–", "—", "n/a", "N/A")]
    numbers = [n for c in filled if (n := number_in(c)) is not None]
    exact = [n for n in numbers if n.digits > 0 or n.percent]
    return (
        len(numbers) >= max(2, _MIN_SHARE * len(filled))
        and 2 * len(exact) >= len(numbers)
        and all(-100 <= n.value <= 100 for n in numbers)
    )


def _has_numbers(grid: Grid, column: int) -> bool:
    return any(column < len(row) and number_in(row[column]) is not None for row in grid.rows)
