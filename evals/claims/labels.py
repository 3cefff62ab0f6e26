"""Which benchmark a label in a card names."""

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


class Named(Frozen):
    """What a label names."""

    suite: str | None = Field(description="Suite; null for an average without a suite.")
    benchmark: str | None = Field(description="Benchmark of the suite; null for an average.")
    is_average: bool = Field(default=False, description="Whether it is an average.")


class _Synonyms(Frozen):
    averages: tuple[str, ...] = Field(description="Names of an average.")
    synonyms: tuple[tuple[str, ...], ...] = Field(description="Names that mean the same benchmark.")


def board_suites() -> tuple[Suite, ...]:
    """The suites whose scores belong in cards."""
    return tuple(suite for suite in map(load_suite, suite_names()) if not suite.smoke)


def named(label: str, suites: Sequence[Suite]) -> Named | None:
    """What the label names in these suites; None if nothing that they know."""
    key = plain(label)
    data = _synonyms()
    if key in map(plain, data.averages):
        return Named(suite=None, benchmark=None, is_average=True)
    keys = {key}.union(*({plain(n) for n in names} for names in data.synonyms if key in map(plain, names)))
    for suite in suites:
        for benchmark in suite.benchmarks:
            own = [
                benchmark.name,
                benchmark.title,
                *([benchmark.card.dataset_name] if benchmark.card else []),
            ]
            if keys.intersection(map(plain, own)):
                return Named(suite=suite.name, benchmark=benchmark.name)
    return None


def shots_in(label: str) -> int | None:
    """The number of shots that a label names, as in 'BBH (3-Shot)'."""
    found = re.search(r"(\d{1,3})[ -]?shots?\b", label, re.IGNORECASE)
    return int(found[1]) if found else None


@functools.lru_cache(maxsize=4096)
def plain(label: str) -> str:
    """The label without markup, shots, case and punctuation."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", label)
    text = re.sub(r"\(?\b\d{1,3}[ -]?shots?\b\)?", " ", text, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", text.lower())


@functools.cache
def _synonyms() -> _Synonyms:
    return _Synonyms.model_validate(yaml.safe_load((BOARD_DIR / "labels.yaml").read_text(encoding="utf-8")))
