"""Arithmetic with partial credit, at three difficulties, from seeded generators.

easy        sums of two-digit numbers, two digits times one, square roots of small squares
medium      sums and differences of three digits, two digits times two, cube roots and larger square roots
published   the published form and length: roots of 16 to 21 digits, products of two 14-digit numbers, roots
            times or divided by a small number; whole numbers without commas or comment

Search set, confirmation set and examples never share a question: each has its own seed, and duplicates are skipped.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence

from pydantic import Field

from evals.engine import Frozen, GenerateResult, ScoreResult
from evals.probes.arithmetic_scoring import (
    corrected_answer,
    corrected_credit,
    expected_corrected,
    expected_published,
    published_reply,
    shares,
)
from evals.probes.probe import Probe, Result, certain, spread, written
from evals.probes.prompts import Ask, Example, Style
from evals.probes.results import Difficulty, Family, Form, ItemResult, LevelKind, ProbeError, Split

DIGITS = tuple("0123456789")
_SEEDS = {Split.SEARCH: 1, Split.CONFIRMATION: 2}
_EXAMPLES_SEED = 3
_SIZES = {
    Difficulty.EASY: {Split.SEARCH: 32, Split.CONFIRMATION: 96},
    Difficulty.MEDIUM: {Split.SEARCH: 32, Split.CONFIRMATION: 96},
    Difficulty.PUBLISHED: {Split.SEARCH: 16, Split.CONFIRMATION: 48},
}
_SYSTEM = (
    "You have a strong sense for numbers. You always answer, with your best guess where you are not sure."
)


class ArithmeticItem(Frozen):
    """A question with a whole number as its answer."""

    question: str = Field(description="The question.")
    answer: int = Field(ge=1, description="The correct answer.")


class ArithmeticProbe(Probe[ArithmeticItem]):
    """Generated form: the number in a reply. Scored form: the probability of each digit, given the correct ones before it."""

    scored_digits: int = Field(
        default=8, ge=1, description="Number of leading digits of an answer that a scored form asks for."
    )

    def asks(self, item: ArithmeticItem) -> tuple[Ask, ...]:
        """One question in the generated form, or one per digit of the answer in the scored form."""
        if self.form is Form.GENERATED:
            return (Ask(question=item.question),)
        text = str(item.answer)
        return tuple(
            Ask(question=item.question, lead=" " + text[:k], options=DIGITS)
            for k in range(self._n_scored_digits(item))
        )

    def _n_scored_digits(self, item: ArithmeticItem) -> int:
        """Number of the answer's digits that a scored form asks for."""
        return min(len(str(item.answer)), self.scored_digits)

    def score_item(self, index: int, item: ArithmeticItem, answers: Sequence[Result]) -> ItemResult:
        """Credit of the number in the reply, or expected credit over the digits' probabilities."""
        first = answers[0]
        if isinstance(first, GenerateResult):
            guess = corrected_answer(first.text)
            return ItemResult(
                item=index,
                target=str(item.answer),
                response=first.text,
                extracted=None if guess is None else str(guess),
                published=published_reply(item.answer, first.text)[1],
                corrected=corrected_credit(item.answer, guess),
            )
        scored = [shares(answer.logprobs) for answer in answers if isinstance(answer, ScoreResult)]
        digits = [probabilities for probabilities, _ in scored]
        best = "".join(str(max(range(10), key=p.__getitem__)) for p in digits)
        digit_probabilities = (p[int(d)] for d, p in zip(str(item.answer), digits, strict=False))
        return ItemResult(
            item=index,
            target=str(item.answer),
            response=" ".join(f"{p:.3f}" for p in digit_probabilities),
            extracted=best,
            published=expected_published(item.answer, digits),
            corrected=expected_corrected(item.answer, digits),
            answer_mass=math.fsum(mass for _, mass in scored) / len(scored),
        )

    def level_answers(self, kind: LevelKind) -> Iterator[tuple[Result, ...]]:
        """Random digits of the correct length, the same leading digits for every item, the question, the answer."""
        if kind is LevelKind.RANDOM:
            yield from self._random_answers()
        elif kind is LevelKind.CONSTANT:
            for lead in range(10, 100):
                yield self._number_answers(functools.partial(_constant_number, str(lead)))
        elif kind is LevelKind.ECHO and self.form is Form.GENERATED:
            yield written([item.question for item in self.items])
        elif kind is LevelKind.ECHO:
            yield self._number_answers(
                lambda item: _pad_number(_first_number(item.question), item.answer, "0")
            )
        else:
            yield self._number_answers(lambda item: str(item.answer))

    def _random_answers(self) -> Iterator[tuple[Result, ...]]:
        if self.form is Form.SCORED:
            yield tuple(spread([0.1] * 10) for item in self.items for _ in range(self._n_scored_digits(item)))
            return
        rng = random.Random(0)
        for _ in range(200):
            yield self._number_answers(lambda item: _random_number(rng, len(str(item.answer))))

    def _number_answers(self, number: Callable[[ArithmeticItem], str]) -> tuple[Result, ...]:
        texts = [number(item) for item in self.items]
        if self.form is Form.GENERATED:
            return written(texts)
        return tuple(certain(10, int(digit)) for text in texts for digit in text[: self.scored_digits])


def _constant_number(lead: str, item: ArithmeticItem) -> str:
    return _pad_number(lead, item.answer, "5")


def _pad_number(lead: str, answer: int, fill: str) -> str:
    length = len(str(answer))
    return lead[:length].ljust(length, fill)


def _first_number(question: str) -> str:
    words = ("".join(c for c in word if c.isdigit()) for word in question.split())
    return next(word for word in words if word)


def _random_number(rng: random.Random, length: int) -> str:
    return str(rng.randrange(10 ** (length - 1), 10**length))


# --- questions ------------------------------------------------------------------------------------------------------


def _sum(rng: random.Random, low: int, high: int) -> ArithmeticItem:
    a, b = rng.randrange(low, high), rng.randrange(low, high)
    return ArithmeticItem(question=f"What is {a} + {b}?", answer=a + b)


def _difference(rng: random.Random, low: int, high: int) -> ArithmeticItem:
    a, b = sorted((rng.randrange(low, high), rng.randrange(low, high)))
    return ArithmeticItem(question=f"What is {b + low} - {a}?", answer=b + low - a)


def _product(rng: random.Random, first: tuple[int, int], second: tuple[int, int]) -> ArithmeticItem:
    a, b = rng.randrange(*first), rng.randrange(*second)
    return ArithmeticItem(question=f"What is {a} times {b}?", answer=a * b)


def _perfect_root(rng: random.Random, power: int, low: int, high: int) -> ArithmeticItem:
    a = rng.randrange(low, high)
    return ArithmeticItem(question=f"What is the {_ROOTS[power]} of {a**power}?", answer=a)


def _easy(rng: random.Random, n: int) -> ArithmeticItem:
    return (
        _sum(rng, 11, 100),
        _product(rng, (11, 100), (3, 10)),
        _sum(rng, 11, 100),
        _perfect_root(rng, 2, 4, 60),
    )[n % 4]


def _medium(rng: random.Random, n: int) -> ArithmeticItem:
    return (
        _sum(rng, 111, 1000),
        _product(rng, (11, 100), (11, 100)),
        _difference(rng, 111, 500),
        _perfect_root(rng, 3, 4, 100) if n % 8 == 3 else _perfect_root(rng, 2, 60, 400),
    )[n % 4]


_ROOTS = {2: "square root", 3: "cube root"}
_EXACT = "Cut the result down to a whole number and write its digits only: no commas, no scientific notation, no words."


def _long_root(rng: random.Random, power: int, low: int, high: int) -> ArithmeticItem:
    digits = rng.randrange(low, high)
    value = rng.randrange(10**digits, 10 ** (digits + 1))
    return ArithmeticItem(
        question=f"What is the {_ROOTS[power]} of {value}? {_EXACT}", answer=_root(value, power)
    )


def _scaled_root(rng: random.Random, times: bool) -> ArithmeticItem:
    value, factor = rng.randrange(10**15, 10**17), rng.randrange(3, 20)
    how = "times" if times else "divided by"
    # Exact: floor(f * sqrt(v)) = isqrt(f^2 v), floor(sqrt(v) / f) = isqrt(v) // f.
    answer = math.isqrt(value * factor**2) if times else math.isqrt(value) // factor
    return ArithmeticItem(
        question=f"What is the square root of {value}, {how} {factor}? {_EXACT}", answer=answer
    )


def _long_product(rng: random.Random) -> ArithmeticItem:
    a, b = rng.randrange(10**13, 10**14), rng.randrange(10**13, 10**14)
    return ArithmeticItem(question=f"What is {a} times {b}? {_EXACT}", answer=a * b)


def _published(rng: random.Random, n: int) -> ArithmeticItem:
    return (
        _long_root(rng, 2, 15, 18),
        _long_product(rng),
        _long_root(rng, 3, 18, 21),
        _long_root(rng, 2, 15, 18) if n % 8 == 3 else _scaled_root(rng, times=n % 16 == 7),
    )[n % 4]


def _root(value: int, power: int) -> int:
    """The integer part of a root, exact."""
    if power == 2:
        return math.isqrt(value)
    low, high = 0, 1 << (value.bit_length() // power + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**power <= value else (low, middle - 1)
    return low


_GENERATORS = {Difficulty.EASY: _easy, Difficulty.MEDIUM: _medium, Difficulty.PUBLISHED: _published}
DIFFICULTIES = tuple(_GENERATORS)


@functools.cache
def _sets(difficulty: Difficulty) -> dict[Split | None, tuple[ArithmeticItem, ...]]:
    """Examples (under None), search set and confirmation set; no question occurs twice."""
    make = _GENERATORS[difficulty]
    questions: set[str] = set()
    sets: dict[Split | None, tuple[ArithmeticItem, ...]] = {}
    plan: list[tuple[Split | None, int, int]] = [
        (None, _EXAMPLES_SEED, 4),
        *((s, _SEEDS[s], _SIZES[difficulty][s]) for s in Split),
    ]
    for split, seed, size in plan:
        rng = random.Random(f"arithmetic {difficulty} {seed}")
        items: list[ArithmeticItem] = []
        while len(items) < size:
            item = make(rng, len(items))
            if item.question not in questions:
                questions.add(item.question)
                items.append(item)
        sets[split] = tuple(items)
    return sets


def arithmetic_probe(difficulty: Difficulty, form: Form, split: Split) -> ArithmeticProbe:
    """An arithmetic probe; ProbeError for a difficulty without one."""
    if difficulty not in _GENERATORS:
        raise ProbeError(f"There is no {difficulty} arithmetic: choose one of {', '.join(_GENERATORS)}.")
    sets = _sets(difficulty)
    published = difficulty is Difficulty.PUBLISHED
    if published and form is Form.GENERATED:
        style = Style(system=_SYSTEM, question_label="/no_think ", answer_label="")
    else:
        shown = tuple(Example(question=item.question, answer=str(item.answer)) for item in sets[None])
        style = Style(examples=shown)
    return ArithmeticProbe(
        family=Family.ARITHMETIC,
        difficulty=difficulty,
        form=form,
        split=split,
        style=style,
        items=sets[split],
        max_new_tokens=64 if published else 16,
    )
