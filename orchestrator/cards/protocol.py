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
_RUNS = re.compile(
    r"\b(?:averag\w{0,4}|mean)\s(?:[\w-]{1,20}\s){0,4}?(?P<runs>\d{1,4})\s(?:[\w-]{1,20}\s)?(?:runs|samples|seeds|trials|repetitions|generations|attempts|times)\b"
    r"|\b(?P<more>\d{1,4})\s(?:independent\s)?(?:runs|seeds|trials|repetitions|attempts)\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"\b(?:averag(?:ed?|ing) (?:over|across|of)|multiple (?:runs|seeds|samples)|several (?:runs|seeds))\b",
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
    counts = [int(m[2]) for m in _ATTEMPTS.finditer(text) if int(m[2]) > 1]
    counts += [int(m["runs"] or m["more"]) for m in _RUNS.finditer(text)]
    if counts:
        return max(counts)
    return 0 if _SEVERAL.search(text) else None
