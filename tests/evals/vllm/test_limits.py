"""How large passes outside the scheduler may be, for known models on known cards; and plans that are made one ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from evals.vllm.limits import (
    HEAD_BYTES,
    LEAST_TOKENS,
    ROWS_CPU,
    TOKENS_CPU,
    TOKENS_GPU,
    LayerShape,
    Limits,
    bytes_per_token,
    gpu_limits,
    head_rows,
)
from evals.vllm.tree_scoring import prefetch_next

GIB = 1 << 30


def llama(hidden: int, intermediate: int, heads: int, kv_heads: int) -> SimpleNamespace:
    return SimpleNamespace(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
    )


MODELS = {
    "135M": (llama(576, 1536, 9, 3), 1),
    "8B": (llama(4096, 14336, 32, 8), 1),
    "70B on four": (llama(8192, 28672, 64, 8), 4),
    "72B on eight": (llama(8192, 29568, 64, 8), 8),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("free_gib", [0.25, 1, 4, 8, 40])
def test_a_pass_takes_at_most_half_of_what_is_free(name: str, free_gib: float) -> None:
    config, ranks = MODELS[name]
    shape = LayerShape.of(config, ranks)
    limits = gpu_limits(2, 1000, 16, free_bytes=int(free_gib * GIB), shape=shape, element_size=2)
    taken = limits.tokens * bytes_per_token(shape, 2)
    assert LEAST_TOKENS <= limits.tokens <= TOKENS_GPU
    if limits.tokens > LEAST_TOKENS:
        assert taken <= (free_gib * GIB - HEAD_BYTES) / 2
    assert limits.rows <= limits.tokens
    assert limits.ahead


def test_an_h100_runs_full_passes_of_8b() -> None:
    shape = LayerShape.of(llama(4096, 14336, 32, 8), 1)
    # Hidden states at five branches with their residuals, three more of the layer, and the MLP's three of 14336.
    assert bytes_per_token(shape, 2) == 2 * (13 * 4096 + 3 * 14336)
    # 80 GiB at vLLM's share of 0.9 leave 8.
    assert gpu_limits(1, 1, 16, free_bytes=8 * GIB, shape=shape, element_size=2).tokens == TOKENS_GPU


@pytest.mark.parametrize("vocabulary", [384, 32000, 49152, 128256, 152064, 262144])
def test_the_head_stays_within_its_bytes(vocabulary: int) -> None:
    rows = head_rows(vocabulary)
    assert rows >= 128
    assert rows * vocabulary * 12 <= max(HEAD_BYTES, 128 * vocabulary * 12)


def test_all_ranks_do_what_the_least_can() -> None:
    ranks = [Limits(2, 100, 16, tokens=9000, ahead=True), Limits(2, 90, 16, tokens=12000, ahead=True)]
    assert Limits.least(ranks) == Limits(2, 90, 16, tokens=9000, ahead=True)
    assert Limits.least([Limits(1, 5, 32)]) == Limits(1, 5, 32, TOKENS_CPU, ROWS_CPU)


def test_one_is_made_while_another_is_used() -> None:
    made, go_on = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        made.set()
        assert go_on.wait(30)
        yield 1

    ahead = prefetch_next(items())
    assert next(ahead) == 0
    assert made.wait(30), "the next one is being made though nobody asked for it yet"
    go_on.set()
    assert list(ahead) == [1]


def test_an_error_in_making_reaches_the_caller() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("no blocks")

    ahead = prefetch_next(items())
    assert next(ahead) == 0
    with pytest.raises(ValueError, match="no blocks"):
        next(ahead)
