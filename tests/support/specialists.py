"""Specialists: a small model trained a little on two skills, and two copies of it trained further on one each, in the form of our probes.

A merge of them can truly be better on the sum than each of them. Training is seeded, takes a minute or two on two quiet cores, and is
kept in MERGEBOARD_TEST_CACHE. `train` works on any checkpoint, the embedded demo model included.

    python -m tests.support.specialists FOLDER       make them, and print the value of each in both probes
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.engine import ScoreRequest, ScoreResult
from evals.probes import Scoring, Split, arithmetic, get_probe, reasoning
from evals.probes.choice import ChoiceItem
from evals.probes.prompts import Ask, prompt_text
from evals.probes.results import Difficulty
from evals.scores import ChatTemplate
from tests.support.tiny_checkpoints import tiny_checkpoint

ARITHMETIC, REASONING = "arithmetic-easy-scored", "reasoning-easy-scored"
KEYS = (ARITHMETIC, REASONING)
LAYERS, HIDDEN = 2, 64
_BASE_STEPS, _STEPS, _BATCH, _RATE = 150, 150, 16, 3e-3


@dataclass(frozen=True)
class Specialists:
    """Folders of the checkpoints."""

    base: Path
    arithmetic: Path
    reasoning: Path


def specialists(cache: Path) -> Specialists:
    """Make the three checkpoints, or take them from the cache."""
    source = Path(__file__).read_bytes()
    folder = cache / f"specialists-{hashlib.sha256(source).hexdigest()[:12]}"
    made = Specialists(folder / "base", folder / "arithmetic", folder / "reasoning")
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        start = tiny_checkpoint(folder / "start", layers=LAYERS, hidden=HIDDEN, dtype="float32", seed=1)
        train(start, made.base, KEYS, steps=_BASE_STEPS, seed=1)
        train(made.base, made.arithmetic, (ARITHMETIC,), steps=_STEPS, seed=2)
        train(made.base, made.reasoning, (REASONING,), steps=_STEPS, seed=3)
        (folder / "done").touch()
    return made


def train(
    source: Path, target: Path, keys: Sequence[str], *, steps: int, seed: int, rate: float = _RATE
) -> None:
    """Train a checkpoint on questions like those of the probes, but none of them, and save it beside its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(str(source))
    model = AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    texts = {key: _texts(key, tokenizer, random.Random(f"{key} {seed}")) for key in keys}
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (1 - step / steps)
        batch = [next(texts[rng.choice(list(keys))]) for _ in range(_BATCH)]
        length = max(len(ids) for ids, _ in batch)
        ids = torch.zeros((len(batch), length), dtype=torch.long)
        labels = torch.full((len(batch), length), -100, dtype=torch.long)
        mask = torch.zeros((len(batch), length), dtype=torch.long)
        for row, (tokens, begin) in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            labels[row, begin : len(tokens)] = ids[row, begin : len(tokens)]
            mask[row, : len(tokens)] = 1
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, target / name)


def _texts(key: str, tokenizer: Any, rng: random.Random) -> Iterator[tuple[list[int], int]]:
    """Token ids of prompts with their answers, and where the answer begins; never a question of the probes."""
    probe = get_probe(f"{key}-{Split.SEARCH}")
    known = {item.question for split in Split for item in get_probe(f"{key}-{split}").items}
    number = 0
    while True:
        number += 1
        ask, answer, question = _question(key, rng, number)
        if question in known:
            continue
        prompt = prompt_text(tokenizer, ChatTemplate.OFF, probe.style, ask)
        ids = tokenizer.encode(prompt + answer)
        yield ids, max(1, min(len(tokenizer.encode(prompt)), len(ids) - 1))


def _question(key: str, rng: random.Random, number: int) -> tuple[Ask, str, str]:
    if key == ARITHMETIC:
        item = arithmetic._easy(rng, number)
        return Ask(question=item.question), f" {item.answer}", item.question
    makers = reasoning._GENERATORS[Difficulty.EASY]
    riddle: ChoiceItem = makers[number % len(makers)](rng).item(rng.randrange(3))
    ask = get_probe(f"{key}-{Split.SEARCH}").asks(riddle)[0]
    return ask, ask.options[riddle.answer], riddle.question


class Asked:
    """Values of both probes for weights in this process: what the transformers engine would give, without its start."""

    def __init__(self, checkpoint: Path, split: Split = Split.SEARCH) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(str(checkpoint), dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
        self._probes = [get_probe(f"{key}-{split}") for key in KEYS]
        self._requests = [probe.requests(tokenizer, ChatTemplate.OFF) for probe in self._probes]

    def weights(self) -> dict[str, Any]:
        """A copy of the weights by name."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def values(self, weights: dict[str, Any]) -> tuple[float, ...]:
        """Value of each probe with these weights."""
        self.model.load_state_dict(weights)
        return tuple(
            probe.score(self._score(requests)).value(Scoring.CORRECTED)
            for probe, requests in zip(self._probes, self._requests, strict=True)
        )

    def _score(self, requests: Sequence[Any]) -> list[ScoreResult]:
        torch = self._torch
        rows = [
            (n, c) for n, r in enumerate(requests) if isinstance(r, ScoreRequest) for c in r.continuations
        ]
        length = max(len(requests[n].context) + len(c) for n, c in rows)
        ids, mask = (
            torch.zeros((len(rows), length), dtype=torch.long),
            torch.zeros((len(rows), length), dtype=torch.long),
        )
        for row, (n, continuation) in enumerate(rows):
            tokens = [*requests[n].context, *continuation]
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        sums: list[list[float]] = [[] for _ in requests]
        with torch.no_grad():
            logprobs = torch.log_softmax(self.model(input_ids=ids, attention_mask=mask).logits, dim=-1)
        for row, (n, continuation) in enumerate(rows):
            begin = len(requests[n].context)
            places = range(begin - 1, begin - 1 + len(continuation))
            sums[n].append(
                float(sum(logprobs[row, at, token] for at, token in zip(places, continuation, strict=True)))
            )
        return [ScoreResult(logprobs=tuple(each), is_greedy=(False,) * len(each)) for each in sums]


if __name__ == "__main__":
    made_here = specialists(Path(sys.argv[1]))
    for folder_ in (made_here.base, made_here.arithmetic, made_here.reasoning):
        asked = Asked(folder_)
        print(folder_, *(f"{value:.4f}" for value in asked.values(asked.weights())), flush=True)
