"""The worker with an engine that takes its time over every answer: kept apart, so that Ray's processes can import it."""

from __future__ import annotations

from collections.abc import Callable

from evals.engine import PathEngine
from orchestrator.plan.job import EvalJob
from orchestrator.worker.worker import EngineHost
from tests.support.engines_before import Slow


class SlowHost(EngineHost):
    """Real jobs, real requests, real answers, a little later."""

    def _engine_for(self, job: EvalJob, on_start: Callable[[], None] = lambda: None) -> PathEngine:
        return Slow(super()._engine_for(job, on_start), pause_s=1.0)


class PausingHost(EngineHost):
    """Pauses before each answer, so that an engine is busy most of the time without using a processor."""

    def _engine_for(self, job: EvalJob, on_start: Callable[[], None] = lambda: None) -> PathEngine:
        return Slow(super()._engine_for(job, on_start), pause_s=0.05)
