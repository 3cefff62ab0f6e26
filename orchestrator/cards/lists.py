"""Read scores in lists: lines such as "- GSM8K (5-shot): 71.2"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.claims.known import (
    is_metric,
    is_setting,
    known_benchmarks,
    match_any,
    metric_in,
    tokens_of,
    topic_of,
    unqualified,
)
from evals.claims.labels import LabelMatch, shots_in
from evals.claims.records import Figure, Unit, Where
from evals.suite import Suite
from orchestrator.cards.figures import Number, counted, in_percent, near_zero, number_in, unit_of
from orchestrator.cards.grid import cell_text
from orchestrator.cards.mentions import benchmarks_in, numbers_in_text
from orchestrator.cards.orientation import Context
from orchestrator.cards.protocol import protocol_of, questions_in
from orchestrator.cards.scale import Entry, readings
from orchestrator.cards.stated import facts_of_label
from orchestrator.cards.subjects import Names, is_model_name

_BULLET = re.compile(r"\s{0,12}(?:>\s?)?(?:[-*+\u2022]|\d{1,2}[.)])\s+(?=\S)")
_ITEM = re.compile(
    r"(?P<label>[^\s:=|][^:=|]{0,90}?)(?: ?[:=\u2192] ?| [-\u2013\u2014] | )"
    r"(?P<number>[~\u2248]?[+\-\u2212]?\d{1,5}(?:[.,]\d{1,4})?(?!\d|[.,]\d) ?%?(?: ?/ ?\d{1,4})?)"
    r"(?P<rest>(?: ?(?:points|pts)\b)? ?(?:[(\[,;.\u00b1*\u2191\u2193\u2014\u2013-].{0,200}|\+/-.{0,60}|vs\.? .{0,100}|pass@\d.{0,40})?)$"
)
_SEPARATOR = re.compile(r"[,;|] | / ")
_MAX_PARTS = 30
_DIGIT = re.compile(r"[0-9]")
_MAX_LINE = 400
_MAX_LINES = 10_000  # lines with a digit that are tried; no card has as many
_MAX_WORDS = 8


@dataclass(frozen=True)
class _Item:
    """A list item with a label and a number."""

    line: int
    label: str
    number: Number
    rest: str
    match: LabelMatch | None
    subject: str | None


@dataclass(frozen=True)
class Above:
    """What stands above a line: its heading, what that announces, and whose scores it announces."""

    heading: str | None
    context: Context
    owner: str | None


def figures_of_lists(
    lines: Sequence[str],
    skip: frozenset[int],
    above: Sequence[Above],
    first_group: int,
    names: Names,
    suites: Sequence[Suite],
) -> tuple[list[Figure], frozenset[int]]:
    """The scores in lists, and the lines that were read. `skip` holds lines of tables and code, from 1."""
    figures: list[Figure] = []
    read: set[int] = set()
    for number, (items, owner) in enumerate(_lists(lines, skip, above, names, suites)):
        known = [i for i in items if i.match is not None]
        announced = above[items[0].line - 1].context is Context.SCORES
        kept = [i for i in items if i.match is not None or ((known or announced) and _may_be_score(i))]
        figures += _figures(kept, first_group + number, owner, suites)
        read.update(i.line for i in kept)
    return figures, frozenset(read)


def _lists(
    lines: Sequence[str],
    skip: frozenset[int],
    above: Sequence[Above],
    names: Names,
    suites: Sequence[Suite],
) -> Iterator[tuple[list[_Item], str | None]]:
    """Runs of list items below one heading, with the model that the line above them names."""
    run: list[_Item] = []
    n_read = 0
    owner: str | None = None
    lead: str | None = None
    for number, line in enumerate(lines, start=1):
        readable = number not in skip and len(line) <= _MAX_LINE and _DIGIT.search(line) is not None
        n_read += readable
        readable = readable and n_read <= _MAX_LINES
        items = _items(number, line, above[number - 1], names, suites) if readable else []
        if items:
            if not run:
                owner = lead or above[number - 1].owner
            run += items
        elif line.strip():
            if run:
                yield run, owner
            run = []
            lead = names.owner(line) if len(line) < 120 and line.rstrip(" *_").endswith(":") else None
    if run:
        yield run, owner


def _items(number: int, line: str, above: Above, names: Names, suites: Sequence[Suite]) -> list[_Item]:
    """The items of a line: several in "ARC: 58.9, HellaSwag: 81.2" or "GSM8K 48.2 / MMLU 52.1", else one or none."""
    bullet = _BULLET.match(line)
    text = " ".join(cell_text(line[bullet.end() :] if bullet is not None else line).split())
    head, colon, rest = text.partition(": ")
    for listed in (rest, text) if colon and match_any(head, suites) is None else (text,):
        parts = [part.strip(" .") for part in _SEPARATOR.split(listed)]
        if 2 <= len(parts) <= _MAX_PARTS:
            items = [_item(number, part, above, names, suites, bulleted=True) for part in parts]
            matched = [item for item in items if item is not None and item.match is not None]
            if len(matched) == len(parts):
                return matched
    item = _item(number, text, above, names, suites, bulleted=bullet is not None)
    return [item] if item is not None else []


def _item(
    number: int, text: str, above: Above, names: Names, suites: Sequence[Suite], *, bulleted: bool
) -> _Item | None:
    item = _ITEM.match(text)
    if item is None:
        return None
    if item["rest"].lstrip().startswith((",", ";")) and _names_another(item["rest"]):
        return None
    label = item["label"].strip(" -*\u2013\u2014\u2192\u279c\u27a1>")
    value = number_in(item["number"])
    if value is None or not tokens_of(label) or len(tokens_of(label)) > _MAX_WORDS:
        return None
    match = match_any(label, suites) or (_within(label, text) if bulleted else None)
    name = topic_of(above.heading or "")
    topic = known_benchmarks()[name] if name is not None else None
    subject: str | None = None
    if match is not None and match.is_average and topic is not None:
        match, label = LabelMatch(suite=None, benchmark=None, known_as=topic.name), topic.name
    elif match is None and topic is not None and is_metric(label):
        match = LabelMatch(suite=None, benchmark=None, known_as=topic.name)
    elif match is None and topic is not None and (names.is_own(label) or is_model_name(label)):
        subject = "own" if names.is_own(label) else label
        match, label = LabelMatch(suite=None, benchmark=None, known_as=topic.name), topic.name
    if match is None and (not bulleted or any(m.name for m in benchmarks_in(label))):
        return None  # a sentence
    if match is not None and match.is_average and not bulleted and above.context is not Context.SCORES:
        return None
    return _Item(number, label, value, item["rest"], match, subject)


def _names_another(rest: str) -> bool:
    """Whether the text behind an item's number has a further benchmark with a number, as in ", GSM8K 80.1"."""
    mentions = benchmarks_in(rest)
    return bool(mentions) and any(number.exact for number in numbers_in_text(rest, mentions))


def _within(label: str, text: str) -> LabelMatch | None:
    """The one known benchmark that a longer label names, as in "GPT4All average is now", if the line has one number."""
    mentions = benchmarks_in(text)
    names = {m.name for m in mentions if m.name}
    inside = len(names) == 1 and any(m.name for m in benchmarks_in(label))
    if not inside or len(list(numbers_in_text(text, mentions))) != 1:
        return None
    return LabelMatch(suite=None, benchmark=None, known_as=names.pop())


def _may_be_score(item: _Item) -> bool:
    """Whether an item with an unknown label can be a score: no setting, and a number as scores are written."""
    number = item.number
    exact = number.digits > 0 or number.percent
    return exact and -100 <= number.value <= 100 and not is_setting(item.label) and not item.label.islower()


def _figures(items: Sequence[_Item], group: int, owner: str | None, suites: Sequence[Suite]) -> list[Figure]:
    drafts = [_draft(item, group, owner) for item in items]
    entries = [
        Entry(
            series=d.subject or "",
            label=d.label,
            known=in_percent(d),
            near_zero=d.suite is None or near_zero(d.suite, d.benchmark, suites),
            written=d.written,
            value=d.value,
            digits=d.digits,
            signed=i.number.signed,
            percent=i.number.percent or "%" in i.label,
        )
        for d, i in zip(drafts, items, strict=True)
    ]
    figures = []
    for draft, reading in zip(drafts, readings(entries), strict=True):
        update = unit_of(draft, reading)
        if not in_percent(draft):
            update |= {"unclear": None, "error": None}
        figures.append(draft.model_copy(update=update))
    return figures


def _draft(item: _Item, group: int, owner: str | None) -> Figure:
    match = item.match
    known = known_benchmarks().get((match.known_as if match else None) or "")
    number = counted(item.number, known)
    said = f"{item.label} {item.rest}"
    subject = item.subject if item.subject is not None else owner
    shots = shots_in(item.label)
    return Figure(
        where=Where.TEXT,
        group=group,
        line=item.line,
        subject=None if subject in (None, "own") else subject,
        label=item.label if match is not None else unqualified(item.label),
        suite=match.suite if match else None,
        benchmark=match.benchmark if match else None,
        known_as=match.known_as if match else None,
        is_average=bool(match and match.is_average),
        written=number.written,
        value=number.value,
        digits=number.digits,
        unit=Unit.POINTS,
        metric=metric_in(said),
        shots=shots if shots is not None else shots_in(item.rest),
        n=questions_in(said),
        facts=protocol_of(said).plus(facts_of_label(said).known),
    )
