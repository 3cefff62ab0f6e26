"""Where vLLM is the build for GPUs, the runner is shown on a GPU instead (tests/gpu)."""

from __future__ import annotations

import pytest

from evals.vllm.environment import answer_for_cpu_build


@pytest.fixture(autouse=True)
def _needs_cpu_build(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu_runner") and not answer_for_cpu_build():
        pytest.skip("vLLM is the build for GPUs here, which runs its own model runner")
