"""Builds as Ray tasks: picks their nodes, starts and cancels them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster.placement import Floor
from orchestrator.cluster.queue import Batch
from orchestrator.plan.capacity import NodeFacts
from orchestrator.plan.estimate import BUILD_CPUS
from orchestrator.plan.job import BuildJob, Task
from orchestrator.settings import WorkerContext
from orchestrator.worker.worker import run_build


class Builds:
    """Places builds on nodes, one at a time per node, and starts them."""

    def __init__(self, floor: Floor, context: WorkerContext, env: dict[str, str]) -> None:
        """`env` is the environment of a build's process."""
        self._floor = floor
        self._context = context
        self._env = env
        # Created once: each `ray.remote` sends the code to the cluster again.
        self._run_build = ray.remote(run_build)
        self._picked: deque[NodeFacts] = deque()

    def pick(self, waiting: Iterable[BuildJob]) -> list[Batch]:
        """Select the builds that can start now; `start` must be called in this order."""
        chosen: list[Batch] = []
        self._picked.clear()
        for job in waiting:
            node = self._floor.room_for_build()
            if node is None:
                break
            self._floor.start_build(node)
            self._picked.append(node)
            chosen.append((job,))
        for node in self._picked:
            self._floor.end_build(node)
        return chosen

    def start(self, task: Task, job: BuildJob) -> tuple[Any, NodeFacts]:
        """Start a picked build; returns the reference of its outcome, and its node."""
        node = self._picked.popleft()
        remote = self._run_build.options(
            num_cpus=BUILD_CPUS,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=True),
            runtime_env={"env_vars": self._env},
        )
        self._floor.start_build(node)
        return remote.remote(self._context, task.attempt_id, job), node

    def ended(self, node: NodeFacts) -> None:
        """Free the node of a build that has ended."""
        self._floor.end_build(node)


def cancel_build(reference: Any) -> None:
    """Kill a build's process."""
    with contextlib.suppress(ray.exceptions.RayError):
        ray.cancel(reference, force=True)
