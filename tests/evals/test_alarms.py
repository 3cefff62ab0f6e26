"""Alarms on unhealthy sets of answers, and none on healthy ones."""

from __future__ import annotations

import math
import random

import pytest

from evals.alarms import find_alarms, is_repetitive
from evals.scores import AlarmKind, Sample
from evals.suite import Benchmark, load_suite

WORDS = [
    "the",
    "a",
    "dog",
    "cat",
    "runs",
    "sleeps",
    "in",
    "house",
    "garden",
    "quickly",
    "never",
    "because",
    "rain",
]


def math_benchmark() -> Benchmark:
    return load_suite("leaderboard-v2").benchmark("math")


def prose(seed: int, n: int = 120) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) + str(rng.randrange(100)) for _ in range(n))


def written(response: str, doc_id: int, *, truncated: bool = False, extracted: str | None = "1") -> Sample:
    return Sample(
        benchmark="math",
        subset="t",
        doc_id=doc_id,
        doc_hash=str(doc_id),
        prompt_hash=str(doc_id),
        target="1",
        response=response,
        extracted=extracted,
        truncated=truncated,
        metrics={"exact_match": 0.0},
        correct=0.0,
    )


def chosen(logprobs: tuple[float, ...], doc_id: int) -> Sample:
    choices = tuple("ABCD")[: len(logprobs)]
    return written("A", doc_id).model_copy(update={"choices": choices, "logprobs": logprobs})


def kinds(benchmark: Benchmark, samples: list[Sample]) -> set[AlarmKind]:
    return {alarm.kind for alarm in find_alarms(benchmark, samples)}


def test_healthy_answers_raise_none() -> None:
    assert kinds(math_benchmark(), [written(prose(i), i) for i in range(20)]) == set()
    mmlu = load_suite("leaderboard-v2").benchmark("mmlu-pro")
    assert kinds(mmlu, [chosen((-0.1 - i, -2.0), i) for i in range(20)]) == set()


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (AlarmKind.EMPTY, {"response": " \n", "extracted": "1"}),
        (AlarmKind.TRUNCATED, {"truncated": True}),
        (AlarmKind.UNPARSED, {"extracted": None}),
        (AlarmKind.REPETITIVE, {"response": "and so on " * 100}),
        (AlarmKind.IDENTICAL, {"response": "The answer is 1."}),
    ],
)
def test_each_kind_is_raised_above_its_threshold_alone(kind: AlarmKind, bad: dict[str, object]) -> None:
    samples = [written(prose(i), i) for i in range(100)]
    spoilt = [s.model_copy(update=bad) for s in samples]
    if kind is AlarmKind.REPETITIVE:
        spoilt = [s.model_copy(update={"response": f"{s.doc_id} {s.response}"}) for s in spoilt]
    (alarm,) = find_alarms(math_benchmark(), spoilt)
    assert (alarm.kind, alarm.share) == (kind, 1.0)
    at = round(alarm.threshold * 100)
    assert kinds(math_benchmark(), spoilt[:at] + samples[at:]) == set()
    assert kinds(math_benchmark(), spoilt[: at + 2] + samples[at + 2 :]) == {kind}


def test_benchmarks_that_extract_nothing_are_never_unparsed() -> None:
    ifeval = load_suite("leaderboard-v2").benchmark("ifeval")
    assert kinds(ifeval, [written(prose(i), i, extracted=None) for i in range(20)]) == set()


def test_a_model_that_does_not_see_the_question() -> None:
    bbh = load_suite("leaderboard-v2").benchmark("bbh")
    assert kinds(bbh, [chosen((-1.0, -2.0), i) for i in range(20)]) == {AlarmKind.IDENTICAL}
    assert kinds(bbh, [chosen((math.nan, -float(i)), i) for i in range(20)]) == {AlarmKind.EMPTY}


def test_a_few_samples_say_nothing() -> None:
    assert kinds(math_benchmark(), [written("", i) for i in range(4)]) == set()


def test_repetition() -> None:
    assert not is_repetitive("short short short")
    assert not is_repetitive(prose(1, 400))
    assert is_repetitive("The answer is 42. " * 60)
