"""What decoding plugs into transformers, against transformers' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from evals.transformers.decoding import ROOM, grouped_attention, roomy_cache


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("queries", "heads"), [(9, 3), (4, 4), (8, 1)])
@pytest.mark.parametrize("tokens", [1, 5])
def test_grouped_attention_is_sdpa(queries: int, heads: int, tokens: int, masked: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(3, queries, tokens, 16, generator=draw)
    key, value = (torch.randn(3, heads, 12, 16, generator=draw) for _ in range(2))
    mask = torch.rand(3, 1, tokens, 12, generator=draw) > 0.4 if masked else None
    if mask is not None:
        mask[..., 0] = True
    module = SimpleNamespace(num_key_value_groups=queries // heads, is_causal=True)
    expected, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    found, _ = grouped_attention(module, query, key, value, mask, scaling=0.3)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_the_roomy_cache_holds_what_the_dynamic_one_holds() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = roomy_cache(), DynamicCache()
    rows = 4
    for tokens in [7, 1, 1, ROOM, 1, -3, 1, 0, 1, 1]:
        if tokens < 0:
            ours.crop(tokens)
            theirs.crop(tokens)
            continue
        if tokens == 0:
            rows = 2
            ours.batch_select_indices(torch.tensor([3, 1]))
            theirs.batch_select_indices(torch.tensor([3, 1]))
            continue
        for layer in range(2):
            fresh = torch.randn(2, rows, 3, tokens, 8, generator=draw)
            mine, others = ours.update(fresh[0], fresh[1], layer), theirs.update(fresh[0], fresh[1], layer)
            assert all(torch.equal(a, b) for a, b in zip(mine, others, strict=True))
    assert ours.get_seq_length() == theirs.get_seq_length() > ROOM


def test_a_token_is_not_paid_for_with_a_copy_of_the_cache() -> None:
    cache = roomy_cache()
    states = torch.zeros(1, 1, 1, 4)
    places = {cache.update(states, states, 0)[0].data_ptr() for _ in range(ROOM)}
    assert len(places) == 1
