"""A real checkpoint with a circuit planted in it: three layers in a row whose repetition helps with every question, and five
decoys, layers whose repetition helps with the questions of the search set alone.

The residual stream is a few registers beside a large constant, which makes the norms near-identities and the gates open, so
that each MLP is a linear map between registers. Attention is used once: layer 0 averages the tokens' features into a bag that
tells the probe's questions apart. What is in the registers, by layer:

    0           bag -> memo (who is asked) and evidence (for the right answer, with noise); repeating it changes nothing
    circuit     evidence -> u, u -> v, v -> evidence: the more often, and in full, the stronger the evidence
    decoy       adds what it has learnt by heart: the right answer of each search question, any answer of the others; its
                neighbour on the circuit's side takes the same away, so that only a repetition of the decoy alone shows, and
                no block around the circuit gains by reaching into a decoy
    ordinary    evidence fades
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.probes import get_probe
from evals.probes.choice import ChoiceItem
from evals.probes.prompts import prompt_text
from evals.scores import ChatTemplate

KEY = "emotion-easy-scored"
N_DECOYS = 5
FEATURES = 128
CONSTANT = 1000.0
OPEN = 20.0
SELF = 20.0
FADE = 0.8
GAMMA = 0.5
EVIDENCE, NOISE, HEARSAY = 1.1, 0.45, 0.7
N_LAYERS = 1 + 2 * N_DECOYS + 2 + 3

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Planted:
    """Where things are."""

    checkpoint: Path
    circuit: tuple[int, int]
    decoys: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Registers:
    """Places in the residual stream."""

    choices: int

    def __getattr__(self, name: str) -> slice:
        at, places = 0, {}
        sizes = {
            "features": FEATURES,
            "bag": FEATURES,
            "memo": FEATURES,
            "s": 0,
            "u": 0,
            "v": 0,
            "constant": 1,
        }
        for key, size in sizes.items():
            width = size or self.choices
            places[key] = slice(at, at + width)
            at += width
        return places[name]

    @property
    def width(self) -> int:
        return (self.constant.stop + 7) // 8 * 8


def plant(folder: Path, seed: int) -> Planted:
    """Write the checkpoint of one seed: another order of circuit and decoys, other noise, other things learnt by heart."""
    rng = np.random.default_rng(seed)
    splits = [get_probe(f"{KEY}-{split}") for split in ("search", "confirmation")]
    items = [item for probe in splits for item in probe.items]
    texts = [
        prompt_text(None, ChatTemplate.OFF, probe.style, probe.asks(item)[0])  # type: ignore[arg-type]  # no template, no tokenizer
        for probe in splits
        for item in probe.items
    ]
    tokenizer = word_tokenizer(folder, [f"{text} {' '.join(items[0].choices)}" for text in texts])
    features = rng.standard_normal((len(tokenizer), FEATURES)) / np.sqrt(FEATURES)
    bags = np.array([features[tokenizer.encode(text)].mean(axis=0) for text in texts])
    kinds = _order(random.Random(seed))
    weights = _layers(kinds, bags, items, len(splits[0].items), rng)
    write_checkpoint(folder, tokenizer, features, weights, items[0])
    start = kinds.index("circuit-0")
    decoys = tuple((n, n + 1) for n, kind in enumerate(kinds) if kind.startswith("decoy"))
    return Planted(folder, (start, start + 3), decoys)


def _order(rng: random.Random) -> list[str]:
    """Kinds of the layers: pairs of a decoy and the layer that hides it, and the circuit with ordinary layers around it."""
    numbers = list(range(N_DECOYS))
    rng.shuffle(numbers)
    before = rng.randrange(N_DECOYS + 1)
    left = [kind for n in numbers[:before] for kind in (f"decoy-{n}", f"hide-{n}")]
    right = [kind for n in numbers[before:] for kind in (f"hide-{n}", f"decoy-{n}")]
    circuit = ["ordinary", "circuit-0", "circuit-1", "circuit-2", "ordinary"]
    return ["first", *left, *circuit, *right]


def _later_gain(kinds: list[str], layer: int) -> float:
    """How much of what is added to the evidence after a layer is left at the end, when every layer runs once."""
    later = kinds[layer + 1 :]
    fades = sum(kind == "ordinary" or kind.startswith("hide") for kind in later)
    return float(FADE**fades * (1 + GAMMA if "circuit-0" in later else 1.0))


def _layers(
    kinds: list[str], bags: Matrix, items: list[ChoiceItem], n_search: int, rng: np.random.Generator
) -> list[list[tuple[str, str, Matrix]]]:
    """Each layer's linear maps, (from register, to register, matrix)."""
    n, choices = len(items), len(items[0].choices)
    right = np.eye(choices)[[item.answer for item in items]]
    one, by_heart = np.eye(choices), np.linalg.pinv(bags)
    scale = 1.0 / _later_gain(kinds, 0)
    evidence = scale * (EVIDENCE * right + NOISE * rng.standard_normal((n, choices)))
    memo = np.eye(FEATURES)
    found: list[list[tuple[str, str, Matrix]]] = []
    learnt: dict[str, Matrix] = {}
    for kind in kinds:
        _, _, number = kind.partition("-")
        if number and number not in learnt and not kind.startswith("circuit"):
            said = right.copy()
            said[n_search:] = one[rng.integers(0, choices, n - n_search)]
            gain = _later_gain(kinds, kinds.index(f"decoy-{number}"))
            learnt[number] = by_heart @ (HEARSAY / gain * said)
        if kind == "first":
            maps = [
                ("bag", "s", by_heart @ evidence), ("s", "s", -one), ("bag", "memo", memo), ("memo", "memo", -memo),
                ("bag", "bag", -memo),
            ]  # fmt: skip
        elif kind.startswith("hide"):
            # What the decoy has added before fades with the rest; what it adds afterwards does not.
            left = FADE if kinds.index(f"decoy-{number}") < kinds.index(kind) else 1.0
            maps = [("s", "s", (FADE - 1) * one), ("memo", "s", -left * learnt[number])]
        elif kind.startswith("decoy"):
            maps = [("memo", "s", learnt[number])]
        elif kind == "ordinary":
            maps = [("s", "s", (FADE - 1) * one)]
        else:
            source, target = {"0": ("s", "u"), "1": ("u", "v"), "2": ("v", "s")}[number]
            maps = [(source, target, (GAMMA if number == "2" else 1.0) * one)]
        found.append(maps)
    return found


def word_tokenizer(folder: Path, texts: list[str]) -> Any:
    """One token per word and mark of the probe's texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {word: n for n, word in enumerate(["<end>", "<unknown>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    inner.pre_tokenizer = split
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<end>", pad_token="<end>", unk_token="<unknown>"
    )
    made.save_pretrained(folder)
    return made


def write_checkpoint(
    folder: Path,
    tokenizer: Any,
    features: Matrix,
    layers: list[list[tuple[str, str, Matrix]]],
    item: ChoiceItem,
    attention: Mapping[int, float] | None = None,
) -> None:
    """Write the checkpoint; `attention` adds so many times the evidence to the evidence, by layer, in the layer's attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    at = Registers(len(item.choices))
    inner = max(sum(m.shape[1] for _, _, m in maps) for maps in layers)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=at.width, intermediate_size=inner, num_hidden_layers=len(layers),
        num_attention_heads=1, num_key_value_heads=1, head_dim=FEATURES, max_position_embeddings=512,
        tie_word_embeddings=False, eos_token_id=0, bos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("norm.weight"):
            tensor.fill_(CONSTANT / at.width**0.5)  # takes back what the norm divides by
    embedding = state["model.embed_tokens.weight"]
    embedding[:, at.features] = torch.tensor(features, dtype=torch.float32)
    embedding[:, at.constant] = CONSTANT
    for number, word in enumerate(item.choices):
        state["lm_head.weight"][tokenizer.convert_tokens_to_ids(word), at.s.start + number] = 1.0
    first = "model.layers.0.self_attn"
    state[f"{first}.v_proj.weight"][:, at.features] = torch.eye(FEATURES)
    state[f"{first}.o_proj.weight"][at.bag, :] = torch.eye(FEATURES)
    for layer, factor in (attention or {}).items():
        prefix = f"model.layers.{layer}.self_attn"
        for name in ("q", "k"):
            # Equal queries and keys of all frequencies: a token attends to itself alone, and moves its own evidence.
            state[f"{prefix}.{name}_proj.weight"][: FEATURES // 2, at.constant] = SELF / CONSTANT
        choices = at.s.stop - at.s.start
        state[f"{prefix}.v_proj.weight"][:choices, at.s] = torch.eye(choices)
        state[f"{prefix}.o_proj.weight"][at.s, :choices] = factor * torch.eye(choices)
    for layer, maps in enumerate(layers):
        mlp, begin = f"model.layers.{layer}.mlp", 0
        for source, target, matrix in maps:
            end = begin + matrix.shape[1]
            state[f"{mlp}.gate_proj.weight"][begin:end, at.constant] = OPEN / CONSTANT
            state[f"{mlp}.up_proj.weight"][begin:end, getattr(at, source)] = torch.tensor(
                matrix.T, dtype=torch.float32
            )
            state[f"{mlp}.down_proj.weight"][getattr(at, target), begin:end] += torch.eye(end - begin) / OPEN
            begin = end
    model.load_state_dict(state)
    model.save_pretrained(folder)
