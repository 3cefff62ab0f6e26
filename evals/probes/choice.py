"""Multiple-choice probes.

Generated form: the choice that a reply names. Scored form: the probability of the correct choice among the choices,
after the beginning of a sentence that each can complete. There is no published scoring.
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
    """A question, the choices and the correct one."""

    question: str = Field(description="The question, without its choices.")
    stem: str = Field(description="The beginning of a sentence that every choice can complete.")
    choices: tuple[str, ...] = Field(min_length=2, description="The choices, in the order of the question.")
    answer: int = Field(ge=0, description="Index of the correct choice.")

    @model_validator(mode="after")
    def _check(self) -> ChoiceItem:
        if self.answer >= len(self.choices) or len(set(self.choices)) < len(self.choices):
            raise ProbeError(
                f"The choices of {self.question!r} do not fit its answer: list each choice once."
            )
        return self

    @property
    def correct(self) -> str:
        """The correct choice."""
        return self.choices[self.answer]

    def example(self, form: Form) -> Example:
        """This question with its answer, as a few-shot example."""
        if form is Form.GENERATED:
            return Example(question=question_with_choices(self), answer=self.correct)
        return Example(question=self.question, answer=f"{self.stem} {self.correct}.")


def question_with_choices(item: ChoiceItem) -> str:
    """The question with its choices."""
    listed = ", ".join(item.choices[:-1]) + f" or {item.choices[-1]}"
    return f"{item.question} Answer with one of: {listed}."


def named_choice(text: str, choices: Sequence[str]) -> str | None:
    """The last choice named in the first line that names one; None if no line does."""
    by_lower_name = {choice.lower(): choice for choice in choices}
    longest_first = sorted(map(re.escape, by_lower_name), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)({'|'.join(longest_first)})(?!\w)", re.IGNORECASE)
    for line in without_thinking(text).splitlines():
        names = pattern.findall(line)
        if names:
            return by_lower_name[names[-1].lower()]
    return None


class ChoiceProbe(Probe[ChoiceItem]):
    """Questions with choices."""

    @property
    def scorings(self) -> tuple[Scoring, ...]:
        """Only the corrected scoring; there is no published one."""
        return (Scoring.CORRECTED,)

    def asks(self, item: ChoiceItem) -> tuple[Ask, ...]:
        """One question: with the choices in the generated form, or with a stem to complete in the scored form."""
        if self.form is Form.GENERATED:
            return (Ask(question=question_with_choices(item)),)
        options = tuple(f" {choice}" for choice in item.choices)
        return (Ask(question=item.question, lead=f" {item.stem}", options=options),)

    def calibrated(self, results: Sequence[Result]) -> Sequence[Result]:
        """If all items have the same choices: each choice's probability divided by its mean over all items.

        This removes a model's preference for a word that does not depend on the question.
        """
        scored = [result for result in results if isinstance(result, ScoreResult)]
        if len(scored) < len(results) or len({item.choices for item in self.items}) > 1:
            return results
        rows = [shares(result.logprobs) for result in scored]
        means = [math.fsum(column) / len(rows) for column in zip(*(p for p, _ in rows), strict=True)]
        return tuple(
            result.model_copy(update={"logprobs": _divide_by_means(row, mass, means)})
            for result, (row, mass) in zip(scored, rows, strict=True)
        )

    def score_item(self, index: int, item: ChoiceItem, answers: Sequence[Result]) -> ItemResult:
        """1 for the correct choice, or its probability among the choices."""
        answer, mass = answers[0], None
        if isinstance(answer, GenerateResult):
            response = answer.text
            choice = named_choice(answer.text, item.choices)
            credit = float(choice == item.correct)
        else:
            probabilities, mass = shares(answer.logprobs)
            choice = item.choices[max(range(len(probabilities)), key=probabilities.__getitem__)]
            response = " ".join(f"{c} {p:.3f}" for c, p in zip(item.choices, probabilities, strict=True))
            credit = probabilities[item.answer]
        return ItemResult(
            item=index,
            target=item.correct,
            response=response,
            extracted=choice,
            published=None,
            corrected=credit,
            answer_mass=mass,
        )

    def level_answers(self, kind: LevelKind) -> Iterator[tuple[Result, ...]]:
        """A random choice; the same position or word every time; the question; the correct choice."""
        if kind is LevelKind.RANDOM:
            yield from self._random_answers()
        elif kind is LevelKind.CONSTANT:
            for place in range(max(len(item.choices) for item in self.items)):
                yield self._choice_answers(functools.partial(_clamp_position, place))
            for word in sorted({choice for item in self.items for choice in item.choices}):
                yield self._choice_answers(functools.partial(_position_of_word, word))
            yield self._choice_answers(_first_mentioned)
            yield self._choice_answers(_last_mentioned)
        elif kind is LevelKind.ECHO and self.form is Form.GENERATED:
            yield written([question_with_choices(item) for item in self.items])
        elif kind is LevelKind.ECHO:
            yield self._choice_answers(_last_mentioned)
        else:
            yield self._choice_answers(lambda item: item.answer)

    def _random_answers(self) -> Iterator[tuple[Result, ...]]:
        if self.form is Form.SCORED:
            yield tuple(spread([1 / len(item.choices)] * len(item.choices)) for item in self.items)
            return
        rng = random.Random(0)
        for _ in range(_RANDOM_RUNS):
            yield self._choice_answers(lambda item: rng.randrange(len(item.choices)))

    def _choice_answers(self, place: Callable[[ChoiceItem], int]) -> tuple[Result, ...]:
        if self.form is Form.GENERATED:
            return written([item.choices[place(item)] for item in self.items])
        return tuple(certain(len(item.choices), place(item)) for item in self.items)


def _divide_by_means(row: Sequence[float], mass: float, means: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities of a row divided by the means of all rows, with the same total probability."""
    weights = [(p + _LEAST) / (mean + _LEAST) for p, mean in zip(row, means, strict=True)]
    total = math.fsum(weights)
    return tuple(math.log(max(mass, _LEAST) * w / total) for w in weights)


def _clamp_position(place: int, item: ChoiceItem) -> int:
    return min(place, len(item.choices) - 1)


def _position_of_word(word: str, item: ChoiceItem) -> int:
    return item.choices.index(word) if word in item.choices else 0


def _first_mentioned(item: ChoiceItem) -> int:
    return min((item.question.lower().find(choice.lower()), n) for n, choice in enumerate(item.choices))[1]


def _last_mentioned(item: ChoiceItem) -> int:
    return max((item.question.lower().rfind(choice.lower()), n) for n, choice in enumerate(item.choices))[1]
