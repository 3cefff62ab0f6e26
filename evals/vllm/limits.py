"""Limits of one pass outside the scheduler, computed from the device's memory. Does not import torch."""

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
"""Maximum tokens of one pass; more are not faster, because the kernels already fill the device."""
LEAST_TOKENS = 1024
ROWS_GPU = 2048
PROMPTS_GPU = 256
HEAD_ROWS_GPU = 2048
HEAD_BYTES = 1 << 29
"""Maximum memory of one head step's logits on a GPU, in bytes."""
SHARE = 0.5
"""Share of the free memory that a pass may use; the rest is for kernel workspaces and CUDA graphs."""
COPIES = 5
"""Hidden states in memory at once: the running ones, and one at each of log2(16) branches of a trie of 16 paths."""


@dataclass(frozen=True)
class Limits:
    """KV cache sizes and batch limits of passes outside the scheduler."""

    holders: int
    """Number of KV caches of each layer."""
    blocks: int
    """Number of blocks of each holder."""
    block_size: int
    """Tokens per block of the attention kernels."""
    tokens: int = TOKENS_CPU
    """Number of new tokens at which a batch is run."""
    rows: int = ROWS_CPU
    """Maximum number of rows (path, prompt) decoded together."""
    prompts: int = PROMPTS_CPU
    """Maximum number of prompts decoded together."""
    ahead: bool = False
    """Whether the next batch is planned while the device computes; false on a CPU, where planning would compete for cores."""

    @classmethod
    def least(cls, limits: Sequence[Limits]) -> Limits:
        """The element-wise minimum over the ranks of a tensor-parallel engine."""
        return functools.reduce(
            lambda a, b: cls(*(min(getattr(a, f.name), getattr(b, f.name)) for f in fields(cls))), limits
        )


@dataclass(frozen=True)
class LayerShape:
    """Sizes of one rank's share of a decoder layer, in elements."""

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
    """Peak activation bytes of one token in a pass.

    Counted are hidden states and residuals at every branch, a layer's normed input and output, query, attention output and its
    copy, keys and values twice (as computed and as written), gate, up and their product.
    """
    hidden = (2 * COPIES + 3) * shape.hidden
    attention = 3 * shape.query + 4 * shape.key
    return element_size * (hidden + max(attention, 3 * shape.intermediate))


def tokens_in(free_bytes: int, per_token: int) -> int:
    """Number of new tokens of a batch on a GPU with `free_bytes` of free memory."""
    room = int((free_bytes - HEAD_BYTES) * SHARE) // per_token
    return max(LEAST_TOKENS, min(TOKENS_GPU, room))


def head_rows(vocabulary: int) -> int:
    """Rows of one head step on a GPU: logits in the model's dtype, in float32, and a float32 temporary.

    It depends only on the vocabulary, so that all ranks take equally many steps: each step gathers logits from all ranks.
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
