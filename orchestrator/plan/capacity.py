"""What there is to run on: the nodes of a Ray cluster, or this machine."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from evals.engine import DeviceKind, EngineKind, EngineSpec, Frozen, InstalledEngine


class NodeSoftware(Frozen):
    """What is installed on a node, as far as jobs and scores depend on it."""

    mergeboard: str = Field(description="Version of mergeboard.")
    scorer: str = Field(description="Versions of the harness and scorers, as in an evaluation's identity.")
    engines: tuple[InstalledEngine, ...] = Field(description="The engines that are installed, one of a kind.")

    def engine(self, kind: EngineKind) -> InstalledEngine | None:
        """The engine of this kind; null where it is not installed."""
        return next((engine for engine in self.engines if engine.kind is kind), None)


class NodeFacts(Frozen):
    """One node of the cluster."""

    node_id: str = Field(description="Ray's id of the node.")
    host: str = Field(description="Name of the machine.")
    cpus: float = Field(description="CPUs that Ray may hand out.")
    gpus: float = Field(description="GPUs that Ray may hand out.")
    memory_bytes: int = Field(description="Memory that Ray may hand out, in bytes.")
    gpu_type: str | None = Field(default=None, description="Kind of its GPUs as Ray names it; null without.")
    gpu_memory_bytes: int | None = Field(
        default=None, description="Memory of its smallest GPU; null where it was not measured."
    )
    software: NodeSoftware | None = Field(
        default=None, description="What is installed on it; null where it was not asked."
    )

    def runs(self, spec: EngineSpec) -> bool:
        """Whether the node has the engine of this specification and its kind of device, whatever is free now."""
        if spec.device not in (None, DeviceKind.CPU) and self.gpus < 1:
            return False
        if self.software is None:
            return True
        engine = self.software.engine(spec.kind)
        return engine is not None and engine.version == spec.version and spec.device in (None, engine.device)


class ClusterFacts(Frozen):
    """The nodes that are there."""

    nodes: tuple[NodeFacts, ...] = Field(description="Live nodes.")

    @property
    def has_gpus(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.gpus >= 1 for node in self.nodes)

    @property
    def engine_nodes(self) -> tuple[NodeFacts, ...]:
        """Nodes that may hold engines: those with GPUs where there are any, else all that have a core to give."""
        return _with_gpus_first(self.nodes)

    def nodes_for(self, spec: EngineSpec) -> tuple[NodeFacts, ...]:
        """Nodes that may hold an engine of this specification: those that have it, with GPUs where any of them has some.

        A CPU node never stands in for a GPU node that is lost or not there yet: it has another engine, or no GPU.
        """
        return _with_gpus_first(node for node in self.nodes if node.runs(spec))

    def name_of(self, node: NodeFacts) -> str:
        """The node for people: its host, with the end of its id where hosts repeat."""
        alike = sum(other.host == node.host for other in self.nodes)
        return node.host if alike <= 1 else f"{node.host} ({node.node_id[-6:]})"

    @property
    def sentence(self) -> str:
        """The cluster for people: kinds of nodes with their numbers."""
        kinds: dict[str, int] = {}
        for node in self.nodes:
            memory = f" of {node.gpu_memory_bytes / 2**30:.0f} GiB" if node.gpu_memory_bytes else ""
            what = f"{node.gpus:g} {node.gpu_type or 'GPU'}{memory}" if node.gpus else f"{node.cpus:g} CPUs"
            kinds[what] = kinds.get(what, 0) + 1
        return "; ".join(f"{number} x {what}" for what, number in kinds.items()) or "no node"


def _with_gpus_first(nodes: Iterable[NodeFacts]) -> tuple[NodeFacts, ...]:
    """Those with GPUs where there are any, else all that have a core to give."""
    candidates = tuple(nodes)
    return tuple(node for node in candidates if node.gpus >= 1) or tuple(
        node for node in candidates if node.cpus > 0
    )


def this_machine() -> ClusterFacts:
    """This machine as a cluster of one node, without Ray."""
    from orchestrator.provenance import hardware

    machine = hardware()
    memory = _gpu_memory_bytes() if machine.gpus else None
    node = NodeFacts(
        node_id="",
        host=machine.host,
        cpus=float(machine.cpu_count),
        gpus=float(len(machine.gpus)),
        memory_bytes=machine.memory_bytes,
        gpu_type=machine.gpus[0] if machine.gpus else None,
        gpu_memory_bytes=memory,
    )
    return ClusterFacts(nodes=(node,))


def _gpu_memory_bytes() -> int:
    """Memory of the smallest visible GPU."""
    import torch

    devices = range(torch.cuda.device_count())
    return min(int(torch.cuda.get_device_properties(device).total_memory) for device in devices)
