"""A fixture that counts how often an engine was asked to run layer paths live."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.engine import EngineSpec, EngineTuning, PathEngine
from evals.engines import open_engine
from orchestrator.worker import worker


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints with which workers in this process opened engines for live layer paths."""
    tried: list[Path] = []

    def opening(spec: EngineSpec, checkpoint: Path, tuning: EngineTuning) -> PathEngine:
        if tuning.sets_paths:
            tried.append(checkpoint)
        return open_engine(spec, checkpoint, tuning)

    monkeypatch.setattr(worker, "open_engine", opening)
    return tried
