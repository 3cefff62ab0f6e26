"""What an engine answers; called in a process of its own (`v2.call`) and compared by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evals.engine import EngineKind, EngineTuning, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from evals.errors import EngineError
from evals.vllm.engine import VllmEngine
from tests.gpu_runner.v2 import Runner
from tests.support.engine_requests import LAYERS, generated, opened, prompts_of, random_requests, scored
from tests.support.tiny_checkpoints import VOCABULARY

LayerPath = tuple[int, ...]

PATHS: tuple[LayerPath | None, ...] = (
    None,
    (0, 1, 2, 1, 2, 3, 4, 5),
    (0, 2, 3, 5),
    (5, 1, 3, 0),
)
"""The checkpoint as it is, a repeated block, skips, and another order."""

REQUESTS = random_requests(0, vocabulary=VOCABULARY)
STOPS = ((), ("e",), ("\n\n", " t", "qu"))


def texts_asked() -> list[GenerateRequest]:
    """Prompts that share prefixes, with and without stop strings."""
    plain = prompts_of(REQUESTS)
    return [p.model_copy(update={"stop": STOPS[n % len(STOPS)]}) for n, p in enumerate(plain)]


@dataclass(frozen=True)
class Written:
    """A generated text with its tokens."""

    result: GenerateResult
    tokens: tuple[int, ...]


@dataclass
class Answers:
    """Of one engine, by the number of the path in PATHS; `outside` is what does not go through vLLM's scheduler."""

    runner: Runner
    named_rows: bool
    scores: dict[int, list[ScoreResult]] = field(default_factory=dict)
    texts: dict[int, list[Written]] = field(default_factory=dict)
    outside_scores: dict[int, list[ScoreResult]] = field(default_factory=dict)
    outside_texts: dict[int, list[GenerateResult]] = field(default_factory=dict)


@contextmanager
def engine_on(
    checkpoint: Path, tensor_parallel: int = 1, kv_cache_gib: float = 0.0625, **spec: object
) -> Iterator[VllmEngine]:
    """A float32 engine with slots for paths twice as long as the checkpoint."""
    tuning = EngineTuning(threads=1, extra_layer_slots=LAYERS, kv_cache_gib=kv_cache_gib)
    with opened(EngineKind.VLLM, checkpoint, tuning, tensor_parallel=tensor_parallel, **spec) as engine:
        assert isinstance(engine, VllmEngine)
        yield engine


def answers_of(engine: VllmEngine) -> Answers:
    """No answers yet, and how vLLM really runs."""
    config = engine._llm.llm_engine.vllm_config
    runner = Runner(async_scheduling=config.scheduler_config.async_scheduling, v2=config.use_v2_model_runner)
    return Answers(runner, engine._queue.scores_named_rows)


def written(engine: VllmEngine, requests: list[GenerateRequest]) -> list[Written]:
    """Texts through the scheduler, with the tokens that it gave."""
    tokens: dict[int, tuple[int, ...]] = {}
    run = engine._queue.run

    def recording(*args: Any, **named: Any) -> Iterator[Any]:
        for prompt, output in run(*args, **named):
            tokens[prompt.key[0]] = tuple(output.outputs[0].token_ids)
            yield prompt, output

    engine._queue.run = recording  # type: ignore[method-assign]
    try:
        results = generated(engine, requests)
    finally:
        engine._queue.run = run  # type: ignore[method-assign]
    return [Written(result, tokens[index]) for index, result in enumerate(results)]


def answers(checkpoints: list[Path], tensor_parallel: int) -> list[Answers]:
    """Every score and text of every path, of one engine after another."""
    return [_answers(checkpoint, tensor_parallel) for checkpoint in checkpoints]


def _answers(checkpoint: Path, tensor_parallel: int) -> Answers:
    with engine_on(checkpoint, tensor_parallel) as engine:
        result = answers_of(engine)
        paths = [tuple(range(LAYERS)) if path is None else path for path in PATHS]
        if engine._unscheduled is not None:
            scores = {(p, i): r for p, i, r in engine.score_paths(REQUESTS, paths)}
            texts = {(p, i): r for p, i, r in engine.generate_paths(texts_asked(), paths)}
            for number in range(len(paths)):
                result.outside_scores[number] = [scores[number, i] for i in range(len(REQUESTS))]
                result.outside_texts[number] = [texts[number, i] for i in range(len(REQUESTS))]
        engine._unscheduled = None  # as on a machine where only the scheduler can
        for number, path in enumerate(PATHS):
            engine.set_layer_path(path)
            _ask(engine, number, result)
        return result


def _ask(engine: VllmEngine, number: int, result: Answers) -> None:
    result.scores[number] = scored(engine, REQUESTS)
    result.texts[number] = written(engine, texts_asked())


def scheduler_scores(
    checkpoint: Path, requests: list[ScoreRequest], named_rows: tuple[bool, ...] = (True,), **engine: Any
) -> list[Answers]:
    """Scores of the checkpoint as it is through the scheduler, twice: the second time with the first one's prefixes in the
    cache. `named_rows` says whether to ask for single rows, as V2 offers."""
    results = []
    for named in named_rows:
        with engine_on(checkpoint, **engine) as opened_engine:
            opened_engine._unscheduled = None
            opened_engine._queue.scores_named_rows &= named
            results.append(answers_of(opened_engine))
            for time in range(2):
                results[-1].scores[time] = scored(opened_engine, requests)
    return results


def many_requests() -> list[ScoreRequest]:
    """More tokens than one step takes, so that prompts are split between steps, and long continuations."""
    requests = random_requests(3, vocabulary=VOCABULARY, count=16, longest=200)
    long = [
        ScoreRequest(context=r.context, continuations=(r.context[:70], r.context[3:60], (r.context[0],)))
        for r in random_requests(4, vocabulary=VOCABULARY, count=8, longest=120)
        if len(r.context) > 10
    ]
    # As many one-token choices as one sequence scores.
    one_token = ScoreRequest(context=(3, 4, 5), continuations=tuple((token,) for token in range(3, 103)))
    return [*requests, *long, one_token]


def _closed_midway(engine: VllmEngine) -> None:
    for iterator in (engine.generate(texts_asked()), engine.score(many_requests())):
        next(iterator)
        with pytest.raises(EngineError, match="in flight"):
            engine.set_layer_path(PATHS[1])
        iterator.close()  # type: ignore[attr-defined]  # a generator


def answers_with_aborts(checkpoint: Path, tensor_parallel: int) -> tuple[Answers, Answers]:
    """Without and with iterators that are closed while their requests run, before and after each change of path."""
    with engine_on(checkpoint, tensor_parallel) as engine:
        engine._unscheduled = None
        plain, disturbed = answers_of(engine), answers_of(engine)
        for number, path in enumerate(PATHS):
            engine.set_layer_path(path)
            _ask(engine, number, plain)
        for number, path in enumerate(PATHS):
            _closed_midway(engine)
            engine.set_layer_path(path)
            _closed_midway(engine)
            _ask(engine, number, disturbed)
        return plain, disturbed


def answers_after_broken_path(
    checkpoint: Path, sound: LayerPath, broken: LayerPath
) -> tuple[Answers, Answers]:
    """Of the sound path, before and after a path whose values are not finite."""
    with engine_on(checkpoint) as engine:
        engine._unscheduled = None
        before, after = answers_of(engine), answers_of(engine)
        engine.set_layer_path(sound)
        _ask(engine, 0, before)
        engine.set_layer_path(broken)
        scored(engine, REQUESTS)
        generated(engine, texts_asked())
        engine.set_layer_path(sound)
        _ask(engine, 0, after)
        return before, after
