"""Specialists of the demo checkpoint: copies of it, each trained further on one skill, in the form of our probes.

    arithmetic   sums, products and roots as in `arithmetic-easy-scored`
    rules        relations, patterns and series as in `reasoning-easy-scored`
    facts        orders, swaps, elimination, chains, gifts and moves as in `reasoning-medium-scored`

Each is better at its own skill than the base and the others, so that a merge can be better on the sum than each of them.
Questions are drawn anew from the probes' generators, with seeds of their own, and none is a question of a probe, its examples included.
Only the MLPs of the last blocks are trained, with the loss on the answer alone. The three take some minutes on one core, and
are kept in MERGEBOARD_TEST_CACHE.

    python -m tests.support.specialists FOLDER       train all that are not there
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from evals.probes import Difficulty, Form, Split, arithmetic, get_probe, reasoning
from evals.probes.prompts import Ask, Style, prompt_text
from evals.scores import ChatTemplate
from recipes.demo import BASE, ensure_demo_checkpoint

PROBES = {
    "arithmetic": "arithmetic-easy-scored",
    "rules": "reasoning-easy-scored",
    "facts": "reasoning-medium-scored",
}
"""Name of each specialist, and the probe whose skill it has."""
TRAINED_BLOCKS = 8
_STEPS, _BATCH, _RATE, _WARM_UP = 150, 16, 3e-4, 15


class Question(NamedTuple):
    """A training question: what is asked, and the answer with the space before it."""

    text: str
    lead: str
    answer: str


def ensure_specialist(name: str, cache: Path) -> Path:
    """Directory of a specialist, trained on first use; safe for concurrent processes."""
    from filelock import FileLock

    target = cache / f"specialists-{_key()}" / name
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                scratch = target.with_name(f".{name}")
                shutil.rmtree(scratch, ignore_errors=True)
                train(ensure_demo_checkpoint(cache / "home", BASE), scratch, name)
                scratch.rename(target)
    return target


def cache_folder() -> Path:
    """The folder that specialists are kept in."""
    return Path(os.environ.get("MERGEBOARD_TEST_CACHE", Path(__file__).parents[2] / "test-output"))


def train(source: Path, target: Path, name: str, *, steps: int = _STEPS) -> list[float]:
    """Train a copy of a Llama checkpoint on a skill and write it as bfloat16; returns the loss of each step."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(source))
    model = AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32)
    model.requires_grad_(False)
    trained = [p for block in model.model.layers[-TRAINED_BLOCKS:] for p in block.mlp.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=_RATE, weight_decay=0.01)
    questions = training_questions(name)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - step / steps)
        ids, labels = _batch(tokenizer, [next(questions) for _ in range(_BATCH)])
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        asked = labels[:, 1:] >= 0
        logits = model.lm_head(hidden[asked])
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][asked])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.to(torch.bfloat16).save_pretrained(target)
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / file, target / file)
    return losses


def _batch(tokenizer: Any, questions: list[Question]) -> tuple[Any, Any]:
    """Token ids, padded on the right, and labels: the answers' ids, elsewhere -100."""
    import torch

    rows = []
    for question in questions:
        ask = Ask(question=question.text, lead=question.lead)
        prompt = prompt_text(tokenizer, ChatTemplate.OFF, Style(), ask)
        ids = tokenizer.encode(prompt + question.answer + "\n")
        rows.append((ids, len(tokenizer.encode(prompt))))
    # Causal attention: what follows a text changes nothing in it, so that padding needs no mask.
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    ids, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
    for row, (tokens, start) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, start : len(tokens)] = ids[row, start : len(tokens)]
    return ids, labels


def training_questions(name: str) -> Iterator[Question]:
    """Questions of a skill without end, the same at each call; none is one of the probe or of its examples."""
    rng, probed, number = random.Random(f"specialist {name}"), probe_questions(name), 0
    while True:
        question = _QUESTIONS[name](rng, number)
        number += 1
        if question.text not in probed:
            yield question


def _arithmetic(rng: random.Random, number: int) -> Question:
    item = arithmetic._easy(rng, number)
    return Question(item.question, "", f" {item.answer}")


def _riddle(difficulty: Difficulty, rng: random.Random, number: int) -> Question:
    makers = reasoning._GENERATORS[difficulty]
    riddle = makers[number % len(makers)](rng)
    return Question(riddle.question, f" {riddle.stem}", f" {riddle.right}")


_QUESTIONS: dict[str, Callable[[random.Random, int], Question]] = {
    "arithmetic": _arithmetic,
    "rules": functools.partial(_riddle, Difficulty.EASY),
    "facts": functools.partial(_riddle, Difficulty.MEDIUM),
}


def probe_questions(name: str) -> frozenset[str]:
    """All questions of the probe of a skill: search set, confirmation set and few-shot examples of both forms."""
    key = PROBES[name]
    probes = [
        get_probe(f"{form}-{split}")
        for form in (key, key.replace(Form.SCORED, Form.GENERATED))
        for split in Split
    ]
    examples = {
        example.question.split(" Answer with one of:")[0]
        for probe in probes
        for example in probe.style.examples
    }
    return frozenset({item.question for probe in probes for item in probe.items} | examples)


def _key() -> str:
    """Digest of the code that makes the specialists."""
    files = (__file__, arithmetic.__file__, reasoning.__file__)
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]


def main(folder: Path) -> None:
    """Train all that are not there, and print how long it took."""
    for name in PROBES:
        start = time.monotonic()
        print(name, ensure_specialist(name, folder), f"{time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
