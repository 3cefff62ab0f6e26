"""Find how a label, heading or sentence says that a score was made: attempts, reasoning, tools, questions."""

from __future__ import annotations

import functools
import re

from evals.claims.facts import Fact, Facts

_ATTEMPTS = re.compile(r"\b(pass|avg|mean|maj|cons|best)\s?(?:@|_at_)\s?(\d{1,4})\b", re.IGNORECASE)
_WORDS = (
    ("no chain of thought", re.compile(r"\b(?:no|without|w/o)[ -]cot\b", re.IGNORECASE)),
    ("chain of thought", re.compile(r"\bcot\b|\bchain[- ]of[- ]thought\b", re.IGNORECASE)),
    ("without thinking", re.compile(r"\bno[nt]?[- ]?think(?:ing)?\b", re.IGNORECASE)),
    ("with thinking", re.compile(r"\bthinking\b|\breasoning (?:on|enabled)\b", re.IGNORECASE)),
    ("without tools", re.compile(r"\b(?:no|without|w/o)[ -]tools?\b", re.IGNORECASE)),
    ("with tools", re.compile(r"\b(?:with|w/)[ -]?tools?\b", re.IGNORECASE)),
    ("loose", re.compile(r"\bloose\b", re.IGNORECASE)),
    ("length-controlled", re.compile(r"\bLC\b|\blength[- ]controlled\b")),
)
_OPPOSITES = {
    "chain of thought": "no chain of thought",
    "with thinking": "without thinking",
    "with tools": "without tools",
}
_QUESTIONS = re.compile(
    r"\bn\s?=\s?(?P<n>\d{1,6})\b|(?<![\w.,])(?P<many>\d{1,6}) (?:questions|problems|documents|tasks|prompts|items)\b",
    re.IGNORECASE,
)
_RUN_WORDS = r"(?:runs|seeds|trials|repetitions|generations|attempts|times)"
_RUNS = re.compile(
    rf"\b(?:averag\w{{0,4}}|mean)\s(?:[\w-]{{1,20}}\s){{0,4}}?(?P<runs>\d{{1,4}})\s(?:[\w-]{{1,20}}\s)?(?:{_RUN_WORDS}|samples)\b"
    rf"|\b(?P<more>\d{{1,4}})\s(?:independent\s|random\s)?(?:runs|seeds|trials|repetitions)\b"
    r"|\b(?P<each>\d{1,4})\s(?:samples|responses|generations)\sper\s(?:question|problem|prompt|query)\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"\b(?:multiple|several|repeated|many)\s(?:independent\s|random\s)?(?:runs|seeds|trials|samples per)\b",
    re.IGNORECASE,
)
_CONFIGURATIONS = (
    r"(?:different |possible |candidate |layer |merge )?(?:configurations?|combinations?|merges|variants|candidates|recipes|settings|layouts|"
    r"paths|checkpoints|trials|blocks|ratios|weightings)"
)
_FEW_WORDS = r"(?:[\w-]{1,12}\s){0,3}?"
_TRIED = re.compile(
    rf"\b(?:best|top|winner|picked|selected|chosen|chose)\s{_FEW_WORDS}(?:of|out of|among|from|between)\s"
    rf"(?:all |over |the |about |some )?(?P<of>\d[\d,]{{0,9}})\s{_CONFIGURATIONS}\b"
    rf"|\b(?:tried|tested|evaluated|scanned|swept|searched|explored|compared|benchmarked|scored)\s{_FEW_WORDS}"
    rf"(?P<tried>\d[\d,]{{0,9}})\s{_CONFIGURATIONS}\b",
    re.IGNORECASE,
)
_MAX_TEXT = 1000


@functools.lru_cache(maxsize=2048)
def protocol_of(text: str) -> Facts:
    """The protocol in a label or sentence, as one fact; none if it names nothing."""
    text = text[:_MAX_TEXT]
    parts = [f"{m[1].lower()}@{int(m[2])}" for m in _ATTEMPTS.finditer(text)]
    said = [name for name, pattern in _WORDS if pattern.search(text)]
    parts += [name for name in said if _OPPOSITES.get(name) not in said]
    return Facts(known={Fact.PROTOCOL: ", ".join(dict.fromkeys(parts))} if parts else {})


def questions_in(text: str) -> int | None:
    """The number of questions that a label or sentence names, as in "n=198"."""
    match = _QUESTIONS.search(text[:_MAX_TEXT])
    return (int(match["n"] or match["many"]) or None) if match else None


def runs_in(text: str) -> int | None:
    """The number of runs per question that a text says are averaged; 0 for an unknown number, None for one run."""
    counts = [int(m["runs"] or m["more"] or m["each"]) for m in _RUNS.finditer(text)]
    if counts:
        return max(counts)
    return 0 if _SEVERAL.search(text) else None


def tried_in(text: str) -> int | None:
    """The number of configurations among which a text says that the model is the best; None if it names none."""
    counts = [int((m["of"] or m["tried"]).replace(",", "") or 0) for m in _TRIED.finditer(text)]
    return max((c for c in counts if c > 1), default=None)
