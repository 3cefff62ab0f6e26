"""Sixty random layer paths: live in vLLM, live in transformers, and built and loaded anew, all of them in float32.

Slow: run with `-s` to see the figures. Log-probabilities agree within TOLERANCE and greedy tokens are the same; where they
part, both tokens must be as likely as each other within NEAR_TIE at that very place, and such ties are counted. A tokenizer
that spells every token makes texts tell tokens: real ones drop special tokens or write them, by engine, and write different
bytes as one mark.

    pytest -m slow -s tests/evals/vllm/test_sixty_paths.py -k "llama and blocks"      one of the pieces
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evals.engine import EngineKind, EngineTuning, GenerateRequest, PathEngine, ScoreRequest
from evals.live_paths import require_live_family
from evals.probes import get_probe
from evals.scores import ChatTemplate
from recipes.relayer import write_layer_path
from tests.support.engine_requests import LAYERS, opened, prompts_of, random_requests
from tests.support.random_paths import (
    EACH,
    Answers,
    Asked,
    Figures,
    Kind,
    Layers,
    answers,
    compare,
    random_paths,
    spelled,
)
from tests.support.tiny_checkpoints import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(3600)]


def answers_together(engine: PathEngine, asked: Asked, paths: list[Layers]) -> list[Answers]:
    """On every path, all paths at once."""
    scores = {(p, i): r for p, i, r in engine.score_paths(asked.scores, paths)}
    texts = {(p, i): r for p, i, r in engine.generate_paths(asked.prompts, paths)}
    return [
        ([scores[p, i] for i in range(len(asked.scores))], [texts[p, i] for i in range(len(asked.prompts))])
        for p in range(len(paths))
    ]


def check(checkpoint: Path, asked: Asked, paths: list[Layers], threads: int, one_in: int) -> Figures:
    """All sides on all paths; one in so many also with the engine switched to it, and the first built in vLLM."""
    figures, folder = Figures(), checkpoint.parent
    n_layers = require_live_family(checkpoint)
    tuning = EngineTuning(
        threads=threads, extra_layer_slots=max(1, max(map(len, paths)) - n_layers), kv_cache_gib=1.0
    )
    with opened(EngineKind.VLLM, checkpoint, tuning, max_length=1024) as engine:
        live = answers_together(engine, asked, paths)
        switched = {}
        for number in range(0, EACH, one_in):
            engine.set_layer_path(paths[number])
            switched[number] = answers(engine, asked)
    write_layer_path(checkpoint, paths[0], folder / "built")
    plain = EngineTuning(threads=threads, kv_cache_gib=1.0)
    with opened(EngineKind.VLLM, folder / "built", plain, max_length=1024) as engine:
        built_in_vllm = answers(engine, asked)
    shutil.rmtree(folder / "built")
    with opened(EngineKind.TRANSFORMERS, checkpoint, EngineTuning(threads=threads), max_length=1024) as judge:
        for number, path in enumerate(paths):
            judge.set_layer_path(path)
            reference = answers(judge, asked)
            compare(figures, f"live vLLM, {path}", live[number], reference, asked, judge)
            if number in switched:
                compare(figures, f"switched vLLM, {path}", switched[number], reference, asked, judge)
            if number == 0:
                compare(figures, f"built in vLLM, {path}", built_in_vllm, reference, asked, judge)
            mine = built_in_transformers(checkpoint, path, asked, threads)
            compare(figures, f"built, {path}", mine, reference, asked, judge)
    return figures


def built_in_transformers(checkpoint: Path, path: Layers, asked: Asked, threads: int) -> Answers:
    """The path as a checkpoint of its own."""
    folder = checkpoint.parent / "built"
    write_layer_path(checkpoint, path, folder)
    with opened(EngineKind.TRANSFORMERS, folder, EngineTuning(threads=threads), max_length=1024) as engine:
        found = answers(engine, asked)
    shutil.rmtree(folder)
    return found


def told(what: str, kind: Kind, figures: Figures) -> None:
    print(
        f"\n{what}, {EACH} paths of {kind}: largest difference {figures.largest:.1e}, "
        f"{len(figures.ties)} near-ties in {figures.texts} texts of {figures.tokens} tokens {figures.ties}"
    )
    assert len(figures.ties) <= figures.texts / 100


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_every_family(family: str, kind: Kind, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "tiny", family=family, layers=LAYERS, dtype="float32")
    requests = random_requests(3, vocabulary=VOCABULARY, count=6)
    asked = Asked(requests, prompts_of(requests))
    paths = random_paths(kind, LAYERS)
    told(family, kind, check(spelled(checkpoint, tmp_path / "spelled"), asked, paths, threads=1, one_in=1))


@pytest.mark.parametrize("kind", Kind)
def test_the_language_model(kind: Kind, demo_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint)
    scores: list[ScoreRequest] = []
    for name in ("arithmetic-easy-scored-search", "emotion-easy-scored-search"):
        requests = get_probe(name).requests(tokenizer, ChatTemplate.OFF)
        scores += [request for request in requests if isinstance(request, ScoreRequest)][:4]
    written = get_probe("arithmetic-easy-generated-search").requests(tokenizer, ChatTemplate.ON)[:3]
    prompts = [
        GenerateRequest(prompt=r.prompt, max_new_tokens=16) for r in written if isinstance(r, GenerateRequest)
    ]
    asked = Asked(scores, prompts)
    paths = random_paths(kind, require_live_family(demo_checkpoint))
    figures = check(spelled(demo_checkpoint, tmp_path / "spelled"), asked, paths, threads=2, one_in=5)
    told("language model", kind, figures)
