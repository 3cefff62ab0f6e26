"""Tell the model of each row or column of a table: the card's own, its base, or a rival."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from evals.claims.known import is_neutral, tokens_of
from evals.claims.labels import plain
from evals.claims.records import Scale
from orchestrator.cards.subjects import Names, says_ours

DUPLICATE = "\0"  # never in a card; marks a further series of the same name
_FOOTNOTES = " ^*\u2020\u2021\u00a7\u00b9\u00b2\u00b3"
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
        "",
    )
)
_SCALES = {
    Scale.RAW: ("raw", "rawscore", "rawscores", "rawaccuracy", "unnormalized", "unnormalised"),
    Scale.NORMALIZED: ("normalized", "normalised", "normalizedscore", "normalisedscore", "normalizedscores"),
}


def subjects_of(
    scores: Sequence[str], changes: Sequence[str], bold: Sequence[str], names: Names, owner: str | None
) -> dict[str, str | None]:
    """The model of each series; None is the card's own model.

    The own model's series is, in this order: one marked "ours", one with the model's name, one with a general
    name such as "Score", a metric or a precision (unless the text above names another model), the only one whose name is a
    part of the model's or contains it, the only one that a heading or a sentence announces, the only one in bold. A single series of
    changes belongs to the own model.
    """
    subjects: dict[str, str | None] = {s: s for s in (*scores, *changes)}
    general = [s for s in scores if is_general(title_of(s))]
    own_series = [s for s in scores if says_ours(s)] or [s for s in scores if names.is_own(title_of(s))]
    near = [s for s in scores if names.is_near(title_of(s))]
    if own_series:
        subjects.update(dict.fromkeys(own_series))
    elif general:
        subjects.update(dict.fromkeys(general, None if owner in (None, "own") else owner))
    elif len(near) == 1:
        subjects[near[0]] = None
    elif (announced := _announced(scores, names)) is not None:
        subjects[announced] = None
    elif len(bold) == 1 and len(scores) > 1:
        subjects[bold[0]] = None
    if len(changes) == 1:
        subjects[changes[0]] = None
    return subjects


def _announced(scores: Sequence[str], names: Names) -> str | None:
    """The only series that a heading or a sentence announces, by its whole name rather than by a part of it."""
    for exactly in (True, False):
        announced = [s for s in scores if names.is_announced(title_of(s), exactly=exactly)]
        if announced:
            return announced[0] if len(announced) == 1 else None
    return None


def title_of(series: str) -> str:
    """The name of a series without the mark for duplicates."""
    return series.partition(DUPLICATE)[0]


def subject_of(series: str) -> str:
    """The name of a model without pictographs, such as those of links beside it, and without footnote marks."""
    title = title_of(series)
    shown = "".join(c for c in title if unicodedata.category(c) != "So" and c != "\ufe0f")
    return " ".join(shown.split()).rstrip(_FOOTNOTES) or title


def is_general(title: str) -> bool:
    """Whether a title names no model: a score, a metric, a number of shots, a precision, a scale."""
    if plain(title) in _GENERIC and not any(ord(c) > 127 for c in title):
        return True
    if title.startswith("column ") or scale_of(title) is not None:
        return True
    return bool(tokens_of(title)) and is_neutral(title)


def scale_of(series: str) -> Scale | None:
    """The scale that a series is named after; None if it names none."""
    return next((scale for scale, words in _SCALES.items() if plain(series) in words), None)
