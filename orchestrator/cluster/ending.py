"""Engines that are being ended. A place is given away when no process of its last engine is left: what remains holds GPU memory.

`ray.kill` ends an actor's process, not the processes that it started: the workers of a tensor-parallel engine notice that later, or,
where they hang in a collective operation, never. Each engine's processes are a process group, which is killed on its node.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.engines import LiveEngine
from orchestrator.cluster.processes import kill_group

# After this time the place counts as free: the node does not answer, or its driver does not let a process go.
_GIVE_UP_S = 60.0
_CANCEL_S = 10.0


class Ending:
    """Engines whose processes are being ended, and which of them are gone."""

    def __init__(self) -> None:
        self._engines: dict[str, tuple[LiveEngine, Any, float]] = {}

    @property
    def pending(self) -> bool:
        """Whether a place is about to be free."""
        return bool(self._engines)

    def add(self, engine: LiveEngine) -> None:
        """End the engine's processes; its resources stay reserved until `gone` returns it."""
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
        """Engines of which nothing is left by now; their resources are given back to Ray."""
        ended = [e for e, kill, since in self._engines.values() if self._is_gone(kill, since)]
        for engine in ended:
            del self._engines[engine.id]
            engine.release()
        return ended

    def finish(self, limit_s: float = _CANCEL_S) -> None:
        """Wait for all of them, for so long at most, and give their resources back."""
        kills = [kill for _, kill, _ in self._engines.values() if kill is not None]
        if kills:
            ray.wait(kills, num_returns=len(kills), timeout=limit_s)
        for engine, _, _ in self._engines.values():
            engine.release()
        self._engines.clear()

    @staticmethod
    def _is_gone(kill: Any, since: float) -> bool:
        if kill is None or time.monotonic() - since > _GIVE_UP_S:
            return True
        done, _ = ray.wait([kill], timeout=0)
        return bool(done)
