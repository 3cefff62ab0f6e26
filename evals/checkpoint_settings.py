"""Settings in a checkpoint's files, besides weights and tokenizer, that change a score; every engine reads them here.

The reference is lm-eval's `hf` model, which the leaderboards used. docs/agreement.md lists all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.checkpoint_config import read_config
from evals.errors import EngineError

LENGTH_DEPENDENT_ROPES = frozenset({"longrope", "su", "dynamic"})
"""Rotary embeddings whose factors depend on the sequence length in transformers."""

NEUTRAL: dict[str, tuple[object, ...]] = {
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "bad_words_ids": ((), []),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "suppress_tokens": ((), []),
    "begin_suppress_tokens": ((), []),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "sequence_bias": ((), [], {}),
    "guidance_scale": (1, 1.0),
    "watermarking_config": ({},),
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0, 0.0),
    "dola_layers": (),
    "constraints": ([],),
    "force_words_ids": ([],),
    "token_healing": (False,),
    "stop_strings": ("", []),
    "max_time": (),
}
"""Settings that change greedy generation in transformers, with their values besides null that have no effect. Engines refuse to
generate with other values. `temperature`, `top_k`, `top_p` and similar have no effect on greedy generation."""


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of generation_config.json, or of config.json if it is missing, that affect greedy generation."""

    repetition_penalty: float = 1.0
    """Positive logits of tokens in the prompt or the text are divided by it, negative ones multiplied; 1 is no penalty."""
    unsupported: str = ""
    """The first setting that the engines do not support, as `name: value`; empty if there is none."""
    source: str = ""
    """Path of the file."""

    def require_supported(self) -> None:
        """Raise EngineError if the engines would generate other texts than transformers."""
        if self.unsupported:
            raise EngineError(
                f"{self.source} says {self.unsupported}, which changes the texts of transformers and is not supported by the engines: "
                "remove it in a copy of the checkpoint, or choose benchmarks without generated answers."
            )


def read_generation_settings(checkpoint: Path) -> GenerationSettings:
    """Read the checkpoint's settings; EngineError if a file cannot be read or the penalty is not a positive number."""
    path = checkpoint / "generation_config.json"
    if path.is_file():
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise EngineError(f"{path} cannot be read ({error}): repair or remove it.") from error
    else:
        path, stated = checkpoint / "config.json", read_config(checkpoint)
    if not isinstance(stated, dict):
        raise EngineError(f"{path} holds no JSON object: repair or remove it.")
    penalty = stated.get("repetition_penalty")
    penalty = 1.0 if penalty is None else penalty
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 < penalty < float("inf"):
        raise EngineError(
            f"{path} says repetition_penalty: {penalty!r}, which is not a positive number: correct it."
        )
    unsupported = next(_unsupported(stated), "")
    return GenerationSettings(float(penalty), unsupported, str(path))


def _unsupported(stated: Mapping[str, Any]) -> Iterator[str]:
    for name, neutral in NEUTRAL.items():
        value = stated.get(name)
        if value is not None and value not in neutral:
            yield f"{name}: {json.dumps(value)[:80]}"


def constant_rope_length(config: Mapping[str, Any]) -> int | None:
    """Longest sequence, in tokens, up to which the rotary factors are constant; None if they do not depend on the length.

    As in transformers' `dynamic_rope_update`: `longrope` switches to its long factors beyond the original length, `dynamic`
    computes new ones for every length beyond `max_position_embeddings`.
    """
    config = config.get("text_config") or config
    limits = []
    for rope in _ropes(config):
        kind = rope.get("rope_type", rope.get("type"))
        if kind not in LENGTH_DEPENDENT_ROPES:
            continue
        limit = config.get("max_position_embeddings")
        if kind != "dynamic":
            original = "original_max_position_embeddings"
            limit = rope.get(original) or config.get(original) or limit
        if limit:
            limits.append(int(limit))
    return min(limits, default=None)


def _ropes(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rotary settings; one entry per kind of layer if they differ."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name)
        if isinstance(rope, Mapping):
            yield rope
            yield from (layer_rope for layer_rope in rope.values() if isinstance(layer_rope, Mapping))
