"""Both engines against lm-eval's `hf` model, where a checkpoint's files change what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from evals.checkpoint_settings import constant_rope_length, read_generation_settings
from evals.engine import EngineKind, EngineTuning, GenerateRequest, PathEngine, ScoreRequest
from evals.errors import EngineError
from tests.support.engine_requests import (
    PATHS,
    TOLERANCE,
    generated,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.further_tokenizers import further_checkpoint, smoke_lines
from tests.support.stock_hf import stock_hf, stock_scores, stock_texts
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint

VLLM = pytest.param(EngineKind.VLLM, marks=pytest.mark.vllm)
KINDS = pytest.mark.parametrize("kind", [EngineKind.TRANSFORMERS, VLLM])
PROMPTS = prompts_of(random_requests(3, vocabulary=VOCABULARY, count=8), new=24)


@contextmanager
def engine_of(kind: EngineKind, checkpoint: Path, **spec: object) -> Iterator[PathEngine]:
    tuning = EngineTuning(threads=1, kv_cache_gib=0.125, batch_size=4, live=True)
    with opened(kind, checkpoint, tuning, **spec) as engine:
        yield engine


def generation_config(checkpoint: Path, **settings: Any) -> Path:
    path = checkpoint / "generation_config.json"
    path.write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 2, **settings}))
    return checkpoint


@pytest.fixture(scope="module")
def penalised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("penalised")
    return generation_config(
        tiny_checkpoint(directory, layers=6), repetition_penalty=1.3, do_sample=True, top_k=20
    )


@KINDS
def test_a_repetition_penalty_is_applied_as_by_lm_eval(
    kind: EngineKind, penalised: Path, tmp_path: Path
) -> None:
    expected = stock_texts(stock_hf(penalised), PROMPTS)
    plain = tiny_checkpoint(tmp_path / "plain", layers=6)
    assert expected != stock_texts(stock_hf(plain), PROMPTS)
    with engine_of(kind, penalised) as engine:
        # Prompts of different lengths in one batch: what pads the shorter ones is not penalised.
        assert [result.text for result in generated(engine, PROMPTS)] == expected
        alone = [generated(engine, [prompt])[0].text for prompt in PROMPTS]
        assert alone == expected


def test_what_pads_a_batch_is_not_penalised(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=2, dtype="float32")
    # The end token, which pads, is likely here: where it is penalised, texts end later.
    tensors = load_file(checkpoint / "model.safetensors")
    head = tensors["lm_head.weight"].copy()
    head[2] = head[3:40].mean(axis=0) * 9
    save_file(tensors | {"lm_head.weight": head}, checkpoint / "model.safetensors", metadata={"format": "pt"})
    generation_config(checkpoint, repetition_penalty=1.3)
    prompts = prompts_of(random_requests(5, vocabulary=VOCABULARY, count=24), new=24)
    with engine_of(EngineKind.TRANSFORMERS, checkpoint) as engine:
        together = generated(engine, prompts)
        assert together == [generated(engine, [prompt])[0] for prompt in prompts]
    assert {result.finish_reason for result in together} == {"stop", "length"}
    assert [result.text for result in together] == stock_texts(stock_hf(checkpoint), prompts)


@KINDS
def test_texts_and_stop_strings_of_a_sentencepiece_tokenizer(kind: EngineKind, tmp_path: Path) -> None:
    checkpoint = further_checkpoint(tmp_path, "sentencepiece-bos", smoke_lines(), 512)
    model = stock_hf(checkpoint)
    texts = [f"Question {number}: what is it?\nAnswer:" for number in range(6)]
    prompts = [
        GenerateRequest(prompt=tuple(model.tok_encode(text)), max_new_tokens=16 + number % 2)
        for number, text in enumerate(texts)
    ]
    written = stock_texts(model, prompts)
    # Stop strings out of the texts: a first word with the space that vLLM's own detokenizer writes before it, and later parts.
    stops = [(" " + text.split()[0], text[len(text) // 2 :][:3]) for text in written]
    stopping = [r.model_copy(update={"stop": stop}) for r, stop in zip(prompts, stops, strict=True)]
    with engine_of(kind, checkpoint) as engine:
        assert [result.text for result in generated(engine, prompts)] == written
        assert [result.text for result in generated(engine, stopping)] == stock_texts(model, stopping)
        both = engine.generate_paths(stopping, [(0, 1)])
        assert {r: result.text for _, r, result in both} == dict(enumerate(stock_texts(model, stopping)))


@KINDS
def test_a_repetition_penalty_holds_on_every_layer_path(kind: EngineKind, penalised: Path) -> None:
    paths = [path for path in PATHS if len(path) <= 6]
    with engine_of(kind, penalised) as engine:
        together = {(p, r): result.text for p, r, result in engine.generate_paths(PROMPTS, paths)}
        for number, path in enumerate(paths):
            engine.set_layer_path(path)
            assert [result.text for result in generated(engine, PROMPTS)] == [
                together[number, request] for request in range(len(PROMPTS))
            ]
        engine.set_layer_path(None)
        expected = stock_texts(stock_hf(penalised), PROMPTS)
        assert [together[0, request] for request in range(len(PROMPTS))] == expected


@KINDS
def test_settings_that_no_engine_honours_are_refused(kind: EngineKind, tmp_path: Path) -> None:
    checkpoint = generation_config(tiny_checkpoint(tmp_path / "ngrams"), no_repeat_ngram_size=3)
    with engine_of(kind, checkpoint) as engine:
        scored(engine, [ScoreRequest(context=(5, 6), continuations=((7,),))])
        with pytest.raises(EngineError, match=r"generation_config\.json says no_repeat_ngram_size: 3"):
            generated(engine, PROMPTS)


@pytest.mark.parametrize(
    ("settings", "unsupported"),
    [
        ({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "do_sample": True, "max_new_tokens": 512}, ""),
        ({"num_beams": 1, "min_length": 0, "bad_words_ids": [], "penalty_alpha": None}, ""),
        ({"num_beams": 4}, "num_beams: 4"),
        ({"min_new_tokens": 5}, "min_new_tokens: 5"),
        ({"suppress_tokens": [1, 2]}, "suppress_tokens: [1, 2]"),
        ({"forced_eos_token_id": 2}, "forced_eos_token_id: 2"),
    ],
)
def test_settings_are_read(tmp_path: Path, settings: dict[str, Any], unsupported: str) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    assert read_generation_settings(tmp_path).unsupported == unsupported
    assert read_generation_settings(tmp_path).repetition_penalty == 1.0


@pytest.mark.parametrize(
    "text",
    ['{"repetition_penalty": 0}', '{"repetition_penalty": "a"}', "{", "[]", '{"repetition_penalty": true}'],
)
def test_a_broken_generation_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(EngineError, match=r"generation_config\.json"):
        read_generation_settings(tmp_path)


LIMIT = 48
FACTORS = {
    "short_factor": [1.0 + 0.1 * i for i in range(16)],
    "long_factor": [2.0 + 0.7 * i for i in range(16)],
}
LONGROPE = {"original_max_position_embeddings": LIMIT, "rope_scaling": {"rope_type": "longrope", **FACTORS}}
DYNAMIC = {"max_position_embeddings": LIMIT, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
LENGTHS = random_requests(7, vocabulary=VOCABULARY, count=24)


def rope_checkpoint(directory: Path, name: str) -> Path:
    if name == "dynamic":
        return tiny_checkpoint(directory, layers=3, config=DYNAMIC)
    return tiny_checkpoint(
        directory, family="phi3", layers=3, config={**LONGROPE, "max_position_embeddings": 256}
    )


@pytest.mark.parametrize("name", ["longrope", "dynamic"])
def test_rotations_that_depend_on_the_length_are_those_of_lm_eval(name: str, tmp_path: Path) -> None:
    checkpoint = rope_checkpoint(tmp_path / name, name)
    model = stock_hf(checkpoint, max_length=256)
    lengths = [len(r.context) + max(map(len, r.continuations)) - 1 for r in LENGTHS]
    assert min(lengths) < LIMIT < max(lengths)
    assert any(len(r.context) <= LIMIT < n for r, n in zip(LENGTHS, lengths, strict=True))
    with engine_of(EngineKind.TRANSFORMERS, checkpoint, max_length=256) as engine:
        results = scored(engine, LENGTHS)
        assert [pytest.approx(scores, abs=TOLERANCE) for scores in stock_scores(model, LENGTHS)] == [
            list(result.logprobs) for result in results
        ]
        prompts = prompts_of(LENGTHS, new=12)
        assert [result.text for result in generated(engine, prompts)] == stock_texts(model, prompts)
        assert scored(engine, LENGTHS) == results


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["longrope", "dynamic"])
def test_vllm_refuses_sequences_whose_rotation_depends_on_their_length(name: str, tmp_path: Path) -> None:
    checkpoint = rope_checkpoint(tmp_path / name, name)
    model = stock_hf(checkpoint, max_length=256)
    short = [r for r in LENGTHS if len(r.context) + max(map(len, r.continuations)) < LIMIT]
    prompts = [
        GenerateRequest(prompt=r.context, max_new_tokens=4) for r in short if len(r.context) + 4 < LIMIT
    ]
    with engine_of(EngineKind.VLLM, checkpoint, max_length=256) as engine:
        assert [pytest.approx(scores, abs=TOLERANCE) for scores in stock_scores(model, short)] == [
            list(result.logprobs) for result in scored(engine, short)
        ]
        assert [result.text for result in generated(engine, prompts)] == stock_texts(model, prompts)
        with pytest.raises(EngineError, match=f"beyond {LIMIT} tokens the rotary embedding"):
            scored(engine, LENGTHS)
        with pytest.raises(EngineError, match=f"set max_length to {LIMIT}"):
            generated(engine, prompts_of(LENGTHS))


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 100}, None),
        ({"max_position_embeddings": 100, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, None),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "dynamic", "factor": 4.0}}, 100),
        ({"max_position_embeddings": 100, "original_max_position_embeddings": 10, "rope_scaling": {"type": "su"}}, 10),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 7}}, 7),
        ({"max_position_embeddings": 9, "rope_parameters": {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {}}}, 9),
        ({"text_config": {"max_position_embeddings": 8, "rope_scaling": {"rope_type": "dynamic"}}}, 8),
    ],
)  # fmt: skip
def test_lengths_of_constant_rotation(config: dict[str, Any], limit: int | None) -> None:
    assert constant_rope_length(config) == limit
