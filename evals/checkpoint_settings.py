"""What a checkpoint's own files say, besides its weights and tokenizer, that changes a score: read here, once, for every engine.

The reference is lm-eval's `hf` model, with which the leaderboards were made. docs/agreement.md lists the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.errors import EngineError
from evals.live_paths import read_config

LENGTH_DEPENDENT_ROPES = frozenset({"longrope", "su", "dynamic"})
"""Rotary embeddings whose factors transformers chooses by the length of the sequence."""

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
"""Settings that change a greedy text in transformers, and their values besides null that change nothing. Engines refuse to
generate with others. `temperature`, `top_k`, `top_p` and their like have no effect on a greedy text."""


@dataclass(frozen=True)
class GenerationSettings:
    """What generation_config.json (config.json where there is none) says about greedy texts."""

    repetition_penalty: float = 1.0
    """Positive logits of tokens that the prompt or the text has are divided by it, negative ones multiplied; 1 is no penalty."""
    unsupported: str = ""
    """The first setting that engines do not honour, as `name: value`; empty where there is none."""
    source: str = ""
    """Path of the file."""

    def require_supported(self) -> None:
        """Raise EngineError where texts would not be those that transformers writes."""
        if self.unsupported:
            raise EngineError(
                f"{self.source} says {self.unsupported}, which changes what transformers writes and which no engine here does: "
                "remove it in a copy of the checkpoint, or choose benchmarks without generated answers."
            )


def read_generation_settings(checkpoint: Path) -> GenerationSettings:
    """The checkpoint's settings; raises EngineError for a file that cannot be read or a penalty that is no positive number."""
    path = checkpoint / "generation_config.json"
    if path.is_file():
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise EngineError(f"{path} cannot be read ({error}): mend or remove it.") from error
    else:
        path, stated = checkpoint / "config.json", read_config(checkpoint)
    if not isinstance(stated, dict):
        raise EngineError(f"{path} holds no JSON object: mend or remove it.")
    penalty = stated.get("repetition_penalty")
    penalty = 1.0 if penalty is None else penalty
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 < penalty < float("inf"):
        raise EngineError(
            f"{path} says repetition_penalty: {penalty!r}, which is no positive number: mend it."
        )
    unsupported = next(_unsupported(stated), "")
    return GenerationSettings(float(penalty), unsupported, str(path))


def _unsupported(stated: Mapping[str, Any]) -> Iterator[str]:
    for name, neutral in NEUTRAL.items():
        value = stated.get(name)
        if value is not None and value not in neutral:
            yield f"{name}: {json.dumps(value)[:80]}"


def constant_rope_length(config: Mapping[str, Any]) -> int | None:
    """Longest sequence in tokens up to which the rotary factors are the same; null where they do not depend on its length.

    As transformers' `dynamic_rope_update`: `longrope` takes its long factors beyond the original length, `dynamic` new ones
    for every length beyond `max_position_embeddings`.
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
    """The rotary settings, of each kind of layer where they differ."""
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name)
        if isinstance(rope, Mapping):
            yield rope
            yield from (each for each in rope.values() if isinstance(each, Mapping))
