"""How much one pass outside the scheduler may hold, from the device's memory. Pure arithmetic, no torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

TOKENS_CPU = 4096
ROWS_CPU = 256
PROMPTS_CPU = 64
HEAD_ROWS_CPU = 128

TOKENS_GPU = 16384
"""More tokens than this in one pass gain nothing: every kernel fills the device before."""
LEAST_TOKENS = 1024
ROWS_GPU = 2048
PROMPTS_GPU = 256
HEAD_ROWS_GPU = 2048
HEAD_BYTES = 1 << 29
"""What the rows of one head step may take on a GPU."""
SHARE = 0.5
"""Share of the free memory that a pass may take; the rest is for kernels' workspaces and CUDA graphs."""
COPIES = 5
"""Hidden states that are alive at once: the running ones, and one at each of log2(16) branches of a trie of 16 paths."""


@dataclass(frozen=True)
class Limits:
    """What the passes outside the scheduler have to work with, and how large they may be."""

    holders: int
    """KV caches of each layer."""
    blocks: int
    """Blocks of each holder."""
    block_size: int
    """Tokens of one block, as the attention kernels see it."""
    tokens: int = TOKENS_CPU
    """New tokens after which a batch is run."""
    rows: int = ROWS_CPU
    """Rows (path, prompt) that are decoded together."""
    prompts: int = PROMPTS_CPU
    """Prompts that are decoded together."""
    ahead: bool = False
    """Whether the next batch is planned while the device computes; on a CPU planning would take the cores from it."""

    @classmethod
    def least(cls, limits: Sequence[Limits]) -> Limits:
        """What every rank of a tensor-parallel engine can do."""
        return functools.reduce(
            lambda a, b: cls(*(min(getattr(a, f.name), getattr(b, f.name)) for f in fields(cls))), limits
        )


@dataclass(frozen=True)
class LayerShape:
    """Sizes of one rank's share of a decoder layer, in numbers of elements."""

    hidden: int
    intermediate: int
    query: int
    """Heads times head size."""
    key: int
    """KV heads times head size."""

    @classmethod
    def of(cls, config: Any, tensor_parallel: int) -> LayerShape:
        """From a transformers config."""
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        share = tensor_parallel
        return cls(
            config.hidden_size,
            -(-config.intermediate_size // share),
            -(-heads // share) * size,
            -(-kv_heads // share) * size,
        )


def bytes_per_token(shape: LayerShape, element_size: int) -> int:
    """Peak activations of one token in a pass through layers: hidden states with their residuals at every branch, what a layer
    holds of the hidden size (normed input, output), query, attention output and its copy, keys and values twice (as computed and
    as written), gate, up and their product."""
    hidden = (2 * COPIES + 3) * shape.hidden
    attention = 3 * shape.query + 4 * shape.key
    return element_size * (hidden + max(attention, 3 * shape.intermediate))


def tokens_in(free_bytes: int, per_token: int) -> int:
    """New tokens of a batch on a GPU that has so many bytes free."""
    room = int((free_bytes - HEAD_BYTES) * SHARE) // per_token
    return max(LEAST_TOKENS, min(TOKENS_GPU, room))


def head_rows(vocabulary: int) -> int:
    """Rows that a GPU gives to the head at once: logits in the model's dtype, in float32, and a temporary of float32.

    From the vocabulary alone, so that all ranks take as many steps: each gathers logits from all of them.
    """
    return max(HEAD_ROWS_CPU, min(HEAD_ROWS_GPU, HEAD_BYTES // (vocabulary * 12)))


def gpu_limits(
    holders: int, blocks: int, block_size: int, *, free_bytes: int, shape: LayerShape, element_size: int
) -> Limits:
    """Limits of a worker on a GPU."""
    tokens = tokens_in(free_bytes, bytes_per_token(shape, element_size))
    return Limits(
        holders,
        blocks,
        block_size,
        tokens,
        rows=min(ROWS_GPU, tokens),
        prompts=PROMPTS_GPU,
        ahead=True,
    )
