"""A real checkpoint with a layer whose attention helps when it runs again, and whose MLP does harm: the whole block hurts.

Registers and norms are those of `planted_circuit`. In every layer but the first, attention and MLP multiply the evidence for
the right answer: the planted layer's attention strengthens it and its MLP weakens it more; all other halves weaken it a little.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evals.probes import get_probe
from evals.probes.prompts import prompt_text
from evals.scores import ChatTemplate
from tests.support.planted_circuit import (
    EVIDENCE,
    FEATURES,
    KEY,
    NOISE,
    Matrix,
    word_tokenizer,
    write_checkpoint,
)

N_LAYERS = 5
STRONGER, HARM = 1.8, 0.4
"""Factors of the evidence in the planted layer's attention and MLP; their product is below 1."""
FADES = 0.93, 0.9
"""Factors in the attention and the MLP of every other layer."""


@dataclass(frozen=True)
class PlantedAttention:
    """The checkpoint and the layer."""

    checkpoint: Path
    layer: int


def plant_attention(folder: Path, seed: int) -> PlantedAttention:
    """Write the checkpoint of one seed: another layer, other features, other noise."""
    rng = np.random.default_rng(seed)
    layer = random.Random(seed).randrange(1, N_LAYERS)
    splits = [get_probe(f"{KEY}-{split}") for split in ("search", "confirmation")]
    items = [item for probe in splits for item in probe.items]
    texts = [
        prompt_text(None, ChatTemplate.OFF, probe.style, probe.asks(item)[0])
        for probe in splits
        for item in probe.items
    ]
    tokenizer = word_tokenizer(folder, [f"{text} {' '.join(items[0].choices)}" for text in texts])
    features = rng.standard_normal((len(tokenizer), FEATURES)) / np.sqrt(FEATURES)
    bags = np.array([features[tokenizer.encode(text)].mean(axis=0) for text in texts])
    choices = len(items[0].choices)
    factors = [(STRONGER, HARM) if n == layer else FADES for n in range(1, N_LAYERS)]
    right = np.eye(choices)[[item.answer for item in items]]
    evidence = (EVIDENCE * right + NOISE * rng.standard_normal(right.shape)) / np.prod(factors)
    one, memo = np.eye(choices), np.eye(FEATURES)
    maps: list[list[tuple[str, str, Matrix]]] = [
        [("bag", "s", np.linalg.pinv(bags) @ evidence), ("s", "s", -one), ("bag", "bag", -memo)]
    ]
    maps += [[("s", "s", (mlp - 1) * one)] for _, mlp in factors]
    attention = {n: strength - 1 for n, (strength, _) in enumerate(factors, start=1)}
    write_checkpoint(folder, tokenizer, features, maps, items[0], attention)
    return PlantedAttention(folder, layer)
