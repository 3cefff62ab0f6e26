"""What vLLM's scheduler and prefix cache do to scores and texts on the GPU's model runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evals.engine import EngineKind
from tests.gpu_runner.answers import (
    LAYERS,
    PATHS,
    REQUESTS,
    answers_after_broken_path,
    answers_with_aborts,
    many_requests,
    scheduler_scores,
)
from tests.gpu_runner.reference import TOLERANCE, check_scores, reference_of, score_difference
from tests.gpu_runner.v2 import Runner, call
from tests.support.engine_requests import largest_difference, opened
from tests.support.tiny_checkpoints import tiny_checkpoint

pytestmark = [pytest.mark.gpu_runner, pytest.mark.vllm]

ON_GPU = Runner(async_scheduling=True)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("llama"), layers=LAYERS, dtype="float32", hidden=128)


@pytest.mark.slow
def test_scores_behind_a_cached_prefix(checkpoint: Path) -> None:
    """V2 returns prompt log-probabilities of the uncached tokens alone: an index into the whole prompt fails."""
    runs = call(scheduler_scores, checkpoint, REQUESTS, (False, True), runner=ON_GPU)
    with reference_of(checkpoint) as reference:
        for named_rows, given in zip((False, True), runs, strict=True):
            assert (given.runner, given.named_rows) == (ON_GPU, named_rows)
            for scores in given.scores.values():
                check_scores(reference, scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("async_scheduling", "tensor_parallel"),
    [
        (True, 1),
        (False, 1),
        (True, 2),
        (False, 2),
    ],
)
def test_iterators_closed_midway_change_nothing(
    checkpoint: Path, async_scheduling: bool, tensor_parallel: int
) -> None:
    runner = Runner(async_scheduling=async_scheduling)
    plain, disturbed = call(answers_with_aborts, checkpoint, tensor_parallel, runner=runner)
    assert plain.runner == runner
    for number in range(len(PATHS)):
        assert largest_difference(plain.scores[number], disturbed.scores[number]) < 1e-5
        assert plain.texts[number] == disturbed.texts[number]


@pytest.mark.slow
@pytest.mark.parametrize("runner", [ON_GPU, Runner(async_scheduling=False)])
@pytest.mark.parametrize(("kv_cache_gib", "max_length"), [(0.0625, None), (0.003, 320)])
def test_prompts_that_are_split_or_preempted(
    checkpoint: Path, runner: Runner, kv_cache_gib: float, max_length: int | None
) -> None:
    runs = call(
        scheduler_scores,
        checkpoint,
        many_requests(),
        (False, True),
        kv_cache_gib=kv_cache_gib,
        max_length=max_length,
        runner=runner,
    )
    with opened(EngineKind.TRANSFORMERS, checkpoint, max_length=max_length and max_length - 2) as reference:
        for given in runs:
            for scores in given.scores.values():
                assert score_difference(reference, many_requests(), scores) < TOLERANCE


@pytest.mark.slow
def test_a_path_that_is_not_finite_spoils_no_other(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path, layers=LAYERS, dtype="float32")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.layers.3.mlp.down_proj.weight"].fill(np.nan)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    before, after = call(
        answers_after_broken_path, checkpoint, (0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5), runner=ON_GPU
    )
    assert (before.scores, before.texts) == (after.scores, after.texts)
