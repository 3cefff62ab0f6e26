"""Find benchmarks, numbers and models in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.claims.known import known_benchmarks, names_in_text
from orchestrator.cards.subjects import Names, is_model_name

_WORD = re.compile(r"[^\W_]+\+?")
_GAP = re.compile(r"[ \-_'’^{}.]{0,2}")
_UNKNOWN = re.compile(
    r"(?<![\w-])(?:[A-Z][\w]{1,30}-)?[A-Z][A-Za-z0-9]{1,30}-?(?:[Bb]ench|BENCH|[Ee]val|QA|MMLU)(?![\w-])"
)
_SCORES = re.compile(
    r"\b(?:scor(?:es?|ed|ing)|achiev\w{1,3}|reach\w{0,3}|obtain\w{0,3}|attain\w{0,3}|gets?|got|hits?)\b",
    re.IGNORECASE,
)
_NO_SCORES = re.compile(
    r"\b(?:loss|speed\w{0,3}|latency|throughput|memory|v?ram|utili[sz]ation|compression|costs?|prices?|uptime|temperature|learning rate|"
    r"tok/s|t/s)\b",
    re.IGNORECASE,
)
_ON_NAME = re.compile(
    r"\)?\s?(?:points?\s)?(?:accuracy\s|F1\s|pass@\d{1,4}\s)?(?:on|in)\s(?:the\s|our\s)?(?:internal\s|new\s)?"
    r"(?P<name>[A-Z][A-Za-z0-9+]{1,40}(?:[- ][A-Z0-9][A-Za-z0-9+]{0,40}){0,3})(?!\w|['\u2019]s)"
)
_NO_BENCHMARK = re.compile(
    r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|January|February|March|April|May|June|July|August|September|October|November|December|"
    r"English|German|French|Spanish|Chinese|Japanese|GPUs?|CPUs?|NVIDIA|AMD|Intel|Apple|RTX|GTX|Mac\w{0,6}|Linux|Ubuntu|Windows|Android|iOS|AWS|GCP|Azure|"
    r"Colab|Kaggle|GitHub|Hugging|HuggingFace|Table|Figure|Section|Appendix|[AHBLTV]\d{1,3}s?)\b"
)
_NUMBER = re.compile(
    r"(?<![\w.,/@#=$€-])(?P<sign>[+\-\u2212]?)(?P<number>\d{1,5}(?:[.,]\d{1,4})?)(?:\s?/\s?(?P<of>\d{1,4})(?![\d.]))?\s?(?P<percent>%|percent\b)?(?![\w@]|[.,]\d|-?shot)"
)
_UNITS = re.compile(
    r"\s?-?(?:[BMKkTG]\b|billion|million|thousand|trillion|tokens?\b|shots?\b|layers?\b|GPUs?\b|hours?\b|days?\b|minutes?\b|seconds?\b|ms\b|epochs?\b|steps?\b|examples?\b|"
    r"samples?\b|questions?\b|problems?\b|tasks?\b|languages?\b|parameters?\b|GB\b|MB\b|GiB\b|bits?\b|bpw\b|years?\b|times\b|x\b|×|runs?\b|seeds?\b|models?\b|benchmarks?\b|"
    r"downloads?\b|experts?\b|heads?\b|dimensions?\b|prompts?\b|turns?\b|dollars?\b|USD\b|€|subjects?\b|subsets?\b|tok/s|t/s|A100|H100|documents?\b|rows?\b)",
)
_BEFORE = re.compile(
    r"(?:\b(?:version|v|top|rank(?:ed)?|n|k|t|seed|temperature|section|table|figure|page|step|epoch|layers?|of|first|last|next|release|python|since|in|until|by)|[#$€(]|top-[pk])\s?=?\s?$",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[A-Za-z0-9][\w./-]{1,95}")


@dataclass(frozen=True)
class Mention:
    """A part of a sentence: its place, and the name of what it means."""

    start: int
    end: int
    name: str
    written: str


@dataclass(frozen=True)
class TextNumber:
    """A number in a sentence that can be a score."""

    start: int
    end: int
    text: str
    value: float
    digits: int
    signed: bool
    percent: bool
    of: int | None

    @property
    def exact(self) -> bool:
        """Whether it is written as a score: with decimals, a percent sign, or a whole after a slash."""
        return self.digits > 0 or self.percent or self.of is not None


def benchmarks_in(sentence: str) -> list[Mention]:
    """The benchmarks that a sentence names, in order; longer names first where several fit."""
    names, longest = names_in_text()
    tokens = list(_WORD.finditer(sentence))
    mentions: list[Mention] = []
    i = 0
    while i < len(tokens):
        size = _longest_name(sentence, tokens, i, longest, names)
        if size:
            start, end = tokens[i].start(), tokens[i + size - 1].end()
            name = names["".join(t[0].lower() for t in tokens[i : i + size])]
            written = sentence[start:end]
            if _stands_alone(sentence, start, end) and _is_written(written, name, size):
                mentions.append(Mention(start, end, name, written))
            i += size
        else:
            i += 1
    taken = {i for m in mentions for i in range(m.start, m.end)}
    mentions += [
        Mention(m.start(), m.end(), "", m[0])
        for m in _UNKNOWN.finditer(sentence)
        if taken.isdisjoint(range(m.start(), m.end()))
    ]
    return sorted(mentions, key=lambda m: m.start)


def unknown_targets(
    sentence: str, numbers: Sequence[TextNumber], mentions: Sequence[Mention], names: Names
) -> list[Mention]:
    """Names after scores that are no known benchmarks, as in "reaches 63.4% on FableQuest"."""
    if _NO_SCORES.search(sentence) or not (mentions or _SCORES.search(sentence)):
        return []
    taken = {i for m in mentions for i in range(m.start, m.end)}
    targets = []
    for number in numbers:
        match = _ON_NAME.match(sentence, number.end) if number.exact else None
        if match is None or not taken.isdisjoint(range(*match.span("name"))):
            continue
        name = match["name"]
        is_model = names.is_own(name) or names.is_other(name) or re.search(r"\d[BM]\b", name)
        if not is_model and _NO_BENCHMARK.match(name) is None:
            targets.append(Mention(match.start("name"), match.end("name"), "", name))
    return targets


def numbers_in_text(sentence: str, mentions: list[Mention]) -> Iterator[TextNumber]:
    """The numbers of a sentence that can be scores: no years, sizes, counts, versions, and no parts of names."""
    taken = {i for m in mentions for i in range(m.start, m.end)}
    for match in _NUMBER.finditer(sentence):
        if match.start() in taken:
            continue
        percent = match["percent"] is not None
        if not percent and _UNITS.match(sentence, match.end()):
            continue
        number = match["number"].replace(",", ".")
        digits = len(number.partition(".")[2])
        value = float(number)
        before = sentence[max(0, match.start() - 14) : match.start()]
        if digits == 0 and not percent and match["of"] is None and (value > 100 or _is_count(before)):
            continue
        minus = match["sign"] not in ("", "+")
        yield TextNumber(
            start=match.start(),
            end=match.end(),
            text=match[0].strip(),
            value=-value if minus else value,
            digits=digits,
            signed=bool(match["sign"]),
            percent=percent or match["of"] == "100",
            of=int(match["of"]) if match["of"] and match["of"] != "100" else None,
        )


def models_in(sentence: str, names: Names, mentions: list[Mention]) -> list[Mention]:
    """The models that a sentence names; the name of the card's own model is empty."""
    found = []
    taken = {i for m in mentions for i in range(m.start, m.end)}
    for match in _TOKEN.finditer(sentence):
        text = match[0].rstrip("./-")
        if not taken.isdisjoint(range(match.start(), match.start() + len(text))):
            continue
        own = names.is_own(text)
        if own or names.is_other(text) or (is_model_name(text) and re.search(r"\d", text)):
            found.append(Mention(match.start(), match.start() + len(text), "" if own else text, text))
    return found


def _is_count(before: str) -> bool:
    match = _BEFORE.search(before)
    return match is not None and not before.rstrip().lower().endswith(("score of", "accuracy of", "("))


def _longest_name(
    sentence: str, tokens: list[re.Match[str]], at: int, longest: int, names: dict[str, str]
) -> int:
    """The largest number of tokens from a place on that are a known name; 0 if there is none."""
    best, name = 0, ""
    for size in range(1, min(longest, len(tokens) - at) + 1):
        token = tokens[at + size - 1]
        if size > 1 and not _GAP.fullmatch(sentence, tokens[at + size - 2].end(), token.start()):
            break
        name += token[0].lower()
        if name in names:
            best = size
    return best


def _stands_alone(sentence: str, start: int, end: int) -> bool:
    """Whether no further word is joined to a name by a hyphen, slash or underscore, as in "GSM8K-style"."""
    before, after = sentence[max(0, start - 2) : start], sentence[end : end + 2]
    joined_before = len(before) == 2 and before[1] in "-_" and before[0].isalnum()
    joined_after = len(after) == 2 and after[0] in "-_" and after[1].isalpha()
    return not joined_before and not joined_after


def _is_written(written: str, name: str, size: int) -> bool:
    """Whether a single common word is written as the benchmark is: "DROP" and not "Drop"."""
    if written.islower() and not any(c.isdigit() for c in written):
        return False
    if size > 1 or any(c.isdigit() for c in written) or "+" in written:
        return True
    known = known_benchmarks()[name]
    return written in (known.name, *known.aliases) and not written.islower()
