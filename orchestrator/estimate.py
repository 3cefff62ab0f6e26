"""Time, memory, disk and GPUs of a job: the one estimator of plan, preflight and placement."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from orchestrator.jobs import EvalJob, Frozen

# A build moves bytes: half a core keeps it going beside an engine that uses all cores for arithmetic.
_BUILD_CPUS = 0.5


class NodeFacts(Frozen):
    """One node of the cluster."""

    node_id: str = Field(description="Ray's id of the node.")
    host: str = Field(description="Name of the machine.")
    cpus: float = Field(description="CPUs that Ray may hand out.")
    gpus: float = Field(description="GPUs that Ray may hand out.")
    memory_bytes: int = Field(description="Memory that Ray may hand out, in bytes.")


class Resources(Frozen):
    """What one engine takes of one node."""

    cpus: float = Field(description="CPUs that Ray reserves.")
    gpus: float = Field(description="GPUs that Ray reserves.")
    threads: int = Field(description="Threads that the engine may use.")


class ClusterFacts(Frozen):
    """The nodes that are there."""

    nodes: tuple[NodeFacts, ...] = Field(description="Live nodes.")

    @property
    def has_gpus(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.gpus >= 1 for node in self.nodes)

    @property
    def build_cpus(self) -> float:
        """CPUs that one build reserves."""
        return _BUILD_CPUS

    @property
    def build_slots(self) -> int:
        """Builds that may run at once: one per node, since a build is bound by its disk."""
        return max(1, len(self.nodes))

    def fits(self, new: Resources, running: Sequence[Resources]) -> bool:
        """Whether `new` can be placed beside `running`, largest first, each on one node."""
        free = [[node.cpus, node.gpus] for node in self.nodes]
        for wanted in sorted([*running, new], key=lambda r: (-r.gpus, -r.cpus)):
            spot = next((f for f in free if f[0] >= wanted.cpus and f[1] >= wanted.gpus), None)
            if spot is None:
                return False
            spot[0] -= wanted.cpus
            spot[1] -= wanted.gpus
        return True


def resources_of(job: EvalJob, facts: ClusterFacts) -> Resources:
    """GPUs by tensor parallelism where the cluster has any; else all cores of one node but a build's share."""
    if facts.has_gpus:
        return Resources(cpus=1.0, gpus=float(job.engine.tensor_parallel), threads=4)
    cores = max((node.cpus for node in facts.nodes), default=1.0)
    return Resources(
        cpus=max(cores - _BUILD_CPUS, 0.5), gpus=0.0, threads=job.tuning.threads or max(1, int(cores))
    )
