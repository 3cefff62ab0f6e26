"""Capacity of the nodes of a Ray cluster, or of this machine."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from evals.engine import DeviceKind, EngineKind, EngineSpec, Frozen, InstalledEngine


class NodeSoftware(Frozen):
    """Installed software of a node that jobs and scores depend on."""

    mergeboard: str = Field(description="Version of mergeboard.")
    scorer: str = Field(description="Versions of the harness and scorers, as in an evaluation's identity.")
    engines: tuple[InstalledEngine, ...] = Field(description="Installed engines, at most one of each kind.")

    def engine(self, kind: EngineKind) -> InstalledEngine | None:
        """The engine of this kind; None if it is not installed."""
        return next((engine for engine in self.engines if engine.kind is kind), None)


class NodeFacts(Frozen):
    """One node of the cluster."""

    node_id: str = Field(description="Ray's id of the node.")
    host: str = Field(description="Name of the machine.")
    cpus: float = Field(description="CPUs that Ray may allocate.")
    gpus: float = Field(description="GPUs that Ray may allocate.")
    memory_bytes: int = Field(description="Memory in bytes that Ray may allocate.")
    gpu_type: str | None = Field(default=None, description="GPU model as Ray names it; null without GPUs.")
    gpu_memory_bytes: int | None = Field(
        default=None, description="Memory in bytes of its smallest GPU; null if not measured."
    )
    software: NodeSoftware | None = Field(
        default=None, description="Installed software; null if the node was not surveyed."
    )

    def runs(self, spec: EngineSpec) -> bool:
        """Whether the node has this engine version and device kind, regardless of free resources."""
        if spec.device not in (None, DeviceKind.CPU) and self.gpus < 1:
            return False
        if self.software is None:
            return True
        engine = self.software.engine(spec.kind)
        return engine is not None and engine.version == spec.version and spec.device in (None, engine.device)


class ClusterFacts(Frozen):
    """The live nodes of a cluster."""

    nodes: tuple[NodeFacts, ...] = Field(description="Live nodes.")

    @property
    def has_gpus(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.gpus >= 1 for node in self.nodes)

    @property
    def engine_nodes(self) -> tuple[NodeFacts, ...]:
        """Nodes that may hold engines: the GPU nodes if there are any, else all nodes with CPUs."""
        return _with_gpus_first(self.nodes)

    def nodes_for(self, spec: EngineSpec) -> tuple[NodeFacts, ...]:
        """Nodes that may hold an engine of this specification; only GPU nodes if any of them qualifies.

        A CPU node never replaces a GPU node that is lost or not yet started: its engine or device differs.
        """
        return _with_gpus_first(node for node in self.nodes if node.runs(spec))

    def name_of(self, node: NodeFacts) -> str:
        """Display name of a node: its host, with the end of its id if several nodes share the host name."""
        same_host = sum(n.host == node.host for n in self.nodes)
        return node.host if same_host <= 1 else f"{node.host} ({node.node_id[-6:]})"

    @property
    def sentence(self) -> str:
        """One-line description of the cluster: the number of nodes of each kind."""
        kinds: dict[str, int] = {}
        for node in self.nodes:
            memory = f" of {node.gpu_memory_bytes / 2**30:.0f} GiB" if node.gpu_memory_bytes else ""
            kind = f"{node.gpus:g} {node.gpu_type or 'GPU'}{memory}" if node.gpus else f"{node.cpus:g} CPUs"
            kinds[kind] = kinds.get(kind, 0) + 1
        return "; ".join(f"{number} x {kind}" for kind, number in kinds.items()) or "no node"


def _with_gpus_first(nodes: Iterable[NodeFacts]) -> tuple[NodeFacts, ...]:
    """The nodes with GPUs if there are any, else all nodes with CPUs."""
    candidates = tuple(nodes)
    return tuple(node for node in candidates if node.gpus >= 1) or tuple(
        node for node in candidates if node.cpus > 0
    )


def this_machine() -> ClusterFacts:
    """Describe this machine as a cluster of one node, without Ray."""
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
    """Memory in bytes of the smallest visible GPU."""
    import torch

    devices = range(torch.cuda.device_count())
    return min(int(torch.cuda.get_device_properties(device).total_memory) for device in devices)
