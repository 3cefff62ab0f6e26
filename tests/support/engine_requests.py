"""Requests that the engines' tests share, and how results are compared."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evals.engine import (
    Engine,
    EngineKind,
    EngineSpec,
    EngineTuning,
    GenerateRequest,
    GenerateResult,
    PathEngine,
    ScoreRequest,
    ScoreResult,
)
from evals.engines import installed_version, open_engine

TOLERANCE = 1e-3
LAYERS = 6
PATHS: tuple[tuple[int, ...], ...] = (
    (0, 1, 2, 3, 4, 5),
    (0, 1, 2, 1, 2, 3, 4, 5),
    (0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5),
    (0, 1, 2, 3, 4, 2, 3, 4, 5),
    (0, 0, 0, 1, 2, 3, 4, 5),
    (0, 2, 3, 5),
    (4,),
    (5, 1, 3, 0),
)
"""The checkpoint, blocks, a repeat, skips, one layer, and an arbitrary list."""


@contextmanager
def opened(
    kind: EngineKind, checkpoint: Path, tuning: EngineTuning | None = None, **spec: object
) -> Iterator[PathEngine]:
    """A float32 engine that is closed afterwards."""
    fields = {"kind": kind, "version": installed_version(kind), "dtype": "float32", **spec}
    engine = open_engine(EngineSpec.model_validate(fields), checkpoint, tuning or EngineTuning(threads=1))
    try:
        yield engine
    finally:
        engine.close()


def random_requests(seed: int, *, vocabulary: int, count: int = 12, longest: int = 90) -> list[ScoreRequest]:
    """Questions with shared prefixes of every kind: few-shot heads, one context in another, equal contexts, one-token and
    equal choices."""
    rng = random.Random(seed)
    # Bytes that are no text of their own are left out: what follows them has no one spelling.
    letters = [3 + code - 33 for code in range(33, 127)]
    assert max(letters) < vocabulary

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(rng.choice(letters) for _ in range(n))

    heads = [tokens(rng.randrange(30, longest)) for _ in range(2)]
    requests: list[ScoreRequest] = []
    for number in range(count):
        context = heads[number % 2][: rng.choice((1, 31, 32, 33, longest))] + tokens(rng.randrange(0, 20))
        if number % 4 == 3:
            context = requests[-1].context + requests[-1].continuations[0][: rng.randrange(3)]
        stem = tokens(1)
        long = rng.random() < 0.7
        choices = [
            stem + tokens(rng.randrange(1, 4)) if long else tokens(1) for _ in range(rng.randrange(1, 6))
        ]
        choices += [choices[0], choices[0][:1]]
        requests.append(ScoreRequest(context=context, continuations=tuple(choices)))
    return requests


def prompts_of(requests: list[ScoreRequest], new: int = 12) -> list[GenerateRequest]:
    """The contexts as prompts, some of them equal and some beginning with another."""
    return [
        GenerateRequest(prompt=r.context, max_new_tokens=new + number % 2)
        for number, r in enumerate(requests)
    ]


def scored(engine: Engine, requests: list[ScoreRequest]) -> list[ScoreResult]:
    """Results in order; every request is answered once."""
    results = list(engine.score(requests))
    assert sorted(index for index, _ in results) == list(range(len(requests)))
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def generated(engine: Engine, requests: list[GenerateRequest]) -> list[GenerateResult]:
    """Results in order; every request is answered once."""
    results = list(engine.generate(requests))
    assert sorted(index for index, _ in results) == list(range(len(requests)))
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def largest_difference(a: list[ScoreResult], b: list[ScoreResult]) -> float:
    """Between two engines' log-probabilities."""
    return max(
        abs(x - y)
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one.logprobs, other.logprobs, strict=True)
    )


def check_wanted(engine: Engine, requests: list[ScoreRequest]) -> None:
    """What is not wanted gets no answer, what is wanted gets the same one; scores are begun in the order of their contexts."""
    asked: list[int] = []

    def accepts(index: int) -> bool:
        asked.append(index)
        return index % 3 == 0

    third = list(range(0, len(requests), 3))
    everything = scored(engine, requests)
    found = dict(engine.score(requests, accepts))
    assert sorted(found) == third
    assert largest_difference([found[i] for i in third], [everything[i] for i in third]) < TOLERANCE
    contexts = [requests[index].context for index in dict.fromkeys(asked)]
    assert contexts == sorted(contexts)
    assert len(contexts) == len(requests)
    prompts = prompts_of(requests)
    texts = generated(engine, prompts)
    assert dict(engine.generate(prompts, accepts)) == {i: texts[i] for i in third}
