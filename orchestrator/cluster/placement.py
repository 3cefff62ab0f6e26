"""Who has which CPUs and GPUs of which node, and where the next engine fits best. Knows no Ray."""

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
"""Seconds for which no engine starts on the node of such a failure, where another node can hold the engine."""
# A node whose free GPUs turned out to be somebody else's is asked again after this time.
_TAKEN_S = 5.0
_ROUNDING = 1e-6


class Spot(Frozen):
    """A place for one engine."""

    node: NodeFacts = Field(description="The node; all GPUs of an engine are on one.")
    resources: Resources = Field(description="What the engine takes of it.")


class Floor:
    """The nodes, and what this process has taken of them.

    Best fit: an engine goes to the node where it leaves the fewest GPUs, of the smallest kind that holds it, so that whole nodes and
    large GPUs stay free for those that need them. A node can be kept for one engine that waits for all of its GPUs.
    """

    def __init__(self, facts: ClusterFacts) -> None:
        self._facts = facts
        self._taken: dict[str, list[Resources]] = {}
        self._builds: dict[str, int] = {}
        self._avoided: dict[str, float] = {}
        self._kept: dict[str, str] = {}
        # Asked for every checkpoint at every step, of which there may be thousands.
        self._ever: dict[tuple[EngineSpec, EngineNeed | None], bool] = {}
        self._nodes_for: dict[EngineSpec, tuple[NodeFacts, ...]] = {}

    @property
    def facts(self) -> ClusterFacts:
        """The nodes as last seen."""
        return self._facts

    def update(self, facts: ClusterFacts) -> None:
        """Nodes have come or gone; what was taken of a lost one stays noted until it is given back."""
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
        """Where an engine for this job fits now; None where it does not. `alone`: on no node whose cores another one uses."""
        now = time.monotonic()
        found: list[tuple[int, float, Spot]] = []
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
                left = gpus - resources.gpus if node.gpus else cpus - resources.cpus
                found.append((node.gpu_memory_bytes or 0, left, Spot(node=node, resources=resources)))
        return min(found, key=lambda spot: spot[:2])[2] if found else None

    def ever(self, job: EvalJob, need: EngineNeed | None) -> bool:
        """Whether some node would hold an engine for this job if it were empty."""
        kind = job.engine, need
        if kind not in self._ever:
            nodes = self.nodes_for(job.engine)
            self._ever[kind] = any(_holds(node, engine_resources(job, node), need) for node in nodes)
        return self._ever[kind]

    def slots(self, job: EvalJob, need: EngineNeed | None) -> int:
        """How many engines for this job the empty cluster would hold."""
        count = 0
        for node in self.nodes_for(job.engine):
            resources = engine_resources(job, node)
            if _holds(node, resources, need):
                count += int(node.gpus // resources.gpus) if resources.gpus else 1
        return max(1, count)

    def room_for_build(self) -> NodeFacts | None:
        """The node for the next build: one without GPUs where there is one, and one build at a time on each disk."""
        free = [
            node
            for node in self._facts.nodes
            if not self._builds.get(node.node_id)
            and self.free(node)[1] + _ROUNDING >= min(BUILD_CPUS, node.cpus) > 0
        ]
        return min(free, key=lambda node: (node.gpus > 0, -self.free(node)[1]), default=None)

    def start_build(self, node: NodeFacts) -> None:
        """A build runs on this node from now on."""
        self._builds[node.node_id] = self._builds.get(node.node_id, 0) + 1

    def end_build(self, node: NodeFacts) -> None:
        """It has ended."""
        self._builds[node.node_id] -= 1

    def take(self, spot: Spot) -> None:
        """The spot is an engine's from now on."""
        self._taken.setdefault(spot.node.node_id, []).append(spot.resources)
        self._kept.pop(spot.node.node_id, None)

    def give(self, spot: Spot) -> None:
        """The engine is gone."""
        self._taken[spot.node.node_id].remove(spot.resources)

    def avoid(
        self,
        node: NodeFacts,
        seconds: float = _TAKEN_S,
        job: EvalJob | None = None,
        need: EngineNeed | None = None,
    ) -> None:
        """Place nothing on a node for a while; with a job, only if another node could hold the job's engine."""
        others = [n for n in self._facts.engine_nodes if n.node_id != node.node_id]
        if job is None or any(_holds(n, engine_resources(job, n), need) for n in others):
            self._avoided[node.node_id] = time.monotonic() + seconds

    def keep(self, node: NodeFacts, engine_key: str) -> None:
        """Let nothing but this engine start on the node, until it has."""
        self._kept[node.node_id] = engine_key

    def is_kept_for(self, engine_key: str) -> bool:
        """Whether a node is kept for this engine."""
        return engine_key in self._kept.values()

    def release(self, engine_keys: Iterable[str]) -> None:
        """Keep nothing any more for engines other than these."""
        wanted = set(engine_keys)
        self._kept = {node: key for node, key in self._kept.items() if key in wanted}

    def free(self, node: NodeFacts) -> tuple[float, float]:
        """GPUs and CPUs of a node that nothing of ours has; a build's share stays free for builds."""
        taken = self._taken.get(node.node_id, [])
        return node.gpus - sum(r.gpus for r in taken), node.cpus - sum(r.cpus for r in taken)


def _holds(node: NodeFacts, resources: Resources, need: EngineNeed | None) -> bool:
    """Whether the empty node holds the engine."""
    if resources.gpus > node.gpus or resources.cpus > node.cpus + _ROUNDING:
        return False
    return need is None or need.fits(node, max(1, int(resources.gpus)))
