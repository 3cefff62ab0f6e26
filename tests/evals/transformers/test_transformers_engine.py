"""The transformers engine against lm-eval's own `hf` model, and its live layer paths against built checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evals.engine import EngineKind, EngineTuning, GenerateRequest, PathEngine, ScoreRequest
from evals.errors import EngineError
from evals.transformers.engine import TransformersEngine
from evals.transformers.generation import STEPS
from recipes.relayer import write_layer_path
from tests.support.engine_requests import (
    LAYERS,
    PATHS,
    TOLERANCE,
    check_wanted,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.tiny_checkpoints import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint, tiny_of_type

KIND = EngineKind.TRANSFORMERS
EXTRA = {"gpt_neox": {"intermediate_size": 128}, "gemma2": {"sliding_window": 16}}
REQUESTS = random_requests(0, vocabulary=VOCABULARY)


@pytest.fixture(scope="module", params=DENSE_FAMILIES)
def family_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp(request.param), family=request.param, layers=LAYERS)


@pytest.fixture
def engine(family_checkpoint: Path) -> Iterator[PathEngine]:
    with opened(KIND, family_checkpoint) as engine:
        yield engine


def stock(checkpoint: Path, **kwargs: object) -> HFLM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its cache of logits confuses a context with another one that goes on with the other's continuation.
        return HFLM(
            pretrained=str(checkpoint),
            dtype="float32",
            device="cpu",
            batch_size=4,
            logits_cache=False,
            **kwargs,
        )


def stock_scores(model: HFLM, requests: list[ScoreRequest]) -> list[list[tuple[float, bool]]]:
    flat = [(("", ""), list(r.context), list(c)) for r in requests for c in r.continuations]
    answers = iter(model._loglikelihood_tokens(flat, disable_tqdm=True))
    return [[next(answers) for _ in r.continuations] for r in requests]


def check_against_stock(engine: PathEngine, model: HFLM, requests: list[ScoreRequest]) -> None:
    for result, answers in zip(scored(engine, requests), stock_scores(model, requests), strict=True):
        assert result.logprobs == pytest.approx([logprob for logprob, _ in answers], abs=TOLERANCE)
        assert list(result.is_greedy) == [greedy for _, greedy in answers]


def test_scores_are_those_of_lm_eval(engine: PathEngine) -> None:
    check_against_stock(engine, stock(engine.checkpoint), REQUESTS)


def test_truncation_is_that_of_lm_eval(tiny_llama: Path) -> None:
    with opened(KIND, tiny_llama, max_length=40) as engine:
        assert engine.max_length == 40
        check_against_stock(engine, stock(tiny_llama, max_length=40), REQUESTS)
        with pytest.raises(EngineError, match="max_length"):
            scored(engine, [ScoreRequest(context=(3,), continuations=((4,) * 41,))])


@pytest.mark.parametrize("model_type", ["gpt_neox", "gemma2"])
def test_other_families_are_scored_the_plain_way(tmp_path: Path, model_type: str) -> None:
    checkpoint = tiny_of_type(tmp_path, model_type, dtype="float32", **EXTRA[model_type])
    with opened(KIND, checkpoint) as engine:
        check_against_stock(engine, stock(checkpoint), REQUESTS)


def test_sliding_windows_are_kept(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, family="mistral", config={"sliding_window": 16})
    with opened(KIND, checkpoint) as engine:
        check_against_stock(engine, stock(checkpoint), REQUESTS)


TOKENS = 80


def check_texts_against_stock(checkpoint: Path) -> None:
    """Texts over several of the generator's strides, some of which end early."""
    model = stock(checkpoint)
    texts = ["The capital of France", "Question: Which of these is true?", "0 1 2 3 4", "(A), (B), "]
    with opened(KIND, checkpoint, EngineTuning(batch_size=3, threads=1)) as engine:
        for stops in ((), ("e",), ("\n\n", " t", "qu")):
            kwargs = {"until": list(stops), "max_gen_toks": TOKENS, "do_sample": False}
            asked = [
                Instance(request_type="generate_until", doc={}, arguments=(text, kwargs), idx=i)
                for i, text in enumerate(texts)
            ]
            ours = [
                GenerateRequest(prompt=tuple(model.tok_encode(text)), max_new_tokens=TOKENS, stop=stops)
                for text in texts
            ]
            results = generated(engine, ours)
            assert [result.text for result in results] == model.generate_until(asked, disable_tqdm=True)
            for result in results:
                assert (result.finish_reason == "length") <= (result.n_tokens == TOKENS)


def test_texts_are_those_of_lm_eval(family_checkpoint: Path) -> None:
    assert TOKENS > 2 * STEPS
    check_texts_against_stock(family_checkpoint)


def test_texts_of_sliding_windows(tmp_path: Path) -> None:
    check_texts_against_stock(tiny_checkpoint(tmp_path, family="mistral", config={"sliding_window": 16}))


@pytest.mark.parametrize("model_type", ["gpt_neox", "gemma2"])
def test_texts_of_other_families(tmp_path: Path, model_type: str) -> None:
    check_texts_against_stock(tiny_of_type(tmp_path, model_type, dtype="float32", **EXTRA[model_type]))


def test_sequences_that_ended_cost_no_further_step(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three goes on after the first stride: alone."""
    with opened(KIND, tiny_llama) as engine:
        free = generated(
            engine, [GenerateRequest(prompt=(5, n), max_new_tokens=STEPS, stop=()) for n in (6, 7, 8)]
        )
        stops = [(text.text[:3],) for text in free[:2]]
        assert free[2].finish_reason == "length"
        assert all(stop for (stop,) in stops)
        widths: list[int] = []
        assert isinstance(engine, TransformersEngine)
        model = engine._model
        forward = model.forward
        monkeypatch.setattr(
            model,
            "forward",
            lambda input_ids, **rest: widths.append(len(input_ids)) or forward(input_ids=input_ids, **rest),
        )
        asked = [
            GenerateRequest(prompt=(5, n), max_new_tokens=2 * STEPS, stop=stop)
            for n, stop in zip((6, 7, 8), [*stops, ()], strict=True)
        ]
        assert [text.finish_reason for text in generated(engine, asked)] == ["stop", "stop", "length"]
        assert widths == [3] * STEPS + [1] * STEPS


def test_one_batch_or_many_makes_no_difference(engine: PathEngine) -> None:
    prompts = prompts_of(REQUESTS)
    alone = [generated(engine, [prompt])[0] for prompt in prompts]
    assert generated(engine, prompts) == alone


def test_live_paths_equal_built_checkpoints_and_are_undone(engine: PathEngine, tmp_path: Path) -> None:
    prompts = prompts_of(REQUESTS[:4])
    before = scored(engine, REQUESTS), generated(engine, prompts)
    paths: dict[int, list[tuple[int, object]]] = {}
    for path, index, result in engine.score_paths(REQUESTS, PATHS):
        paths.setdefault(path, []).append((index, result))
    texts = {(path, index): result for path, index, result in engine.generate_paths(prompts, PATHS)}
    for number, layers in enumerate(PATHS):
        built = tmp_path / str(number)
        write_layer_path(engine.checkpoint, layers, built)
        with opened(KIND, built) as other:
            live = [result for _, result in sorted(paths[number], key=lambda pair: pair[0])]
            assert largest_difference(live, scored(other, REQUESTS)) < 1e-5
            assert [texts[number, i] for i in range(len(prompts))] == generated(other, prompts)
    assert (scored(engine, REQUESTS), generated(engine, prompts)) == before


def test_what_is_not_wanted_gets_no_answer(engine: PathEngine) -> None:
    check_wanted(engine, REQUESTS)


def test_memory_is_told(engine: PathEngine) -> None:
    stored = sum(file.stat().st_size for file in engine.checkpoint.glob("*.safetensors"))
    assert engine.memory.weight_bytes == pytest.approx(2 * stored, rel=0.1)
