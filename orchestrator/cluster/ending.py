"""Stops engines. Their resources are reused only when all their processes have ended and freed the GPUs.

`ray.kill` ends an actor's process, but not its children: tensor-parallel workers notice it late or, if they
hang in a collective operation, never. Each engine is therefore a process group, which is killed on its node.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.engines import LiveEngine
from orchestrator.cluster.processes import kill_group

# After this time the resources count as free: the node does not answer, or the GPU driver blocks a process.
_GIVE_UP_S = 60.0
_CANCEL_S = 10.0


class Ending:
    """Engines whose processes are being killed."""

    def __init__(self) -> None:
        self._engines: dict[str, tuple[LiveEngine, Any, float]] = {}

    @property
    def pending(self) -> bool:
        """Whether any engine is still being stopped."""
        return bool(self._engines)

    def add(self, engine: LiveEngine) -> None:
        """Kill the engine's processes; its resources stay reserved until `gone` returns it."""
        group = engine.process_group()
        engine.kill()
        kill = None
        if group is not None:
            node = NodeAffinitySchedulingStrategy(engine.spot.node.node_id, soft=False)
            kill = (
                ray.remote(kill_group)
                .options(num_cpus=0, max_retries=0, scheduling_strategy=node)
                .remote(group)
            )
        self._engines[engine.id] = (engine, kill, time.monotonic())

    def gone(self) -> list[LiveEngine]:
        """Remove and return the engines whose processes have ended; their resources are released to Ray."""
        ended_engines = [e for e, kill, since in self._engines.values() if self._has_ended(kill, since)]
        for engine in ended_engines:
            del self._engines[engine.id]
            engine.release()
        return ended_engines

    def finish(self, limit_s: float = _CANCEL_S) -> None:
        """Wait at most `limit_s` for all engines, and release their resources."""
        kills = [kill for _, kill, _ in self._engines.values() if kill is not None]
        if kills:
            ray.wait(kills, num_returns=len(kills), timeout=limit_s)
        for engine, _, _ in self._engines.values():
            engine.release()
        self._engines.clear()

    @staticmethod
    def _has_ended(kill: Any, since: float) -> bool:
        if kill is None or time.monotonic() - since > _GIVE_UP_S:
            return True
        done, _ = ray.wait([kill], timeout=0)
        return bool(done)
