"""Benchmarks that cards name beyond the suites, as data, and the words around their names in a label."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import yaml
from pydantic import Field

from evals.claims.labels import BOARD_DIR, LabelMatch, match_label
from evals.engine import Frozen
from evals.suite import Suite

_MAX_LABEL = 200
_MAX_TOKENS = 16
_TOKEN = re.compile(r"[^\W_]+\+?")
_VERSION = re.compile(r"v?\d{1,8}k?")
_GREEK = str.maketrans({"\u03b1": "alpha", "\u03b2": "beta", "\u03b3": "gamma", "\u03c4": "tau"})
_METRIC = re.compile(
    r"\b(?:pass|maj|avg|mean|cons)\s?@\s?\d{1,4}\b|\bacc[_ ]norm\b|\b(?:length[- ]controlled|LC)[- ]?win[- ]?rate\b|\bwin[- ]?rate\b"
    r"|\bexact[_ ]match\b|\baccuracy\b|\bacc\b|\bEM\b|\bF1\b|\bROUGE(?:-[L12])?\b|\bBLEU\b|\bperplexity\b|\bPPL\b|\bBPB\b|\bElo\b|\brating\b"
    r"|\bpercentile\b|\bresolved\b|\bmc[12]\b|\bWER\b|\bLC\b",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\(([^()]{2,60})\)")
_LAST_BRACKET = re.compile(r"\s?\(([^()]{1,40})\)$")
_NEUTRAL = re.compile(r"\d{1,4}|i?q\d[0-9a-z]{0,4}|\d{1,2}(?:bit|bpw)|\d{1,3}shots?")
_LINK = re.compile(r"!?\[([^\[\]]{0,300})\]\([^()]{0,500}\)")


class KnownBenchmark(Frozen):
    """What is known of a benchmark that cards name."""

    name: str = Field(description="Usual name.")
    aliases: tuple[str, ...] = Field(default=(), description="Other names.")
    metric: str = Field(default="accuracy", description="Usual metric.")
    n: tuple[int, ...] = Field(
        default=(),
        description="Numbers of questions of its usual sets; empty if its score is no count of them.",
    )
    high: float = Field(default=100, ge=0, description="Top of its range; 0 if it has none.")
    lower_is_better: bool = Field(default=False, description="Whether lower is better.")
    floor: float = Field(default=0, ge=0, description="Points of random guessing.")
    repeats: int = Field(
        default=1, ge=1, description="Largest number of runs that reports average without saying so."
    )

    @property
    def in_percent(self) -> bool:
        """Whether its scores are from 0 to 100."""
        return self.high == 100 and not self.lower_is_better


class Words(Frozen):
    """Words of labels and headings, in plain form."""

    qualifiers: frozenset[str] = Field(description="Words beside a benchmark's name.")
    metrics: frozenset[str] = Field(description="Names of metrics.")
    rates: frozenset[str] = Field(description="Metrics that are shares, 0 to 1 or 0 to 100.")
    not_scores: frozenset[str] = Field(description="Words of labels whose numbers are no scores.")
    score_headings: frozenset[str] = Field(description="Words of headings above scores.")
    other_headings: frozenset[str] = Field(description="Words of headings above other numbers.")
    benchmark_headers: frozenset[str] = Field(description="Headers of columns that name benchmarks.")
    speed_headings: frozenset[str] = Field(description="Words of headings above speeds and costs.")
    neutral: frozenset[str] = Field(description="Words of columns that name no model.")


@functools.cache
def known_benchmarks() -> dict[str, KnownBenchmark]:
    """The table of known benchmarks, by name."""
    rows = yaml.safe_load((BOARD_DIR / "benchmarks.yaml").read_text(encoding="utf-8"))
    return {b.name: b for b in map(KnownBenchmark.model_validate, rows)}


@functools.cache
def words() -> Words:
    """The words of labels and headings."""
    data = yaml.safe_load((BOARD_DIR / "qualifiers.yaml").read_text(encoding="utf-8"))
    return Words(**{key: frozenset(map(joined, values)) for key, values in data.items()})


@functools.lru_cache(maxsize=8192)
def match_known(label: str) -> KnownBenchmark | None:
    """The known benchmark that a label names, alone or among qualifiers; None if it names none."""
    tokens = tokens_of(label)
    if not tokens or len(tokens) > _MAX_TOKENS:
        return None
    by_name = _by_name()
    for size in range(len(tokens), 0, -1):
        for start in range(len(tokens) - size + 1):
            name = by_name.get("".join(tokens[start : start + size]))
            others = (*tokens[:start], *tokens[start + size :])
            if name is not None and all(map(_is_qualifier, others)):
                return known_benchmarks()[name]
    return None


def match_any(label: str, suites: Sequence[Suite]) -> LabelMatch | None:
    """The benchmark of the suites, the average, or the known benchmark that a label names; None if it names none."""
    match, known = match_label(label, suites), match_known(label)
    if match is None:
        return None if known is None else LabelMatch(suite=None, benchmark=None, known_as=known.name)
    return match if known is None else match.model_copy(update={"known_as": known.name})


def topic_of(heading: str) -> str | None:
    """The known benchmark that a heading names, alone or in brackets as in "Multilingual (MMLU)"."""
    inside = _BRACKETS.search(heading[:_MAX_LABEL])
    known = match_known(heading) or (match_known(inside[1]) if inside is not None else None)
    return known.name if known is not None else None


def names_in_text() -> tuple[dict[str, str], int]:
    """Names by joined tokens that may be looked for in running text, and the largest number of tokens in one."""
    return _names_in_text()


def tokens_of(label: str) -> tuple[str, ...]:
    """The words and numbers of a label in lower case; a plus sign belongs to the word before it."""
    text = unicodedata.normalize("NFKC", _LINK.sub(r"\1", label[:_MAX_LABEL])).lower()
    return tuple(_TOKEN.findall(text.translate(_GREEK)))


def joined(label: str) -> str:
    """A label's tokens without separators."""
    return "".join(tokens_of(label))


def label_words(label: str) -> frozenset[str]:
    """The distinct words of a label."""
    return frozenset(tokens_of(label))


def unqualified(label: str) -> str:
    """A label without a bracket at its end that only says how it was measured, as in "Safety (6 task avg.)"."""
    match = _LAST_BRACKET.search(label) if label.endswith(")") else None
    if match is None or not match.start():
        return label
    said = tokens_of(match[1])
    return label[: match.start()] if all(map(_is_qualifier, set(said) - {"task", "tasks"})) else label


def is_metric(label: str) -> bool:
    """Whether a label is the name of a metric."""
    return joined(label) in words().metrics


def metric_in(label: str) -> str | None:
    """The metric that a label names beside the benchmark, as in "DROP (3-shot F1)"; None if it names none."""
    match = _METRIC.search(label[:_MAX_LABEL])
    return match[0] if match is not None else None


def is_rate(metric: str | None) -> bool:
    """Whether a metric is a share, so that 0.93 means 93 %."""
    return metric is not None and joined(metric.partition(",")[0]) in words().rates


def is_setting(label: str) -> bool:
    """Whether a label names a size, date, setting, speed or price, and no known benchmark."""
    return bool(label_words(label) & words().not_scores) and match_known(label) is None


def is_neutral(label: str) -> bool:
    """Whether a label names a metric, a number of shots or a precision, and no model."""
    return all(t in words().neutral or _NEUTRAL.fullmatch(t) for t in tokens_of(label))


def _is_qualifier(token: str) -> bool:
    return token in words().qualifiers or _VERSION.fullmatch(token) is not None


@functools.cache
def _by_name() -> dict[str, str]:
    names: dict[str, str] = {}
    for benchmark in known_benchmarks().values():
        names[joined(benchmark.name)] = benchmark.name
    for benchmark in known_benchmarks().values():
        for alias in benchmark.aliases:
            names.setdefault(joined(alias), benchmark.name)
    return names


@functools.cache
def _names_in_text() -> tuple[dict[str, str], int]:
    names = {k: n for k, n in _by_name().items() if len(k) > 2}
    size = max(len(tokens_of(t)) for b in known_benchmarks().values() for t in (b.name, *b.aliases))
    return names, size
