"""Every live family, path and kind of request on the GPU's model runner, against transformers in float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu_runner.answers import LAYERS, PATHS, REQUESTS, answers
from tests.gpu_runner.reference import check_answers
from tests.gpu_runner.v2 import Runner, call
from tests.support.tiny_checkpoints import DENSE_FAMILIES, tiny_checkpoint

pytestmark = [pytest.mark.gpu_runner, pytest.mark.vllm]

MOST_NEAR_TIES = 0.01
"""Share of the texts that may leave the reference at a near-tie."""


def check_families(
    folder: Path, families: tuple[str, ...], *, async_scheduling: bool, tensor_parallel: int
) -> None:
    checkpoints = [
        tiny_checkpoint(
            folder / family, family=family, layers=LAYERS, dtype="float32", hidden=64 * tensor_parallel
        )
        for family in families
    ]
    runner = Runner(async_scheduling=async_scheduling)
    ties = 0
    for checkpoint, given in zip(
        checkpoints, call(answers, checkpoints, tensor_parallel, runner=runner), strict=True
    ):
        assert given.runner == runner
        assert given.named_rows
        ties += check_answers(checkpoint, given)
    texts = len(families) * len(PATHS) * len(REQUESTS)
    print(f"{runner}, tensor parallel {tensor_parallel}: {ties} near-ties in {texts} texts")
    assert ties <= MOST_NEAR_TIES * texts


def test_all_families_with_async_scheduling(tmp_path: Path) -> None:
    check_families(tmp_path, DENSE_FAMILIES, async_scheduling=True, tensor_parallel=1)


@pytest.mark.slow
def test_one_family_on_two_devices(tmp_path: Path) -> None:
    check_families(tmp_path, ("qwen3",), async_scheduling=True, tensor_parallel=2)


@pytest.mark.slow
@pytest.mark.parametrize(("async_scheduling", "tensor_parallel"), [(False, 1), (False, 2), (True, 2)])
def test_all_families(tmp_path: Path, async_scheduling: bool, tensor_parallel: int) -> None:
    check_families(
        tmp_path, DENSE_FAMILIES, async_scheduling=async_scheduling, tensor_parallel=tensor_parallel
    )
