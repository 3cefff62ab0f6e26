"""Tests that need a CUDA GPU; skipped where there is none."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _needs_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU here")
