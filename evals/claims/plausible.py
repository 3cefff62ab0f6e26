"""What can be said of a card's scores without running anything. Pure functions.

Scores that no run can give, differences of one or two questions, comparisons across protocols, and gains that choosing the best of
many configurations gives by luck.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist

from evals.claims.facts import ALL_DOCUMENTS, Fact
from evals.claims.known import KnownBenchmark, joined, known_benchmarks
from evals.claims.records import CardCheck, CheckKind, CheckOutcome, Claim, Figure, Unit
from evals.suite import Aggregation, load_suite

_ASIDE = re.compile(r"\([^()]{0,100}\)")
_COUNTING = frozenset(
    map(joined, ("accuracy", "acc", "em", "exact match", "pass@1", "resolved", "strict accuracy"))
)
"""Metrics that are a number of correct answers divided by the number of questions."""
_MOST_QUESTIONS = 2  # a difference of so many questions or fewer is named
_PROTOCOL = (Fact.PROTOCOL, Fact.TEMPLATE, Fact.DTYPE, Fact.QUANTIZATION, Fact.HARNESS)
_MOST_NAMED = 5
_MOST_FIGURES = 3000


def impossible(claim: Claim) -> str | None:
    """Why no run can give the claimed score, in one sentence without a period; None if one can, or if it is unknown.

    The numbers of questions are the source's own, else those of the benchmark's usual sets. Scores are taken as rounded or cut off to
    the written decimals. An average over an unknown number of runs can be anything.
    """
    known = known_benchmarks().get(claim.known_as or "")
    counts = _question_counts(claim, known)
    if not counts or claim.runs == 0:
        return None
    repeats = [claim.runs] if claim.runs else range(1, (known.repeats if known is not None else 1) + 1)
    if any(_possible(claim.value, claim.rounding_points, n * k) for n in counts for k in repeats):
        return None
    n = min(counts, key=lambda count: abs(_nearest(claim.value, count) - claim.value))
    right = math.floor(claim.value * n / 100)
    each = f"{n} questions" if not claim.runs or claim.runs == 1 else f"{claim.runs} runs on {n} questions"
    if claim.runs and claim.runs > 1:
        return f"no {each} give {_written(claim)}"
    said = f"{right} right are {100 * right / n:.2f} %, {right + 1} are {100 * (right + 1) / n:.2f} %"
    several = len(counts) > 1
    usual = f" (nor on {_join([str(c) for c in counts if c != n])})" if several else ""
    return f"no single run on {each}{usual} gives {_written(claim)}: {said}"


def check_possible(claims: Sequence[Claim]) -> tuple[CardCheck, ...]:
    """Report claims that no run can give."""
    reasons = [(claim, reason) for claim in claims if (reason := impossible(claim)) is not None]
    return tuple(
        CardCheck(
            kind=CheckKind.IMPOSSIBLE,
            outcome=CheckOutcome.FAILS,
            sentence=f"{claim.title}: {reason}; it needs several runs or another set of questions, and the card names none.",
            line=_line_of(claim),
        )
        for claim, reason in reasons
    )


def check_differences(figures: Sequence[Figure], bases: Sequence[str]) -> tuple[CardCheck, ...]:
    """Report differences between the own model and its base, or each other model, that are one or two questions."""
    checks = []
    for group in _groups(figures):
        own, others = _sides(group)
        rivals = list(others) if len(others) == 1 else [s for s in others if _is_base(s, bases)]
        for subject in rivals:
            small = [
                d for key, figure in own.items() if (d := _few(figure, others[subject].get(key))) is not None
            ]
            if small:
                line = min(f.line for f in own.values())
                named = _join(small[:_MOST_NAMED])
                more = f" and {len(small) - _MOST_NAMED} more" if len(small) > _MOST_NAMED else ""
                sentence = f"Differences to {subject} of at most {_MOST_QUESTIONS} questions: {named}{more}."
                checks.append(_note(CheckKind.SMALL_DIFFERENCE, sentence, line))
    return tuple(checks)


def check_protocols(figures: Sequence[Figure], bases: Sequence[str]) -> tuple[CardCheck, ...]:
    """Report tables that compare one benchmark across protocols, and own scores whose base has none."""
    checks = []
    own_names, base_names = set(), set()
    for group in _groups(figures):
        own, others = _sides(group)
        own_names |= {f.name for f in own.values()}
        for subject, scores in others.items():
            is_base = _is_base(subject, bases)
            base_names |= {f.name for f in scores.values()} if is_base else set()
            for key, figure in own.items():
                difference = _protocol_difference(figure, scores.get(key))
                if difference is not None:
                    kind = CheckKind.BASE_PROTOCOL if is_base else CheckKind.MIXED_PROTOCOLS
                    sentence = f"{figure.name} is compared across protocols: {difference} for {subject}."
                    checks.append(
                        CardCheck(kind=kind, outcome=CheckOutcome.FAILS, sentence=sentence, line=figure.line)
                    )
                    break
    if bases and own_names and not base_names:
        sentence = (
            f"The card gives no score of its base {bases[0]}: what the change did cannot be read from it."
        )
        checks.append(_note(CheckKind.BASE_PROTOCOL, sentence, None))
    return tuple(checks)


def check_luck(figures: Sequence[Figure], bases: Sequence[str], tried: int | None) -> tuple[CardCheck, ...]:
    """Compare gains over the base with what the best of `tried` equal configurations gains by luck alone.

    The expected maximum of m normal errors is their quantile (m - 0.375) / (m + 0.25) (Blom 1958); an error is the standard error of a
    share of n questions.
    """
    if tried is None or tried < 2:
        return ()
    quantile = NormalDist().inv_cdf((tried - 0.375) / (tried + 0.25))
    checks = []
    for group in _groups(figures):
        own, others = _sides(group)
        for subject in (s for s in others if _is_base(s, bases) or len(others) == 1):
            for key, figure in own.items():
                base = others[subject].get(key)
                known = known_benchmarks().get(figure.known_as or "")
                counts = (figure.n,) if figure.n else (known.n[:1] if known is not None else ())
                if base is None or not counts or figure.unit is Unit.OWN:
                    continue
                share = min(max(base.points / 100, 0.005), 0.995)
                luck = 100 * quantile * math.sqrt(share * (1 - share) / counts[0])
                gain = figure.points - base.points
                if 0 < gain <= luck:
                    sentence = (
                        f"{figure.name}: the gain of {gain:.2f} points over {subject} is not more than luck gives: the best of {tried:,} "
                        f"configurations as good as the base scores about {luck:.1f} points above it on {counts[0]:,} questions."
                    )
                    checks.append(_note(CheckKind.LUCK, sentence, figure.line))
    return tuple(checks)


def _question_counts(claim: Claim, known: KnownBenchmark | None) -> tuple[int, ...]:
    """Numbers of questions that the score may be a share of; empty if it is no count of correct answers."""
    if not claim.in_percent or claim.benchmark is None or claim.unclear or not _is_share(claim):
        return ()
    if (
        claim.suite is None
        and claim.metric is not None
        and joined(claim.metric.partition(",")[0]) not in _COUNTING
    ):
        return ()
    if claim.n is not None:
        return (claim.n,)
    return known.n if known is not None else ()


def _is_share(claim: Claim) -> bool:
    """Whether the claim is a share of all questions: of no suite, or of a board that pools them and does not normalize."""
    if claim.suite is None:
        return True
    suite = load_suite(claim.suite)
    benchmark = suite.benchmark(claim.benchmark or "")
    whole = claim.facts.get(Fact.LIMIT) in (None, ALL_DOCUMENTS)
    pooled = benchmark.aggregation is Aggregation.POOLED and len(benchmark.metrics) == 1
    return pooled and whole and not suite.smoke


def _possible(value: float, rounding: float, n: int) -> bool:
    """Whether some number of correct answers of n gives the value, rounded or cut off."""
    if value < 0 or value > 100 + 1e-9:
        return False
    low, high = (value - rounding) * n / 100, (value + 2 * rounding) * n / 100
    return math.ceil(low - 1e-6) <= min(n, high - 1e-9 if rounding else high + 1e-6)


def _nearest(value: float, n: int) -> float:
    return 100 * round(value * n / 100) / n


def _written(claim: Claim) -> str:
    digits = max(0, round(-math.log10(2 * claim.rounding_points))) if claim.rounding_points > 0 else 2
    return f"{claim.value:.{digits}f} %"


def _line_of(claim: Claim) -> int | None:
    number = claim.source.rpartition("line ")[2]
    return int(number) if number.isascii() and number.isdecimal() and number != "0" else None


def _groups(figures: Sequence[Figure]) -> list[list[Figure]]:
    """The scores of each table or list."""
    by_group: dict[int, list[Figure]] = defaultdict(list)
    for figure in figures[:_MOST_FIGURES]:
        if figure.unit is not Unit.CHANGE and figure.error is None and figure.unclear is None:
            by_group[figure.group].append(figure)
    return list(by_group.values())


def _sides(group: Sequence[Figure]) -> tuple[dict[str, Figure], dict[str, dict[str, Figure]]]:
    """The own model's figures and those of the others, by benchmark and metric; the first of each."""
    own: dict[str, Figure] = {}
    others: dict[str, dict[str, Figure]] = defaultdict(dict)
    for figure in group:
        if not figure.is_average:
            side = own if figure.subject is None else others[figure.subject]
            side.setdefault(f"{figure.label} {figure.metric or ''}", figure)
    return own, dict(others)


def _is_base(subject: str, bases: Sequence[str]) -> bool:
    name = joined(_ASIDE.sub(" ", subject[:200]).rpartition("/")[2])
    return name == "base" or any(joined(b.rpartition("/")[2]) == name for b in bases)


def _few(figure: Figure, other: Figure | None) -> str | None:
    """A difference of one or two questions in words; None if it is larger, zero, or the number of questions is unknown."""
    known = known_benchmarks().get(figure.known_as or "")
    n = figure.n or (known.n[0] if known is not None and known.n else None)
    if other is None or n is None or figure.unit is Unit.OWN or other.unit is Unit.OWN:
        return None
    gap = abs(figure.points - other.points) * n / 100
    if not 0.5 <= gap <= _MOST_QUESTIONS + 0.5:
        return None
    count = max(1, round(gap))
    return f"{figure.name} ({count} of {n})"


def _protocol_difference(figure: Figure, other: Figure | None) -> str | None:
    if other is None:
        return None
    if figure.shots is not None and other.shots is not None and figure.shots != other.shots:
        return f"{figure.shots} few-shot examples for the card's model, {other.shots}"
    for difference in figure.facts.differences(other.facts, _PROTOCOL):
        return f"{difference.fact} {difference.left} for the card's model, {difference.right}"
    return None


def _note(kind: CheckKind, sentence: str, line: int | None) -> CardCheck:
    return CardCheck(kind=kind, outcome=CheckOutcome.NOTE, sentence=sentence, line=line)


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
