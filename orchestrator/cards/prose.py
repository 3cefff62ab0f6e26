"""Read scores in sentences: "scores 71.2% on GSM8K (8-shot), while X reaches 68.0%"."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.claims.known import known_benchmarks, match_any, metric_in
from evals.claims.labels import LabelMatch, shots_in
from evals.claims.records import Figure, Unit, Where
from evals.suite import Suite
from orchestrator.cards.lists import Above
from orchestrator.cards.mentions import (
    Mention,
    TextNumber,
    benchmarks_in,
    models_in,
    numbers_in_text,
    unknown_targets,
)
from orchestrator.cards.orientation import Context
from orchestrator.cards.protocol import protocol_of, questions_in
from orchestrator.cards.stated import facts_of_label
from orchestrator.cards.subjects import Names, without_markup

_SENTENCE = re.compile(r"(?<=[.;!?])[\"')]?\s+(?=\S)")
_DATA = re.compile(
    r"\b(?:trained on|training (?:data|set|mix)|contaminat\w{0,4}|filtered|dataset of|sampled)\b",
    re.IGNORECASE,
)
_FORWARD = re.compile(
    r"\)?\s?(?:\([^()]{0,40}\)\s?)?(?:points?\s|pts\s)?(?:[\w@-]{1,14}\s){0,3}?(?:on|in|for|at|auf|im|bei|beim|sur|en|no|na|su)\s(?:the\s|both\s|our\s|its\s|dem\s|le\s|la\s|el\s)?(?:[\w-]{1,14}\s){0,2}?$",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\s?\(?$")
_BOUNDARY = re.compile(
    r",?\s(?:while|whereas|whilst|compared|versus|vs\.?|against|w\u00e4hrend|tandis)\s", re.IGNORECASE
)
_CHANGE = re.compile(
    r"\b(?:improv\w{0,6}|gain\w{0,3}|increas\w{0,4}|jump\w{0,3}|boost\w{0,3}|drop\w{0,4}|decreas\w{0,4}|los\w{1,3}|rais\w{1,3}|up|better|higher|lower|worse|deltas?|ahead|uplift)\b",
    re.IGNORECASE,
)
_BY = re.compile(r"\b(?:by|of|a|an|about|around|roughly|over|with|up|um)\s?[~\u2248]?$", re.IGNORECASE)
_CHANGE_AFTER = re.compile(
    r"\s?(?:%|percent|points?|pts|pp)?\s?(?:age )?(?:points?\s)?"
    r"(?:improv\w{0,6}|gain|increase|boost|drop|decrease|jump|better|higher|lower|worse|more|over)\b",
    re.IGNORECASE,
)
_POINTS_AFTER = re.compile(r"\s?(?:percentage )?(?:points?|pts|pp)\b", re.IGNORECASE)
_LOSS = re.compile(
    r"\b(?:drop\w{0,4}|decreas\w{0,4}|los\w{1,3}|lower\w{0,3}|worse\w{0,3}|down)\b", re.IGNORECASE
)
_OLD_VALUE = re.compile(r"\b(?:from|von|de|desde|up from|down from)\s$", re.IGNORECASE)
_TO_OR_FROM = re.compile(r"\b(?:to|from)\b")
_OF_MODEL = re.compile(
    r"\s?%?\)?\s?(?:points?\s)?(?:for|of|by|from|with|on|in)\s(?:the\s)?(?:original\s)?$", re.IGNORECASE
)
_COMPARES = re.compile(
    r"\b(?:outperform\w{0,4}|surpass\w{0,4}|beat\w{0,3}|exceed\w{0,3}|than|over|compared|vs|versus|against|from)\b",
    re.IGNORECASE,
)
_BASE_WORDS = re.compile(
    r"\b(?:the |its )?(?:base|original|parent|source|baseline|basismodell)(?: model| checkpoint)?\b",
    re.IGNORECASE,
)
_CLAUSE_OF = re.compile(
    r"(?:'s|,? (?:which|that|at|gets?|scores?|reach(?:es)?|achieves?|has|had|obtains?|with))\s", re.IGNORECASE
)
_RESPECTIVELY = re.compile(r"\brespectively\b", re.IGNORECASE)
_MAX_SENTENCE = 2000
_MAX_SENTENCES = 3000
_MAX_PAIRS = 40
_MAX_AROUND = (
    240  # characters about a number and its benchmark in which metric, shots and conditions are looked for
)


@dataclass(frozen=True)
class _Sentence:
    text: str
    line: int
    above: Above


def figures_of_prose(
    lines: Sequence[str],
    skip: frozenset[int],
    above: Sequence[Above],
    first_group: int,
    names: Names,
    bases: Sequence[str],
    suites: Sequence[Suite],
) -> list[Figure]:
    """The scores and changes in sentences outside tables, lists and code. `skip` holds their lines, from 1."""
    figures: list[Figure] = []
    for number, sentence in enumerate(_sentences(lines, skip, above)):
        if number >= _MAX_SENTENCES:
            break
        figures += _of_sentence(sentence, first_group + number, names, bases, suites)
    return figures


def without_repeats(figures: Sequence[Figure], prose: Sequence[Figure]) -> list[Figure]:
    """The figures of the sentences that no table, list or other sentence of the card has."""
    seen = {key for f in figures for key in _keys(f)}
    kept = []
    for figure in prose:
        keys = _keys(figure)
        if not seen.intersection(keys):
            kept.append(figure)
        seen.update(keys)
    return kept


def _keys(figure: Figure) -> list[tuple[object, ...]]:
    """What makes a figure the same as another; the names of the board and of the table of benchmarks both count."""
    rest = (figure.subject, figure.unit is Unit.CHANGE, round(figure.points, 6))
    return [(name, *rest) for name in {figure.name, figure.benchmark} if name is not None]


def _sentences(lines: Sequence[str], skip: frozenset[int], above: Sequence[Above]) -> Iterator[_Sentence]:
    """The sentences with a digit; lines of a paragraph are joined."""
    start, parts = 0, list[str]()
    for number, line in enumerate([*lines, ""], start=1):
        text = line.strip()
        ends = not text or number in skip or text.startswith(("#", "|", "- ", "* ", "+ ", "<"))
        if ends or len(parts) >= 50:
            yield from _split(" ".join(parts), start, above)
            parts = []
        if text and number not in skip and not text.startswith(("#", "|")):
            start = start if parts else number
            parts.append(without_markup(text[:_MAX_SENTENCE]))


def _split(paragraph: str, line: int, above: Sequence[Above]) -> Iterator[_Sentence]:
    if any(c.isdigit() for c in paragraph):
        for text in _SENTENCE.split(paragraph):
            if any(c.isdigit() for c in text):
                yield _Sentence(" ".join(text[:_MAX_SENTENCE].split()), line, above[line - 1])


def _of_sentence(
    sentence: _Sentence, group: int, names: Names, bases: Sequence[str], suites: Sequence[Suite]
) -> Iterator[Figure]:
    text = sentence.text
    mentions = benchmarks_in(text)
    numbers = list(numbers_in_text(text, mentions))[:_MAX_PAIRS]
    mentions = sorted([*mentions, *unknown_targets(text, numbers, mentions, names)], key=lambda m: m.start)
    if not mentions or _DATA.search(text):
        return
    if (
        sentence.above.context is Context.OTHER
        and sentence.above.owner != "own"
        and not _CHANGE.search(text)
        and "%" not in text
    ):
        return
    models = models_in(text, names, mentions)
    models += _base_mentions(text, models, bases)
    pairs = _pairs(text, numbers, mentions)
    for number, mention in pairs:
        figure = _figure(sentence, number, mention, group, suites)
        if figure is None:
            continue
        change = figure.unit is Unit.CHANGE
        subject = None if change else _subject(text, number, models, names, sentence.above, bases)
        yield figure.model_copy(update={"subject": subject})


def _pairs(
    text: str, numbers: Sequence[TextNumber], mentions: Sequence[Mention]
) -> list[tuple[TextNumber, Mention]]:
    """Each number with its benchmark: the one after "on", else the one before it in its clause."""
    exact = [n for n in numbers if n.exact] or list(numbers)
    if _RESPECTIVELY.search(text) and len(exact) == len(mentions):
        return list(zip(exact, mentions, strict=True))
    pairs = ((number, _benchmark_of(text, number, mentions)) for number in numbers)
    return [(number, mention) for number, mention in pairs if mention is not None]


def _benchmark_of(text: str, number: TextNumber, mentions: Sequence[Mention]) -> Mention | None:
    after = next((m for m in mentions if m.start >= number.end), None)
    before = next((m for m in reversed(mentions) if m.end <= number.start), None)
    between = text[number.end : after.start][:60] if after is not None else ""
    if after is not None and _FORWARD.fullmatch(between):
        return after
    if before is not None and (number.exact or _is_close(text[before.end : number.start][:60])):
        return before
    if not number.exact or len(between) >= 60:
        return None
    is_aside = _ASIDE.fullmatch(between) is not None
    is_change = _is_old(text, number) or _TO_OR_FROM.search(between)
    return after if is_aside or is_change else None


def _is_old(text: str, number: TextNumber) -> bool:
    """Whether a number stands behind "from"."""
    return _OLD_VALUE.search(text[max(0, number.start - 20) : number.start]) is not None


def _is_close(between: str) -> bool:
    """Whether a whole number belongs to the benchmark before it, as in "MT-Bench: 8" or "a GSM8K score of 71"."""
    return (
        re.fullmatch(
            r"\s?(?:\([^()]{0,40}\))?\s?(?:scores?\s|accuracy\s)?(?:of\s|:\s?|=\s?|is\s|at\s)", between
        )
        is not None
    )


def _figure(
    sentence: _Sentence, number: TextNumber, mention: Mention, group: int, suites: Sequence[Suite]
) -> Figure | None:
    text = sentence.text
    label = mention.written
    match = match_any(mention.name or label, suites) or LabelMatch(suite=None, benchmark=None)
    known = known_benchmarks().get(match.known_as or "")
    change = _is_change(text, number)
    value, digits = number.value, number.digits
    if change and not number.signed and _LOSS.search(text[max(0, number.start - 40) : number.end + 20]):
        value = -value
    percent = number.percent
    if number.of is not None and (known is None or known.high != number.of):
        value, digits, percent = round(100 * value / max(number.of, 1), 2), 2, True
    own_range = (known is not None and not known.in_percent) or value > 100
    if own_range and percent and not change:
        return None
    unit = Unit.POINTS
    if change:
        unit = Unit.CHANGE
    elif own_range:
        unit = Unit.OWN
    elif 0 < value <= 1 and digits > 1 and not percent:
        unit = Unit.FRACTION
    first = max(0, min(mention.start, number.start) - 20)
    around = text[first : min(max(mention.end, number.end) + 40, first + _MAX_AROUND)]
    near = around[: _next_boundary(around)]
    return Figure(
        where=Where.TEXT,
        group=group,
        line=sentence.line,
        subject=None,
        label=label,
        suite=match.suite,
        benchmark=match.benchmark,
        known_as=match.known_as,
        written=number.text,
        value=value,
        digits=digits,
        unit=unit,
        metric=metric_in(near),
        shots=shots_in(near),
        n=questions_in(near),
        facts=protocol_of(near).plus(facts_of_label(near).known),
    )


def _next_boundary(text: str) -> int:
    match = re.search(r",?\s(?:while|whereas|and)\s", text)
    return match.start() if match else len(text)


def _is_change(text: str, number: TextNumber) -> bool:
    before, after = text[max(0, number.start - 40) : number.start], text[number.end : number.end + 40]
    if number.signed and number.text[0] == "+":
        return True
    if _OLD_VALUE.search(before) or re.search(r"\bto\s?$", before):
        return False
    if _CHANGE_AFTER.match(after) and not _COMPARES.match(after.strip()):
        return True
    by = (
        re.search(r"\bby\s(?:about\s|around\s|roughly\s|over\s)?[~\u2248]?$", before, re.IGNORECASE)
        is not None
    )
    points = _POINTS_AFTER.match(after) is not None
    if re.search(
        r"\b(?:improvement|gain|increase|jump|boost|drop|decrease|loss)\sof\s?$", before, re.IGNORECASE
    ):
        return True
    return _says_change(text) and (by or (points and _BY.search(before) is not None))


@functools.lru_cache(maxsize=8)
def _says_change(text: str) -> bool:
    return _CHANGE.search(text) is not None


@functools.lru_cache(maxsize=8)
def _boundaries(text: str) -> tuple[int, ...]:
    """Where the clauses of a sentence begin that follow words such as "while"."""
    return tuple(m.end() for m in _BOUNDARY.finditer(text))


@functools.lru_cache(maxsize=8)
def _comparisons(text: str) -> tuple[tuple[int, int], ...]:
    """Start and end of the words of a sentence that compare."""
    return tuple(m.span() for m in _COMPARES.finditer(text))


def _subject(
    text: str,
    number: TextNumber,
    models: Sequence[Mention],
    names: Names,
    above: Above,
    bases: Sequence[str],
) -> str | None:
    """The model that a number belongs to; None for the card's own.

    It is the model named right behind the number ("71.0 for X") or before its bracket ("X (71.0)"), else the subject of its
    clause, else the card's own model.
    """
    for model in models:
        if 0 <= model.start - number.end < 30 and _OF_MODEL.fullmatch(text[number.end : model.start]):
            return model.name or None
        gap = text[model.end : number.start] if 0 <= number.start - model.end < 6 else None
        if gap is not None and re.fullmatch(r"(?:'s)?\s?[(:]\s?~?", gap):
            return model.name or None
    if _is_old(text, number):
        return bases[0] if bases else "base"
    subject = _subject_of_clause(text, number, models)
    if subject is not None:
        return subject.name or None
    return None if above.owner in (None, "own") else above.owner


def _subject_of_clause(text: str, number: TextNumber, models: Sequence[Mention]) -> Mention | None:
    """The model that a clause is about: named before a comparison, or right before a verb such as "gets"."""
    start = max((end for end in _boundaries(text) if end <= number.start), default=0)
    end = next((s for s, e in _comparisons(text) if s >= start and e <= number.start), number.start)
    in_clause = sorted((m for m in models if start <= m.start < number.start), key=lambda m: m.start)
    subject = next((m for m in in_clause if m.start < end), None)
    if subject is None and in_clause and (start or _CLAUSE_OF.match(text, in_clause[-1].end)):
        subject = in_clause[-1] if _CLAUSE_OF.match(text, in_clause[-1].end) else in_clause[0]
    return subject


def _base_mentions(text: str, models: Sequence[Mention], bases: Sequence[str]) -> list[Mention]:
    """Words such as "the base model" as mentions of the base, where no name stands beside them."""
    name = bases[0] if bases else "base"
    return [
        Mention(m.start(), m.end(), name, m[0])
        for m in _BASE_WORDS.finditer(text)
        if not any(m.start() < model.end and model.start < m.end() for model in models)
    ]
