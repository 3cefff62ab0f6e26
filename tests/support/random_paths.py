"""Random layer paths, and the answers of two engines on them compared token by token."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from evals.engine import GenerateRequest, GenerateResult, PathEngine, ScoreRequest, ScoreResult
from recipes.layer_path import LayerPath
from tests.support.engine_requests import TOLERANCE, generated, largest_difference, scored

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


def random_paths(kind: Kind, n_layers: int, each: int = EACH) -> list[Layers]:
    """So many different paths: one to three blocks, layers repeated in place, layers left out, or lists in no order."""
    rng = random.Random(f"0 {kind}")
    make = _KINDS[kind]
    paths: list[Layers] = []
    for _ in range(1000):
        path = make(rng, n_layers)
        if len(path) <= 2 * n_layers and path not in paths:
            paths.append(path)
        if len(paths) == each:
            return paths
    # A small stack has few paths of some kinds; then some come twice.
    return [paths[number % len(paths)] for number in range(each)]


def _blocks(rng: random.Random, n: int) -> Layers:
    blocks = []
    for _ in range(rng.randrange(1, 4)):
        i = rng.randrange(n)
        blocks.append((i, rng.randrange(i + 1, min(n, i + n // 2) + 1)))
    return LayerPath.of_blocks(blocks, n).source_layers


def _repeats(rng: random.Random, n: int) -> Layers:
    times = (f"{layer}*{rng.randrange(2, 5)}" for layer in rng.sample(range(n), rng.randrange(1, 3)))
    return LayerPath.parse(f"repeat:{';'.join(times)}", n).source_layers


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


def compare(
    figures: Figures, name: str, answers: Answers, reference: Answers, asked: Asked, judge: PathEngine
) -> None:
    """Hold one side against the reference; `judge` is the reference engine on this path."""
    difference = largest_difference(answers[0], reference[0])
    figures.largest = max(figures.largest, difference)
    assert difference < TOLERANCE, f"{name}: {difference}"
    for prompt, one, other in zip(asked.prompts, answers[1], reference[1], strict=True):
        a, b = tokens_of(one), tokens_of(other)
        assert (len(a), len(b)) == (one.n_tokens, other.n_tokens)
        figures.texts += 1
        figures.tokens += len(b)
        if a != b:
            figures.ties.append(f"{name}: {gap(judge, prompt, a, b):.1e}")


def text_differences(
    judge: PathEngine,
    prompts: list[GenerateRequest],
    answers: list[GenerateResult],
    others: list[GenerateResult],
) -> tuple[int, int]:
    """How many greedy texts part at a tie of two tokens, and how many elsewhere; `judge` is the reference engine on the path."""
    ties = parted = 0
    for prompt, one, other in zip(prompts, answers, others, strict=True):
        a, b = tokens_of(one), tokens_of(other)
        if a != b:
            tie = abs(likelier(judge, prompt, a, b)) < NEAR_TIE
            ties, parted = ties + tie, parted + (not tie)
    return ties, parted


def likelier(judge: PathEngine, prompt: GenerateRequest, a: list[int], b: list[int]) -> float:
    """How much likelier the first text's token is where two greedy texts part."""
    at = next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    request = ScoreRequest(context=(*prompt.prompt, *b[:at]), continuations=((a[at],), (b[at],)))
    (result,) = scored(judge, [request])
    return result.logprobs[0] - result.logprobs[1]


def gap(judge: PathEngine, prompt: GenerateRequest, a: list[int], b: list[int]) -> float:
    """How much likelier one of two tokens is where two greedy texts part; fails where that is no tie."""
    at = next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    request = ScoreRequest(context=(*prompt.prompt, *b[:at]), continuations=((a[at],), (b[at],)))
    (result,) = scored(judge, [request])
    gap = abs(result.logprobs[0] - result.logprobs[1])
    assert gap < NEAR_TIE, f"{a} and {b} part at {at}, where one is {gap} likelier"
    return gap
