"""Find whose scores a card gives: names of its own and other models, and the one that a label names."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from evals.claims.known import joined, tokens_of
from evals.claims.labels import plain

_OURS = re.compile(r"\b(?:ours|this (?:model|merge|repo|repository)|our (?:model|merge))\b", re.IGNORECASE)
_HEADING = re.compile(r"#{1,6}[ \t]+(?P<text>\S.{0,300})")
_HTML_HEADING = re.compile(r"<h[1-6]\b[^<>]{0,300}>(?P<text>[^<>]{1,300})", re.IGNORECASE)
_MARKUP = re.compile(r"<[^<>]{0,300}>|[*`_~]{2,3}|`")
_LINK = re.compile(r"!?\[([^\[\]]{0,300})\]\([^()\s]{0,500}\)")
_ASIDE = re.compile(r"\([^()]{0,300}\)|\[[^\[\]]{0,300}\]")
_ENDS_NAME = re.compile(r"[:,|]|\s[-–—]+\s")
_TOP_HEADING = re.compile(r"^# (?P<text>[^\n]{2,200})$", re.MULTILINE)
_THIS_REPOSITORY = re.compile(
    r"\bthis (?:repo|repository|model card|checkpoint) (?:is|holds|hosts|contains|provides)\b(?P<rest>[^\n]{2,200})",
    re.IGNORECASE,
)
_NAME_IN_SENTENCE = re.compile(
    r"(?:[\w.-]{1,96}/)?[A-Z][A-Za-z]{1,40}(?:[-.][A-Za-z0-9]{1,40}){0,12}(?: [A-Z0-9][\w-]{0,40}(?:\.\d{1,3})?){0,6}"
)
_TOKEN = re.compile(r"[A-Za-z0-9][\w./-]{1,190}")
_DETAILS = re.compile(r"\bdetails_([A-Za-z0-9][A-Za-z0-9.-]{0,95})__([\w.-]{1,95}\w)")
_COMPARES = re.compile(
    r"\b(?:compar\w{1,8}|vs|versus|against|over|than|from|improve\w{0,8})\b", re.IGNORECASE
)
_ALL_MODELS = re.compile(r"\b(?:all|both|every|each|same)\b", re.IGNORECASE)
_THE_BASE = re.compile(
    r"\b(?:base|parent|original|source)[ -]models?\b|\b(?:the|its) base\b|\bbaselines?\b", re.IGNORECASE
)
_FORM_WORDS = frozenset(
    ("model", "models", "modelcard", "readme", "card", "merge", "evaluation", "results", "overview")
)
_MAX_LINE = 4000


@dataclass(frozen=True)
class Names:
    """Normalized names of the card's own model and of other models in it."""

    own: frozenset[str]
    others: frozenset[str]
    owned: frozenset[str] = frozenset()  # the own names with an owner, `org/name`
    heading: str | None = None  # the name in the first heading, if it looks like a model's
    words: frozenset[frozenset[str]] = frozenset()  # the words of each own name
    announced: frozenset[frozenset[str]] = frozenset()  # the words of names that may be the card's own

    def is_own(self, label: str) -> bool:
        """Whether a row's or column's label is the card's own model."""
        repository = _repository(label)
        if repository is not None and any(
            o.endswith(plain(repository.partition("/")[2])) for o in self.owned
        ):
            return plain(repository) in self.owned
        return bool(self.own.intersection(_forms(label)))

    def is_other(self, label: str) -> bool:
        """Whether a label is a known other model."""
        return bool(self.others.intersection(_forms(label)))

    def is_near(self, label: str) -> bool:
        """Whether a label is a part of an own name, or contains all of it, and is no other model's name."""
        said = frozenset(tokens_of(_ASIDE.sub(" ", without_markup(label)).rpartition("/")[2]))
        if not said or self.others.intersection(_forms(label)) or not any(len(w) > 3 for w in said):
            return False
        return any(said <= own or (_is_distinct(own) and own <= said) for own in self.words)

    def is_announced(self, label: str, *, exactly: bool = False) -> bool:
        """Whether a label is a name that a heading or "this repository is ..." announces; a part of it, unless `exactly`."""
        said = frozenset(tokens_of(_ASIDE.sub(" ", without_markup(label)).rpartition("/")[2]))
        if exactly:
            return said in self.announced
        if not any(len(w) > 3 for w in said) or self.others.intersection(_forms(label)):
            return False
        return any((len(said) > 1 and said <= name) or name <= said for name in self.announced)

    def with_others(self, labels: Iterable[str]) -> Names:
        """These names with labels of further rows and columns that are other models."""
        forms = frozenset(f for label in dict.fromkeys(labels) for f in _forms(label) if len(f) > 3)
        return replace(self, others=(self.others | forms) - self.own)

    def owner(self, text: str) -> str | None:
        """'own', or the name of the one other model that a heading or caption names; else None."""
        if _OURS.search(text):
            return "own"
        tokens = {t.rstrip(".:") for t in _TOKEN.findall(without_markup(text)[:_MAX_LINE])}
        if any(map(self.is_own, (*tokens, text))):
            return "own"
        others = [t for t in tokens if self.others.intersection(_forms(t))]
        return others[0] if len(others) == 1 and not _COMPARES.search(text) else None

    def of_others(self, sentence: str) -> bool:
        """Whether a sentence is only about another model."""
        if _OURS.search(sentence) or _ALL_MODELS.search(sentence):
            return False
        tokens = {t.rstrip(".:") for t in _TOKEN.findall(without_markup(sentence)[:_MAX_LINE])}
        if any(map(self.is_own, tokens)):
            return False
        return _THE_BASE.search(sentence) is not None or any(
            self.others.intersection(_forms(t)) for t in tokens
        )


def says_ours(label: str) -> bool:
    """Whether a label marks the card's own model, for example with "(ours)"."""
    return _OURS.search(label) is not None


def find_names(
    body: str,
    title: str | None,
    *,
    stated: Sequence[str | None],
    bases: Sequence[str],
    mentioned: Iterable[str],
) -> Names:
    """The names of the models in a card.

    `title` is its first heading, `stated` are names of its own model from its metadata and folder; names from its first heading and from the
    link to the leaderboard's details are added. `mentioned` are repositories in the text; those with a digit
    are used. Names in further headings of the first level, and in sentences such as "this repository is ...", may be its own.
    """
    stated_forms = frozenset(f for name in stated if name for f in _forms(name))
    sources = frozenset(f for name in bases for f in _forms(name)) - stated_forms
    titles = _title_names(title) if title else []
    detailed = {f"{org}/{name}" for org, name in _DETAILS.findall(body)}
    own = stated_forms | frozenset(f for t in titles for f in _forms(t)) - sources - _FORM_WORDS
    if len(detailed) == 1:
        own |= frozenset(_forms(next(iter(detailed)))) - sources
    others = frozenset(f for n in mentioned if re.search(r"\d", n) for f in _forms(n))
    model = next((t for t in titles if is_model_name(t) and own.intersection(_forms(t))), None)
    owned = frozenset(
        plain(r) for n in (*stated, *titles, *detailed) if n and (r := _repository(n)) is not None
    )
    said = [n.rpartition("/")[2] for n in (*stated, model) if n]
    own_words = frozenset(frozenset(tokens_of(n)) for n in said if tokens_of(n))
    return Names(
        own=own,
        others=(sources | others) - own,
        owned=owned & own,
        heading=model,
        words=own_words,
        announced=_announced(body, title) - {frozenset(tokens_of(b.rpartition("/")[2])) for b in bases},
    )


def _announced(body: str, title: str | None) -> frozenset[frozenset[str]]:
    """The words of each name that a heading of the first level, or a sentence about the repository, gives; all have a digit."""
    texts = [m["text"] for m in itertools.islice(_TOP_HEADING.finditer(body), 20)]
    names = [
        _ENDS_NAME.split(_ASIDE.sub(" ", without_markup(t)), maxsplit=1)[0] for t in (title or "", *texts)
    ]
    for sentence in itertools.islice(_THIS_REPOSITORY.finditer(body), 5):
        match = _NAME_IN_SENTENCE.search(without_markup(sentence["rest"]))
        names += [match[0].rpartition("/")[2]] if match else []
    said = (frozenset(tokens_of(name)) - _FORM_WORDS for name in names)
    return frozenset(words for words in said if len(words) <= 8 and _is_distinct(words))


def _is_distinct(words: frozenset[str]) -> bool:
    """Whether the words of a name can tell it from others: one has letters, and one a digit."""
    has_digit = any(c.isdigit() for word in words for c in word)
    return len(words) > 1 or (has_digit and any(len(w) > 4 and w[0].isalpha() for w in words))


def headings(lines: Sequence[str], in_code: Sequence[bool]) -> list[str | None]:
    """For each line, the text of the nearest heading at or above it; code blocks have no headings."""
    nearest: list[str | None] = []
    current: str | None = None
    for line, fenced in zip(lines, in_code, strict=True):
        text = None if fenced else _heading(line)
        current = text or current
        nearest.append(current)
    return nearest


def without_markup(text: str) -> str:
    """The text without link addresses, tags and emphasis."""
    return _MARKUP.sub(" ", _LINK.sub(r"\1", text[:_MAX_LINE]))


def _heading(line: str) -> str | None:
    match = _HEADING.match(line) or _HTML_HEADING.search(line[:_MAX_LINE])
    return without_markup(match["text"]).strip(" #") or None if match else None


def _title_names(text: str) -> list[str]:
    """Possible model names in a title: all of it, the part before a colon, or the name after "card for"."""
    text = text.strip(" \t\"'")
    first = _ENDS_NAME.split(_ASIDE.sub(" ", text), maxsplit=1)[0].strip()
    names = [text, first]
    card_for = re.search(r"\bcard for (?:the )?(?P<name>\S{1,190})", text, re.IGNORECASE)
    if card_for:
        names.append(card_for["name"])
    token = _TOKEN.search(first)
    if token and not re.search(r"[A-Za-z0-9]", first[: token.start()]) and is_model_name(token[0]):
        rest = first[token.end() :]
        if not re.search(r"[+&]|\b(?:and|with|x)\b", rest, re.IGNORECASE):
            names.append(token[0])
    return [n for n in dict.fromkeys(names) if plain(n)]


def is_model_name(name: str) -> bool:
    """Whether it looks like a model's name: one word with a hyphen, a slash or a digit."""
    letter = re.search(r"[A-Za-z]", name)
    return (
        letter is not None
        and re.fullmatch(r"[A-Za-z0-9][\w./-]{1,190}", name) is not None
        and re.search(r"[-/0-9]", name[letter.end() :]) is not None
    )


@functools.lru_cache(maxsize=4096)
def _forms(name: str) -> frozenset[str]:
    """Normalized forms of a name: whole, without brackets and text after a comma, without the owner."""
    bare = _ASIDE.sub(" ", without_markup(name)).partition(",")[0]
    bare = _OURS.sub(" ", bare).strip()
    forms = {plain(name), plain(bare), joined(bare)}
    repository = _repository(bare)
    if repository is not None:
        forms.add(plain(repository.partition("/")[2]))
    return frozenset(forms - {""})


def _repository(label: str) -> str | None:
    """The repository name if the label, without brackets, is one."""
    bare = _ASIDE.sub(" ", label[:_MAX_LINE]).strip()
    return bare if re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", bare) else None
