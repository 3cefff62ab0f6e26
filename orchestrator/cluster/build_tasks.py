"""Builds as Ray tasks: the node of each, and how they are started and cancelled."""

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
    """Places builds on the nodes of a floor, one at a time on each disk, and starts them there."""

    def __init__(self, floor: Floor, context: WorkerContext, env: dict[str, str]) -> None:
        """`env` is the environment that a build's process needs."""
        self._floor = floor
        self._context = context
        self._env = env
        # Each `ray.remote` sends the code to the cluster anew.
        self._run_build = ray.remote(run_build)
        self._picked: deque[NodeFacts] = deque()

    def pick(self, waiting: Iterable[BuildJob]) -> list[Batch]:
        """The builds that can start now, in the order in which `start` is then called."""
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
        """Start a picked build; the reference of its outcome, and its node."""
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
        """A build on this node has ended; the next one may start there."""
        self._floor.end_build(node)


def cancel_build(reference: Any) -> None:
    """End a build's process."""
    with contextlib.suppress(ray.exceptions.RayError):
        ray.cancel(reference, force=True)
