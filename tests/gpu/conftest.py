"""Tests that need a CUDA GPU; skipped where there is none, unless they are asked to run on the CPU as far as it goes."""

from __future__ import annotations

import pytest

from tests.gpu.ways import ON_CPU, has_gpu


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    if not has_gpu() and not ON_CPU:
        pytest.skip("there is no CUDA GPU here")
