"""What each layer of a checkpoint keeps of a sequence, by config.json alone: keys and values of all tokens or a window, or a state.

Kinds are those of transformers' `layer_types`. Where a config lacks that list, the rule that the family's configuration class has
in its place is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Json = Mapping[str, Any]

FULL, SLIDING, CHUNKED, LINEAR = (
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
)

_STATE_BYTES = 4
"""Bytes of a number of a recurrent state, which engines keep in float32; those of the convolution before it are counted alike."""


def _every(interval: int) -> Callable[[int], bool]:
    return lambda layer: (layer + 1) % interval == 0


_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4, "gpt_oss": 2, "olmo3": 4}
"""Families whose layers all have a window but for every n-th, by `model_type`; `sliding_window_pattern` sets another n."""


def layer_kinds(config: Json, model_type: str, n_layers: int) -> tuple[str, ...]:
    """The kind of each layer; empty if all are of one kind with keys and values of all tokens."""
    listed = config.get("layer_types")
    if isinstance(listed, list):
        return tuple(map(str, listed))
    interval = config.get("full_attention_interval")
    if isinstance(interval, int) and interval > 0:
        return _by(_every(interval), LINEAR, n_layers)
    if not _window(config):
        return ()
    if model_type in _PATTERNS:
        pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
        return _by(
            _every(pattern if isinstance(pattern, int) and pattern > 0 else _PATTERNS[model_type]),
            SLIDING,
            n_layers,
        )
    first = config.get("max_window_layers") if config.get("use_sliding_window") else 0
    first = first if isinstance(first, int) else 0
    return _by(lambda layer: layer < first, SLIDING, n_layers)


def _by(full: Callable[[int], bool], other: str, n_layers: int) -> tuple[str, ...]:
    return tuple(FULL if full(layer) else other for layer in range(n_layers))


def _window(config: Json) -> bool:
    return bool(config.get("sliding_window")) and config.get("use_sliding_window", True) is not False


def keeps_keys(kind: str) -> bool:
    """Whether a layer of this kind has keys and values; others have a state of constant size, or none."""
    return kind != LINEAR and "attention" in kind


def state_bytes(config: Json) -> int:
    """Bytes of the state that one layer of linear attention (gated delta net) keeps of a sequence; 0 for other configs."""
    try:
        heads, key = config["linear_num_value_heads"], config["linear_key_head_dim"]
        value, kernel = config["linear_value_head_dim"], config["linear_conv_kernel_dim"]
        columns = 2 * config["linear_num_key_heads"] * key + heads * value
        return int(_STATE_BYTES * (heads * key * value + columns * (kernel - 1)))
    except (KeyError, TypeError):
        return 0
