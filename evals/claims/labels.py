"""Finds the benchmark that a label in a card names."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field

from evals.engine import Frozen
from evals.suite import Suite, load_suite, suite_names

BOARD_DIR = Path(__file__).parent.parent / "board"


class LabelMatch(Frozen):
    """The benchmark or average that a label names."""

    suite: str | None = Field(description="Suite; null for an average without a suite.")
    benchmark: str | None = Field(description="Benchmark of the suite; null for an average.")
    is_average: bool = Field(default=False, description="Whether it is an average.")
    known_as: str | None = Field(default=None, description="Its name in the table of known benchmarks.")


class _Synonyms(Frozen):
    averages: tuple[str, ...] = Field(description="Names of an average.")
    synonyms: tuple[tuple[str, ...], ...] = Field(description="Names that mean the same benchmark.")


def board_suites() -> tuple[Suite, ...]:
    """The leaderboard suites."""
    return tuple(suite for suite in map(load_suite, suite_names()) if not suite.smoke)


def card_suites() -> tuple[Suite, ...]:
    """The suites that a card can name: leaderboards first, then smoke suites with card entries."""
    smoke = [s for s in map(load_suite, suite_names()) if s.smoke and any(b.card for b in s.benchmarks)]
    return (*board_suites(), *smoke)


def match_label(label: str, suites: Sequence[Suite]) -> LabelMatch | None:
    """The benchmark of the suites, or the average, that the label names; None if it names neither."""
    key = plain(label)
    averages, synonyms = _synonyms()
    if key in averages:
        return LabelMatch(suite=None, benchmark=None, is_average=True)
    keys = synonyms.get(key, frozenset((key,)))
    for suite in suites:
        for benchmark in suite.benchmarks:
            names = [
                benchmark.name,
                benchmark.title,
                *([benchmark.card.dataset_name] if benchmark.card else []),
            ]
            if keys.intersection(map(plain, names)):
                return LabelMatch(suite=suite.name, benchmark=benchmark.name)
    return None


def shots_in(label: str) -> int | None:
    """The number of shots that a label names, as in 'BBH (3-Shot)'."""
    match = re.search(r"(\d{1,3})[ -]?shots?\b", label, re.IGNORECASE)
    return int(match[1]) if match else None


_MAX_LABEL = 1000
# A link's address may contain one pair of brackets. The pattern is possessive, so that it cannot backtrack.
_LINK = re.compile(r"\[([^\[\]]*+)\]\([^()]*+(?:\([^()]*+\)[^()]*+)?\)")


@functools.lru_cache(maxsize=4096)
def plain(label: str) -> str:
    """The label without markup, shots, "(partial)", case and punctuation."""
    text = _LINK.sub(r"\1", label[:_MAX_LABEL]).replace("(partial)", "")
    text = re.sub(r"\(?\b\d{1,3}[ -]?shots?\b\)?", " ", text, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", text.lower())


@functools.cache
def _synonyms() -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Plain names of averages, and the synonyms of each plain benchmark name."""
    text = (BOARD_DIR / "labels.yaml").read_text(encoding="utf-8")
    data = _Synonyms.model_validate(yaml.safe_load(text))
    groups = [frozenset(map(plain, names)) for names in data.synonyms]
    return frozenset(map(plain, data.averages)), {name: group for group in groups for name in group}
