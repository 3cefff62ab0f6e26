"""Whether continuations are greedy, told from a few log-probabilities and as few questions as possible."""

from __future__ import annotations

import math
import random

import pytest

from evals.vllm.greedy import MARGIN, GreedyRow, RowScores

CONTEXT = (9, 9)


class Language:
    """A distribution over the next of a few tokens for every sequence."""

    def __init__(self, seed: int, tokens: int) -> None:
        self._seed, self._tokens = seed, tokens

    def logprobs(self, row: GreedyRow) -> list[float]:
        rng = random.Random(f"{self._seed}{row}")
        weights = [rng.expovariate(1.0) ** rng.choice((1, 4)) for _ in range(self._tokens)]
        return [math.log(weight / sum(weights)) for weight in weights]

    def likeliest(self, row: GreedyRow) -> int:
        values = self.logprobs(row)
        return values.index(max(values))

    def is_greedy(self, continuation: tuple[int, ...]) -> bool:
        rows = (GreedyRow(CONTEXT, continuation[:n]) for n in range(len(continuation)))
        return all(self.likeliest(row) == token for row, token in zip(rows, continuation, strict=True))


def answered(language: Language, choices: list[tuple[int, ...]], noise: float) -> tuple[list[bool], int]:
    """Every choice's answer, and how many rows had to be asked; every pass rounds in its own way."""
    rng = random.Random(0)
    scores = RowScores()
    for choice in choices:
        rows = (GreedyRow(CONTEXT, choice[:n]) for n in range(len(choice)))
        exact = [language.logprobs(row)[token] for row, token in zip(rows, choice, strict=True)]
        scores.add_logprobs(CONTEXT, choice, [value + rng.uniform(-noise, noise) for value in exact])
    answers, asked = [], 0
    for choice in choices:
        while isinstance(answer := scores.is_greedy(CONTEXT, choice), GreedyRow):
            scores.add_likeliest(answer, language.likeliest(answer))
            asked += 1
        answers.append(answer)
    return answers, asked


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("noise", [0.0, MARGIN / 2])
def test_answers_are_those_of_the_whole_distribution(seed: int, noise: float) -> None:
    rng = random.Random(seed)
    language = Language(seed, tokens=4)
    choices = [tuple(rng.randrange(4) for _ in range(rng.randrange(1, 5))) for _ in range(6)]
    choices.append(())
    while len(choices[-1]) < 4:  # what greedy decoding gives
        choices[-1] += (language.likeliest(GreedyRow(CONTEXT, choices[-1])),)
    answers, asked = answered(language, choices, noise)
    assert answers == [language.is_greedy(choice) for choice in choices]
    assert asked <= len({choice[:n] for choice in choices for n in range(len(choice))})


def test_only_what_is_open_is_asked() -> None:
    scores = RowScores()
    scores.add_logprobs(CONTEXT, (1, 2), [math.log(0.6), math.log(0.7)])
    scores.add_logprobs(CONTEXT, (3, 2), [math.log(0.2), math.log(0.9)])
    assert scores.is_greedy(CONTEXT, (1, 2)) is True
    assert scores.is_greedy(CONTEXT, (3, 2)) is False
    scores.add_logprobs(CONTEXT, (1, 4), [math.log(0.6), math.log(0.2)])
    assert scores.is_greedy(CONTEXT, (1, 4)) is False
    scores.add_logprobs((8,), (1, 4), [math.log(0.3), math.log(0.4)])
    assert scores.is_greedy((8,), (1, 4)) == GreedyRow((8,), ())
    scores.add_likeliest(GreedyRow((8,), ()), 1)
    assert scores.is_greedy((8,), (1, 4)) == GreedyRow((8,), (1,))


def test_values_that_are_no_numbers_are_asked() -> None:
    scores = RowScores()
    scores.add_logprobs(CONTEXT, (1,), [math.nan])
    assert scores.is_greedy(CONTEXT, (1,)) == GreedyRow(CONTEXT, ())
