"""Questions with a few answers to choose from; shared by the probes that are made of them.

Written: the choice that a reply names. Scored: the probability of the right choice among the choices, behind the
beginning of a sentence that any of them can end. There is no published scoring for these.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence

from pydantic import Field, model_validator

from evals.engine import Frozen, GenerateResult, ScoreResult
from evals.probes.arithmetic_scoring import shares, without_thinking
from evals.probes.probe import Probe, Result, certain, spread, written
from evals.probes.prompts import Ask, Example
from evals.probes.results import Form, ItemResult, LevelKind, ProbeError, Scoring

_RANDOM_RUNS = 200
_LEAST = 1e-9


class ChoiceItem(Frozen):
    """A question, the choices and the right one."""

    question: str = Field(description="The question, without its choices.")
    stem: str = Field(description="The beginning of a sentence that every choice can end.")
    choices: tuple[str, ...] = Field(
        min_length=2, description="The choices, in the order in which they are offered."
    )
    answer: int = Field(ge=0, description="Number of the right choice.")

    @model_validator(mode="after")
    def _check(self) -> ChoiceItem:
        if self.answer >= len(self.choices) or len(set(self.choices)) < len(self.choices):
            raise ProbeError(
                f"The choices of {self.question!r} do not fit its answer: name each choice once."
            )
        return self

    @property
    def right(self) -> str:
        """The right choice."""
        return self.choices[self.answer]

    def example(self, form: Form) -> Example:
        """This question, shown with its answer."""
        if form is Form.GENERATED:
            return Example(question=offered(self), answer=self.right)
        return Example(question=self.question, answer=f"{self.stem} {self.right}.")


def offered(item: ChoiceItem) -> str:
    """The question with its choices."""
    listed = ", ".join(item.choices[:-1]) + f" or {item.choices[-1]}"
    return f"{item.question} Answer with one of: {listed}."


def chosen(text: str, choices: Sequence[str]) -> str | None:
    """The choice that a reply names: in its first line that names any, the only one or else the last one."""
    wanted = {choice.lower(): choice for choice in choices}
    longest_first = sorted(map(re.escape, wanted), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)({'|'.join(longest_first)})(?!\w)", re.IGNORECASE)
    for line in without_thinking(text).splitlines():
        found = pattern.findall(line)
        if found:
            return wanted[found[-1].lower()]
    return None


class ChoiceProbe(Probe[ChoiceItem]):
    """Questions with choices."""

    @property
    def scorings(self) -> tuple[Scoring, ...]:
        """Only the project's own: nobody published one."""
        return (Scoring.CORRECTED,)

    def asks(self, item: ChoiceItem) -> tuple[Ask, ...]:
        """One question: with the choices to write one, or with a stem to end."""
        if self.form is Form.GENERATED:
            return (Ask(question=offered(item)),)
        options = tuple(f" {choice}" for choice in item.choices)
        return (Ask(question=item.question, lead=f" {item.stem}", options=options),)

    def calibrated(self, results: Sequence[Result]) -> Sequence[Result]:
        """Where all items have the same choices: each choice's probability over its mean in all items.

        A model that likes one word more than the others, whatever the question, neither gains nor loses by it.
        """
        scored = [result for result in results if isinstance(result, ScoreResult)]
        if len(scored) < len(results) or len({item.choices for item in self.items}) > 1:
            return results
        rows = [shares(result.logprobs) for result in scored]
        means = [math.fsum(column) / len(rows) for column in zip(*(p for p, _ in rows), strict=True)]
        return tuple(
            result.model_copy(update={"logprobs": _over(row, mass, means)})
            for result, (row, mass) in zip(scored, rows, strict=True)
        )

    def score_item(self, index: int, item: ChoiceItem, answers: Sequence[Result]) -> ItemResult:
        """1 for the right choice, or its probability among the choices."""
        answer, mass = answers[0], None
        if isinstance(answer, GenerateResult):
            response = answer.text
            found = chosen(answer.text, item.choices)
            credit = float(found == item.right)
        else:
            probabilities, mass = shares(answer.logprobs)
            found = item.choices[max(range(len(probabilities)), key=probabilities.__getitem__)]
            response = " ".join(f"{c} {p:.3f}" for c, p in zip(item.choices, probabilities, strict=True))
            credit = probabilities[item.answer]
        return ItemResult(
            item=index,
            target=item.right,
            response=response,
            extracted=found,
            published=None,
            corrected=credit,
            answer_mass=mass,
        )

    def level_answers(self, kind: LevelKind) -> Iterator[tuple[Result, ...]]:
        """Any choice; the same place or the same word every time; the question; the right choice."""
        if kind is LevelKind.RANDOM:
            yield from self._random_answers()
        elif kind is LevelKind.CONSTANT:
            for place in range(max(len(item.choices) for item in self.items)):
                yield self._places(functools.partial(_at, place))
            for word in sorted({choice for item in self.items for choice in item.choices}):
                yield self._places(functools.partial(_word, word))
            yield self._places(_first_mentioned)
            yield self._places(_last_mentioned)
        elif kind is LevelKind.ECHO and self.form is Form.GENERATED:
            yield written([offered(item) for item in self.items])
        elif kind is LevelKind.ECHO:
            yield self._places(_last_mentioned)
        else:
            yield self._places(lambda item: item.answer)

    def _random_answers(self) -> Iterator[tuple[Result, ...]]:
        if self.form is Form.SCORED:
            yield tuple(spread([1 / len(item.choices)] * len(item.choices)) for item in self.items)
            return
        rng = random.Random(0)
        for _ in range(_RANDOM_RUNS):
            yield self._places(lambda item: rng.randrange(len(item.choices)))

    def _places(self, place: Callable[[ChoiceItem], int]) -> tuple[Result, ...]:
        if self.form is Form.GENERATED:
            return written([item.choices[place(item)] for item in self.items])
        return tuple(certain(len(item.choices), place(item)) for item in self.items)


def _over(row: Sequence[float], mass: float, means: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities that are a row over the means of all rows; their sum stays what it was."""
    weights = [(p + _LEAST) / (mean + _LEAST) for p, mean in zip(row, means, strict=True)]
    total = math.fsum(weights)
    return tuple(math.log(max(mass, _LEAST) * w / total) for w in weights)


def _at(place: int, item: ChoiceItem) -> int:
    return min(place, len(item.choices) - 1)


def _word(word: str, item: ChoiceItem) -> int:
    return item.choices.index(word) if word in item.choices else 0


def _first_mentioned(item: ChoiceItem) -> int:
    return min((item.question.lower().find(choice.lower()), n) for n, choice in enumerate(item.choices))[1]


def _last_mentioned(item: ChoiceItem) -> int:
    return max((item.question.lower().rfind(choice.lower()), n) for n, choice in enumerate(item.choices))[1]
