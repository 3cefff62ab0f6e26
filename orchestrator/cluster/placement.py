"""Tracks used CPUs and GPUs of each node, and places the next engine by best fit. Independent of Ray."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pydantic import Field

from evals.engine import EngineSpec, Frozen
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.estimate import BUILD_CPUS, EngineNeed, Resources, engine_resources
from orchestrator.plan.job import EvalJob
from orchestrator.store.records import FailureClass

AVOID_S = {
    FailureClass.TOO_LARGE: 600.0,
    FailureClass.BUSY_GPU: 60.0,
    FailureClass.BROKEN_ENGINE: 60.0,
    FailureClass.BAD_NODE: 600.0,
    FailureClass.ENGINE_START: 60.0,
    FailureClass.CHANGED_INPUT: 600.0,
}
"""Seconds for which no engine starts on the node of such a failure, if another node can hold the engine."""
# Seconds until a node is tried again whose GPUs turned out to be used by another process.
_TAKEN_S = 5.0
_ROUNDING = 1e-6


class Spot(Frozen):
    """Node and resources for one engine."""

    node: NodeFacts = Field(description="The node; all GPUs of an engine are on one.")
    resources: Resources = Field(description="Resources of the node that the engine reserves.")


class Floor:
    """The nodes, and the resources that this process has reserved on them.

    Best fit: an engine goes to the node with the fewest GPUs left, of the smallest GPU type that holds it, to
    keep whole nodes and large GPUs free. A node can be kept for one engine that waits for all of its GPUs.
    """

    def __init__(self, facts: ClusterFacts) -> None:
        self._facts = facts
        self._taken: dict[str, list[Resources]] = {}
        self._builds: dict[str, int] = {}
        self._avoided: dict[str, float] = {}
        self._kept: dict[str, str] = {}
        # Cached: needed for every checkpoint at every step, and there may be thousands.
        self._ever: dict[tuple[EngineSpec, EngineNeed | None], bool] = {}
        self._nodes_for: dict[EngineSpec, tuple[NodeFacts, ...]] = {}

    @property
    def facts(self) -> ClusterFacts:
        """The nodes as last seen."""
        return self._facts

    def update(self, facts: ClusterFacts) -> None:
        """Replace the nodes; reservations on a lost node stay recorded until they are returned."""
        self._facts = facts
        self._ever.clear()
        self._nodes_for.clear()
        alive = {node.node_id for node in facts.nodes}
        self._kept = {node: key for node, key in self._kept.items() if node in alive}

    def nodes_for(self, spec: EngineSpec) -> tuple[NodeFacts, ...]:
        """Nodes that have the engine of this specification."""
        if spec not in self._nodes_for:
            self._nodes_for[spec] = self._facts.nodes_for(spec)
        return self._nodes_for[spec]

    def place(self, job: EvalJob, need: EngineNeed | None, *, alone: bool = False) -> Spot | None:
        """Spot for an engine of this job; None if none is free. `alone` excludes CPU nodes with another engine."""
        now = time.monotonic()
        spots: list[tuple[int, float, Spot]] = []
        for node in self.nodes_for(job.engine):
            resources = engine_resources(job, node)
            if self._avoided.get(node.node_id, 0.0) > now or not _holds(node, resources, need):
                continue
            if self._kept.get(node.node_id, job.engine_key) != job.engine_key:
                continue
            if alone and not node.gpus and self._taken.get(node.node_id):
                continue
            gpus, cpus = self.free(node)
            if resources.gpus <= gpus + _ROUNDING and resources.cpus <= cpus + _ROUNDING:
                free_after = gpus - resources.gpus if node.gpus else cpus - resources.cpus
                spots.append((node.gpu_memory_bytes or 0, free_after, Spot(node=node, resources=resources)))
        return min(spots, key=lambda spot: spot[:2])[2] if spots else None

    def ever(self, job: EvalJob, need: EngineNeed | None) -> bool:
        """Whether any node, if empty, could hold an engine for this job."""
        kind = job.engine, need
        if kind not in self._ever:
            nodes = self.nodes_for(job.engine)
            self._ever[kind] = any(_holds(node, engine_resources(job, node), need) for node in nodes)
        return self._ever[kind]

    def slots(self, job: EvalJob, need: EngineNeed | None) -> int:
        """Number of engines for this job that the empty cluster could hold, at least 1."""
        count = 0
        for node in self.nodes_for(job.engine):
            resources = engine_resources(job, node)
            if _holds(node, resources, need):
                count += int(node.gpus // resources.gpus) if resources.gpus else 1
        return max(1, count)

    def room_for_build(self) -> NodeFacts | None:
        """The node for the next build, preferably without GPUs; at most one build per node at a time."""
        free = [
            node
            for node in self._facts.nodes
            if not self._builds.get(node.node_id)
            and self.free(node)[1] + _ROUNDING >= min(BUILD_CPUS, node.cpus) > 0
        ]
        return min(free, key=lambda node: (node.gpus > 0, -self.free(node)[1]), default=None)

    def start_build(self, node: NodeFacts) -> None:
        """Record a build on this node."""
        self._builds[node.node_id] = self._builds.get(node.node_id, 0) + 1

    def end_build(self, node: NodeFacts) -> None:
        """Record the end of a build on this node."""
        self._builds[node.node_id] -= 1

    def take(self, spot: Spot) -> None:
        """Reserve a spot."""
        self._taken.setdefault(spot.node.node_id, []).append(spot.resources)
        self._kept.pop(spot.node.node_id, None)

    def give(self, spot: Spot) -> None:
        """Release a spot."""
        self._taken[spot.node.node_id].remove(spot.resources)

    def avoid(
        self,
        node: NodeFacts,
        seconds: float = _TAKEN_S,
        job: EvalJob | None = None,
        need: EngineNeed | None = None,
    ) -> None:
        """Place nothing on a node for `seconds`; with a job, only if another node could hold its engine."""
        other_nodes = [n for n in self._facts.engine_nodes if n.node_id != node.node_id]
        if job is None or any(_holds(n, engine_resources(job, n), need) for n in other_nodes):
            self._avoided[node.node_id] = time.monotonic() + seconds

    def keep(self, node: NodeFacts, engine_key: str) -> None:
        """Reserve the node for this engine until it starts there."""
        self._kept[node.node_id] = engine_key

    def is_kept_for(self, engine_key: str) -> bool:
        """Whether a node is kept for this engine."""
        return engine_key in self._kept.values()

    def release(self, engine_keys: Iterable[str]) -> None:
        """Stop keeping nodes for engines other than these."""
        keys_to_keep = set(engine_keys)
        self._kept = {node: key for node, key in self._kept.items() if key in keys_to_keep}

    def free(self, node: NodeFacts) -> tuple[float, float]:
        """GPUs and CPUs of a node that this process has not reserved for engines."""
        taken = self._taken.get(node.node_id, [])
        return node.gpus - sum(r.gpus for r in taken), node.cpus - sum(r.cpus for r in taken)


def _holds(node: NodeFacts, resources: Resources, need: EngineNeed | None) -> bool:
    """Whether the node, if empty, could hold the engine."""
    if resources.gpus > node.gpus or resources.cpus > node.cpus + _ROUNDING:
        return False
    return need is None or need.fits(node, max(1, int(resources.gpus)))
