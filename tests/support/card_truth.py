"""Compare what was read in a card with the figures that were counted by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from evals.claims.known import joined, match_known
from evals.claims.records import Unit
from orchestrator.cards import Card, load_card

Score = tuple[str | None, str, float]  # model (None is the card's own), benchmark, value


class Count(NamedTuple):
    """Figures of a card that are right with their model and benchmark, that are missing, and that are invented."""

    right: int
    missing: list[Score]
    invented: list[Score]


def truths(folder: Path) -> list[dict[str, Any]]:
    """The counted figures of a folder's cards."""
    data: list[dict[str, Any]] = yaml.safe_load((folder / "truth.yaml").read_text(encoding="utf-8"))
    return data


def counted_scores(truth: dict[str, Any]) -> Counter[Score]:
    """The figures that a reader counts, once per place."""
    models: dict[str | None, Any] = {None: truth["own"], **truth["others"]}
    return Counter(
        (model, _name(benchmark), float(value))
        for model, scores in models.items()
        for benchmark, values in scores.items()
        for value in (values if isinstance(values, list) else [values])
    )


def read_scores(card: Card) -> Counter[Score]:
    """The figures that were read, once per place."""
    return Counter(
        (f.subject, _name(f.name), round(f.points, 6))
        for f in card.figures
        if f.unit is not Unit.CHANGE and f.error is None
    )


def compare(folder: Path, truth: dict[str, Any]) -> Count:
    """Which figures of a card were read."""
    counted, read = counted_scores(truth), read_scores(load_card(folder / truth["card"]))
    return Count(
        (counted & read).total(), list((counted - read).elements()), list((read - counted).elements())
    )


def _name(benchmark: str) -> str:
    known = match_known(benchmark)
    return joined(known.name if known is not None else benchmark)
