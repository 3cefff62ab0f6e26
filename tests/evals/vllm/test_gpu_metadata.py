"""Metadata for the attention kernels of GPUs, as far as they are made without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evals.vllm.environment import answer_for_cpu_build

pytestmark = pytest.mark.vllm

SEQUENCES = 300
"""More than the scheduler runs at once (256), as a batch's segments are."""


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Any:
    """FlashAttention 3's metadata builder in an engine with full CUDA graphs, and the kernel that schedules ahead."""
    answer_for_cpu_build()
    from vllm.v1.attention.backends import flash_attn

    def schedule(**arguments: Any) -> torch.Tensor:
        return torch.zeros(1 + -(-arguments["batch_size"] // 4) * 16, dtype=torch.int32)

    monkeypatch.setattr(flash_attn, "get_scheduler_metadata", schedule, raising=False)
    builder: Any = object.__new__(flash_attn.FlashAttentionMetadataBuilder)
    builder.__dict__.update(
        aot_schedule=True,
        aot_sliding_window=(-1, -1),
        use_full_cuda_graph=True,
        max_cudagraph_size=512,
        max_num_splits=32,
        scheduler_metadata=torch.zeros(1 + 256 * 4, dtype=torch.int32),
        dcp_world_size=1,
        cache_config=type("Cache", (), {"cache_dtype": "auto"})(),
        kv_cache_dtype=torch.bfloat16,
        num_heads_q=8,
        num_heads_kv=2,
        headdim=64,
        block_size=16,
        rswa_window=None,
        mm_prefix_query_ranges_np=None,
    )
    return builder


def metadata(builder: Any, sequences: int) -> Any:
    """As a pass outside the scheduler has it made: three tokens of each sequence."""
    from evals.vllm.forward import Forward

    forward: Any = object.__new__(Forward)
    forward._builder, forward._device = builder, torch.device("cpu")
    return forward.metadata(
        torch.arange(0, 3 * sequences + 1, 3),
        torch.full((sequences,), 20),
        torch.arange(2 * sequences).reshape(sequences, 2),
        (3, 20),
    )


def test_flash_attention_is_given_no_schedule_of_the_schedulers_size(flash: Any) -> None:
    made = metadata(flash, SEQUENCES)
    assert made.scheduler_metadata is None
    assert not flash.scheduler_metadata.any()
    assert made.num_actual_tokens == 3 * SEQUENCES
    for tensor in (made.query_start_loc, made.seq_lens, made.block_table):
        assert tensor.dtype == torch.int32, "the kernels read 32-bit integers"
    assert made.block_table.stride(-1) == 1
    assert (made.max_query_len, made.max_seq_len, made.causal) == (3, 20, True)


def test_with_a_schedule_it_would_not_fit(flash: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build = flash.build
    monkeypatch.setattr(
        flash, "build", lambda **given: build(**{**given, "fast_build": False}), raising=False
    )
    with pytest.raises(RuntimeError):
        metadata(flash, SEQUENCES)
    # And two that fit would be in one buffer.
    first, second = metadata(flash, 8), metadata(flash, 4)
    assert first.scheduler_metadata.data_ptr() == second.scheduler_metadata.data_ptr()
