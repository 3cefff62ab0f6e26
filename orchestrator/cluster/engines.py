"""A live engine: its placement group, its actor, and how both are released."""

from __future__ import annotations

import contextlib
import time
from enum import StrEnum
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.cluster.placement import Spot
from orchestrator.cluster.processes import lead_group
from orchestrator.plan.job import Task
from orchestrator.settings import WorkerContext
from orchestrator.store.ids import new_id

# Ray reserves free GPUs within milliseconds, or within seconds under high load.
_RESERVE_S = 10.0
_CLOSE_S = 20.0
_RAY_ERRORS = (ray.exceptions.RayError, ValueError)


class EngineState(StrEnum):
    """State of an engine; only idle engines take work."""

    OPENING = "opening"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    """Busy with its last batch; afterwards it is closed to make room for a larger engine."""
    CLOSING = "closing"
    ENDED = "ended"


class LiveEngine:
    """One replica of an engine on one node. Its GPUs are reserved all at once before its process starts."""

    def __init__(self, key: str, spot: Spot, group: Any, actor: Any) -> None:
        self.id = new_id()
        self.key = key
        self.spot = spot
        self.state = EngineState.OPENING
        self.idle_since = time.monotonic()
        self._group = group
        self._actor = actor
        self._asked_at = time.monotonic()
        self._processes: Any = None
        self._closing: Any = None
        self._close_by = 0.0

    @classmethod
    def open(cls, key: str, spot: Spot, host: Any, context: WorkerContext, env: dict[str, str]) -> LiveEngine:
        """Request the spot, and the engine's process on it, which starts when Ray has reserved the spot.

        `host` is the Ray actor class that holds an engine.
        """
        resources = spot.resources
        bundle = {"CPU": resources.cpus, "GPU": resources.gpus}
        group = placement_group(
            [{name: amount for name, amount in bundle.items() if amount}],
            strategy="STRICT_PACK",
            bundle_label_selector=[{"ray.io/node-id": spot.node.node_id}],
        )
        actor = host.options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_restarts=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0),
            runtime_env={"env_vars": {**env, "OMP_NUM_THREADS": str(resources.threads)}},
        ).remote(context)
        engine = cls(key, spot, group, actor)
        engine._processes = actor.__ray_call__.remote(lead_group)
        return engine

    @property
    def works(self) -> bool:
        """Whether it has work, or was picked for some."""
        return self.state in (EngineState.BUSY, EngineState.DRAINING)

    def take(self) -> None:
        """Mark the engine as busy, unless it is draining."""
        if self.state is EngineState.IDLE:
            self.state = EngineState.BUSY

    def rest(self) -> None:
        """Mark the engine as idle."""
        self.state, self.idle_since = EngineState.IDLE, time.monotonic()

    def is_reserved(self) -> bool:
        """Whether Ray has reserved its resources."""
        return bool(placement_group_table(self._group).get("state") == "CREATED")

    def is_overdue(self) -> bool:
        """Whether the reservation takes so long that another process must hold the resources."""
        return time.monotonic() - self._asked_at > _RESERVE_S

    def run(self, tasks: tuple[Any, ...]) -> Any:
        """Start a batch; returns the reference of its outcomes."""
        self.take()
        return self._actor.run.remote(tasks)

    def help(self, task: Task, seconds: float) -> Any:
        """Answer requests of another engine's job for `seconds`; returns the reference of the result."""
        self.take()
        return self._actor.help.remote(task, seconds)

    def close(self) -> Any:
        """Ask the process to free the GPUs; returns a reference that is ready when it has."""
        self.state = EngineState.CLOSING
        self._closing = self._actor.close.remote()
        self._close_by = time.monotonic() + _CLOSE_S
        return self._closing

    def is_closed(self) -> bool:
        """Whether the process has freed the GPUs, died, or exceeded `_CLOSE_S`."""
        done, _ = ray.wait([self._closing], timeout=0)
        return bool(done) or time.monotonic() > self._close_by

    def is_closed_in_order(self) -> bool:
        """Whether the process has freed the GPUs and ended its child processes without an error."""
        done, _ = ray.wait([self._closing], timeout=0)
        with contextlib.suppress(*_RAY_ERRORS):
            ray.get(done)
            return bool(done)
        return False

    def process_group(self) -> Any:
        """The engine's ProcessGroup from its actor; None if the actor has not started, or died."""
        if self._processes is None:
            return None
        done, _ = ray.wait([self._processes], timeout=0)
        with contextlib.suppress(*_RAY_ERRORS):
            return ray.get(done[0]) if done else None
        return None

    def kill(self) -> None:
        """Kill the actor's process; its GPUs stay reserved."""
        self.state = EngineState.ENDED
        with contextlib.suppress(*_RAY_ERRORS):
            ray.kill(self._actor, no_restart=True)

    def release(self) -> None:
        """Release its GPUs to Ray."""
        with contextlib.suppress(*_RAY_ERRORS):
            remove_placement_group(self._group)

    def end(self) -> None:
        """Kill the process and release its GPUs at once."""
        self.kill()
        self.release()
