"""Sixty random layer paths: live in vLLM, live in transformers, and built and loaded anew, all of them in float32.

Slow: run with `-s` to see the figures. Log-probabilities agree within TOLERANCE; where two greedy texts part, the tokens at
which they do must be as likely as each other within NEAR_TIE, and such ties are counted.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evals.engine import EngineKind, EngineTuning, GenerateRequest, GenerateResult, PathEngine, ScoreRequest
from evals.probes import get_probe
from evals.scores import ChatTemplate
from recipes.layer_path import LayerPath
from recipes.relayer import write_layer_path
from tests.evals.engine_requests import (
    LAYERS,
    TOLERANCE,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.tiny import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.vllm]

NEAR_TIE = 2 * TOLERANCE
BUILT_IN_VLLM = 4


def random_paths(n_layers: int, seed: int = 0, each: int = 15) -> list[tuple[int, ...]]:
    """Blocks (one to three), layers repeated in place, layers left out, and lists in no order; as many of each."""
    rng = random.Random(seed)
    paths: list[tuple[int, ...]] = []

    def block() -> tuple[int, int]:
        i = rng.randrange(n_layers)
        return i, rng.randrange(i + 1, min(n_layers, i + n_layers // 2) + 1)

    while len(paths) < each:
        made = LayerPath.of_blocks([block() for _ in range(rng.randrange(1, 4))], n_layers).layers
        if len(made) <= 2 * n_layers and made not in paths:
            paths.append(made)
    for _ in range(each):
        repeated = rng.sample(range(n_layers), rng.randrange(1, 3))
        text = ";".join(f"{layer}*{rng.randrange(2, 5)}" for layer in repeated)
        paths.append(LayerPath.parse(f"repeat:{text}", n_layers).layers)
    for _ in range(each):
        gone = set(rng.sample(range(n_layers), rng.randrange(1, n_layers // 2 + 1)))
        paths.append(tuple(layer for layer in range(n_layers) if layer not in gone))
    for _ in range(each):
        paths.append(tuple(rng.randrange(n_layers) for _ in range(rng.randrange(1, n_layers + 1))))
    return paths


@dataclass
class Asked:
    """What every side is asked."""

    scores: list[ScoreRequest]
    prompts: list[GenerateRequest]


@dataclass
class Figures:
    """What was found."""

    largest: float = 0.0
    ties: list[str] = field(default_factory=list)
    texts: int = 0


def all_paths(engine: PathEngine, asked: Asked, paths: list[tuple[int, ...]]) -> list[tuple[Any, Any]]:
    """Scores and texts of every path, all paths at once."""
    scores = {(p, i): r for p, i, r in engine.score_paths(asked.scores, paths)}
    texts = {(p, i): r for p, i, r in engine.generate_paths(asked.prompts, paths)}
    return [
        ([scores[p, i] for i in range(len(asked.scores))], [texts[p, i] for i in range(len(asked.prompts))])
        for p in range(len(paths))
    ]


def compare(
    figures: Figures,
    name: str,
    mine: tuple[Any, Any],
    reference: tuple[Any, Any],
    asked: Asked,
    judge: PathEngine,
) -> None:
    """Hold one side against the reference; `judge` is the reference engine on this path."""
    difference = largest_difference(mine[0], reference[0])
    figures.largest = max(figures.largest, difference)
    assert difference < TOLERANCE, f"{name}: {difference}"
    for prompt, one, other in zip(asked.prompts, mine[1], reference[1], strict=True):
        figures.texts += 1
        if one.text != other.text:
            figures.ties.append(f"{name}: {gap(judge, prompt, one):.1e}")


def gap(judge: PathEngine, prompt: GenerateRequest, one: GenerateResult) -> float:
    """How close the two likeliest tokens come, along the judge's own greedy text, up to where the other text parts from it;
    fails where they never tie. Token by token, since not every token is a text that can be encoded again."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(judge.checkpoint)
    everything = tuple((token,) for token in range(len(tokenizer)))
    tokens: tuple[int, ...] = ()
    closest = float("inf")
    while len(tokens) < prompt.max_new_tokens and one.text.startswith(
        tokenizer.decode(tokens).rstrip("\ufffd")
    ):
        (result,) = scored(judge, [ScoreRequest(context=prompt.prompt + tokens, continuations=everything)])
        second, first = sorted(range(len(everything)), key=result.logprobs.__getitem__)[-2:]
        closest = min(closest, result.logprobs[first] - result.logprobs[second])
        tokens = (*tokens, first)
    assert closest < NEAR_TIE, (
        f"{one.text!r} parts from the reference, where the likeliest tokens are {closest} apart"
    )
    return closest


def check(checkpoint: Path, asked: Asked, n_layers: int, folder: Path, threads: int) -> Figures:
    """All sides on all paths."""
    paths, figures = random_paths(n_layers), Figures()
    assert len(paths) == 60
    slots = max(len(path) for path in paths) - n_layers
    tuning = EngineTuning(threads=threads, extra_layer_slots=slots, kv_cache_gib=1.0)
    with opened(EngineKind.VLLM, checkpoint, tuning, max_length=1024) as engine:
        live = all_paths(engine, asked, paths)
        switched = []
        for path in paths[::8]:
            engine.set_layer_path(path)
            switched.append((scored(engine, asked.scores), generated(engine, asked.prompts)))
    built_in_vllm = {}
    for number in range(0, 60, 60 // BUILT_IN_VLLM):
        write_layer_path(checkpoint, paths[number], folder / "built")
        plain = EngineTuning(threads=threads, kv_cache_gib=1.0)
        with opened(EngineKind.VLLM, folder / "built", plain, max_length=1024) as engine:
            built_in_vllm[number] = (scored(engine, asked.scores), generated(engine, asked.prompts))
        shutil.rmtree(folder / "built")
    with opened(EngineKind.TRANSFORMERS, checkpoint, EngineTuning(threads=threads), max_length=1024) as judge:
        for number, path in enumerate(paths):
            judge.set_layer_path(path)
            reference = (scored(judge, asked.scores), generated(judge, asked.prompts))
            compare(figures, f"live vLLM, {path}", live[number], reference, asked, judge)
            if number % 8 == 0:
                compare(figures, f"switched vLLM, {path}", switched[number // 8], reference, asked, judge)
            if number in built_in_vllm:
                compare(figures, f"built in vLLM, {path}", built_in_vllm[number], reference, asked, judge)
            write_layer_path(checkpoint, path, folder / "built")
            with opened(
                EngineKind.TRANSFORMERS, folder / "built", EngineTuning(threads=threads), max_length=1024
            ) as built:
                mine = (scored(built, asked.scores), generated(built, asked.prompts))
            compare(figures, f"built, {path}", mine, reference, asked, judge)
            shutil.rmtree(folder / "built")
    print(
        f"\n{checkpoint.name}: 60 paths, {len(built_in_vllm)} of them built in vLLM, largest difference {figures.largest:.1e}, "
        f"{len(figures.ties)} near-ties in {figures.texts} texts {figures.ties}"
    )
    return figures


@pytest.mark.parametrize("family", DENSE_FAMILIES)
def test_every_family(family: str, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / family, family=family, layers=LAYERS, dtype="float32")
    requests = random_requests(3, vocabulary=VOCABULARY, count=6)
    figures = check(checkpoint, Asked(requests, prompts_of(requests)), LAYERS, tmp_path, 1)
    assert len(figures.ties) < 10


def test_the_language_model(demo_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo_checkpoint)
    scores: list[Any] = []
    for name in ("arithmetic-easy-scored-search", "emotion-easy-scored-search"):
        scores += get_probe(name).requests(tokenizer, ChatTemplate.OFF)[:4]
    written = get_probe("arithmetic-easy-generated-search").requests(tokenizer, ChatTemplate.ON)[:3]
    prompts = [
        GenerateRequest(prompt=r.prompt, max_new_tokens=16) for r in written if isinstance(r, GenerateRequest)
    ]
    figures = check(demo_checkpoint, Asked(scores, prompts), 30, tmp_path, 2)
    assert len(figures.ties) < 10
