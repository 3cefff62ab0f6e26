"""Sixty random layer paths: live in vLLM, live in transformers, and built and loaded anew, all of them in float32.

Slow: run with `-s` to see the figures. Log-probabilities agree within TOLERANCE and greedy tokens are the same; where they
part, both tokens must be as likely as each other within NEAR_TIE at that very place, and such ties are counted. A tokenizer
that spells every token makes texts tell tokens: real ones drop special tokens or write them, by engine, and write different
bytes as one mark.

    pytest -m slow -s tests/evals/vllm/test_sixty_paths.py -k "llama and blocks"      one of the pieces
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from evals.engine import (
    EngineKind,
    EngineTuning,
    GenerateRequest,
    GenerateResult,
    PathEngine,
    ScoreRequest,
    ScoreResult,
)
from evals.live_paths import require_live_family
from evals.probes import get_probe
from evals.scores import ChatTemplate
from recipes.layer_path import LayerPath
from recipes.relayer import write_layer_path
from tests.support.engine_requests import (
    LAYERS,
    TOLERANCE,
    generated,
    largest_difference,
    opened,
    prompts_of,
    random_requests,
    scored,
)
from tests.support.tiny_checkpoints import DENSE_FAMILIES, VOCABULARY, tiny_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(3600)]

NEAR_TIE = 2 * TOLERANCE
EACH = 15
END = 2
"""The token that ends a text, in the tiny checkpoints and in the language model."""

Layers = tuple[int, ...]
Answers = tuple[list[ScoreResult], list[GenerateResult]]


class Kind(StrEnum):
    """How a path departs from the checkpoint."""

    BLOCKS = "blocks"
    REPEATS = "repeats"
    SKIPS = "skips"
    LISTS = "lists"


def random_paths(kind: Kind, n_layers: int) -> list[Layers]:
    """EACH different paths: one to three blocks, layers repeated in place, layers left out, or lists in no order."""
    rng = random.Random(f"0 {kind}")
    make = _KINDS[kind]
    paths: list[Layers] = []
    while len(paths) < EACH:
        path = make(rng, n_layers)
        if len(path) <= 2 * n_layers and path not in paths:
            paths.append(path)
    return paths


def _blocks(rng: random.Random, n: int) -> Layers:
    blocks = []
    for _ in range(rng.randrange(1, 4)):
        i = rng.randrange(n)
        blocks.append((i, rng.randrange(i + 1, min(n, i + n // 2) + 1)))
    return LayerPath.of_blocks(blocks, n).layers


def _repeats(rng: random.Random, n: int) -> Layers:
    times = (f"{layer}*{rng.randrange(2, 5)}" for layer in rng.sample(range(n), rng.randrange(1, 3)))
    return LayerPath.parse(f"repeat:{';'.join(times)}", n).layers


def _skips(rng: random.Random, n: int) -> Layers:
    gone = set(rng.sample(range(n), rng.randrange(1, n // 2 + 1)))
    return tuple(layer for layer in range(n) if layer not in gone)


def _lists(rng: random.Random, n: int) -> Layers:
    return tuple(rng.randrange(n) for _ in range(rng.randrange(1, n + 1)))


_KINDS: dict[Kind, Callable[[random.Random, int], Layers]] = {
    Kind.BLOCKS: _blocks,
    Kind.REPEATS: _repeats,
    Kind.SKIPS: _skips,
    Kind.LISTS: _lists,
}


def spelled(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with a tokenizer that writes token 17 as <17>; only the one that ends a text is special."""
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, PreTrainedTokenizerFast

    folder.mkdir()
    for file in checkpoint.iterdir():
        if file.suffix == ".safetensors" or file.name in {"config.json", "generation_config.json"}:
            (folder / file.name).symlink_to(file)
    words = {f"<{token}>": token for token in range(AutoConfig.from_pretrained(checkpoint).vocab_size)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<0>"))
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=f"<{END}>").save_pretrained(folder)
    return folder


def tokens_of(result: GenerateResult) -> list[int]:
    """The tokens of a spelled text, with the one that ended it."""
    tokens = [int(number) for number in re.findall(r"<(\d+)>", result.text)]
    return [*tokens, END] if result.finish_reason == "stop" else tokens


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
    tokens: int = 0


def answers(engine: PathEngine, asked: Asked) -> Answers:
    """On the engine's present path."""
    return scored(engine, asked.scores), generated(engine, asked.prompts)


def answers_together(engine: PathEngine, asked: Asked, paths: list[Layers]) -> list[Answers]:
    """On every path, all paths at once."""
    scores = {(p, i): r for p, i, r in engine.score_paths(asked.scores, paths)}
    texts = {(p, i): r for p, i, r in engine.generate_paths(asked.prompts, paths)}
    return [
        ([scores[p, i] for i in range(len(asked.scores))], [texts[p, i] for i in range(len(asked.prompts))])
        for p in range(len(paths))
    ]


def compare(
    figures: Figures, name: str, mine: Answers, reference: Answers, asked: Asked, judge: PathEngine
) -> None:
    """Hold one side against the reference; `judge` is the reference engine on this path."""
    difference = largest_difference(mine[0], reference[0])
    figures.largest = max(figures.largest, difference)
    assert difference < TOLERANCE, f"{name}: {difference}"
    for prompt, one, other in zip(asked.prompts, mine[1], reference[1], strict=True):
        a, b = tokens_of(one), tokens_of(other)
        assert (len(a), len(b)) == (one.n_tokens, other.n_tokens)
        figures.texts += 1
        figures.tokens += len(b)
        if a != b:
            figures.ties.append(f"{name}: {gap(judge, prompt, a, b):.1e}")


def gap(judge: PathEngine, prompt: GenerateRequest, a: list[int], b: list[int]) -> float:
    """How much likelier one of two tokens is where two greedy texts part; fails where that is no tie."""
    at = next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    request = ScoreRequest(context=(*prompt.prompt, *b[:at]), continuations=((a[at],), (b[at],)))
    (result,) = scored(judge, [request])
    found = abs(result.logprobs[0] - result.logprobs[1])
    assert found < NEAR_TIE, f"{a} and {b} part at {at}, where one is {found} likelier"
    return found


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
