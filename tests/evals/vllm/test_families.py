"""Live layer paths of vLLM's CPU build against built checkpoints: right, or refused where they are not planned live.

pytest -m slow -s tests/evals/vllm/test_families.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.families import measure_family, table_row
from evals.engine import EngineKind, EngineTuning
from evals.errors import EngineError, UnsupportedArchitecture
from evals.live_paths import untested_family
from tests.support.engine_requests import opened, random_requests, scored
from tests.support.family_checkpoints import FAMILIES
from tests.support.tiny_checkpoints import VOCABULARY, tiny_checkpoint, tiny_of_type

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(1800)]

PATHS = 4


@pytest.mark.parametrize("model_type", FAMILIES)
def test_live_paths_equal_built_checkpoints(model_type: str) -> None:
    row = measure_family(model_type, PATHS, ("transformers", "vllm"))
    print(table_row(row))
    assert row.transformers is not None
    assert row.transformers.right
    assert row.vllm is not None
    if untested_family(row.model_type, row.architecture, kind=EngineKind.VLLM, cpu=True) is None:
        assert row.vllm.right
    else:  # with `try_live: true`
        assert row.vllm.refusal or row.vllm.right


def test_a_model_with_another_kind_of_state_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint = tiny_of_type(
        tmp_path, "mamba2", dtype="float32", num_heads=4, head_dim=32, state_size=16, n_groups=1, expand=2
    )
    with (
        pytest.raises(UnsupportedArchitecture, match=r"Mamba2ForCausalLM.*build the path"),
        opened(EngineKind.VLLM, checkpoint, EngineTuning(threads=1, live=True, kv_cache_gib=0.25)),
    ):
        pass


def test_a_head_size_without_a_kernel_is_refused_at_once(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, family="qwen3", config={"head_dim": 16})
    with pytest.raises(EngineError, match=r"size 16.*no kernel"), opened(EngineKind.VLLM, checkpoint):
        pass


def test_a_checkpoint_is_scored_where_its_paths_do_not_run(tmp_path: Path) -> None:
    checkpoint = tiny_of_type(tmp_path, "gpt2", dtype="float32")
    with opened(EngineKind.VLLM, checkpoint, EngineTuning(threads=1, kv_cache_gib=0.25)) as engine:
        assert scored(engine, random_requests(1, vocabulary=VOCABULARY, count=2, longest=40))
