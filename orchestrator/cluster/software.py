"""Compares the software of a cluster's nodes, and looks up the engines that a plan is made for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from evals.engine import EngineKind, InstalledEngine
from evals.engines import installed_engine
from evals.errors import EngineError
from orchestrator.errors import ClusterError
from orchestrator.plan.capacity import ClusterFacts, NodeSoftware
from orchestrator.provenance import package_version, packages_identity

_ABSENT = "not installed"
_MERGEBOARD = "mergeboard"
_HERE = "this machine"


def software_here() -> NodeSoftware:
    """Installed software of this process's environment."""
    engines = []
    for kind in EngineKind:
        try:
            engines.append(installed_engine(kind))
        except EngineError:
            continue
    return NodeSoftware(
        mergeboard=package_version(_MERGEBOARD) or _ABSENT, scorer=packages_identity(), engines=tuple(engines)
    )


class EnginesOf:
    """Looks up the engines of a cluster's nodes by kind, for a plan."""

    def __init__(self, cluster: ClusterFacts) -> None:
        self._nodes = cluster.engine_nodes

    def __call__(self, kind: EngineKind) -> InstalledEngine:
        """The engine of this kind on the nodes; this process's engine if no node was surveyed.

        After `require_same`, the nodes' engines can only differ in compute capability, which is then None.
        Raises EngineError if no node has the engine.
        """
        installed = [node.software for node in self._nodes if node.software is not None]
        if not installed:
            return installed_engine(kind)
        engines = {engine for software in installed if (engine := software.engine(kind)) is not None}
        if not engines:
            hosts = ", ".join(sorted({node.host for node in self._nodes})[:3])
            raise EngineError(
                f"The {kind} engine is not installed on the nodes that would run it ({hosts}): start them from an image that has "
                "it, or choose another engine."
            )
        engine = next(iter(engines))
        return engine if len(engines) == 1 else engine.model_copy(update={"compute_capability": None})


def require_same(cluster: ClusterFacts, kinds: Collection[EngineKind]) -> None:
    """Raise ClusterError, with node names, if a plan's nodes differ from each other or from this process.

    Engines are compared only among the nodes that would hold them: this process may lack the engines.
    """
    local = _local_scoring()
    for name in (_MERGEBOARD, *local, *map(_engine_name, kinds)):
        nodes = cluster.nodes if name == _MERGEBOARD else cluster.engine_nodes
        values: dict[str, list[str]] = {}
        if name in local:
            values[local[name]] = [_HERE]
        for node in nodes:
            if node.software is not None:
                value = facts_of(node.software, kinds).get(name, _ABSENT)
                values.setdefault(value, []).append(cluster.name_of(node))
        if len(values) > 1:
            raise ClusterError(
                f"The nodes do not have the same image: {difference(name, values)}; start all of them, and the command, from one "
                "image (`mergeboard doctor --address ADDRESS` lists what each has)."
            )


def _local_scoring() -> dict[str, str]:
    """Versions of mergeboard and of the scoring packages in this process."""
    version = package_version(_MERGEBOARD) or _ABSENT
    return facts_of(NodeSoftware(mergeboard=version, scorer=packages_identity(), engines=()), ())


def facts_of(software: NodeSoftware, kinds: Iterable[EngineKind]) -> dict[str, str]:
    """Versions by name: mergeboard, each scoring package, and engines of these kinds with their device."""
    pairs = (item.partition("=") for item in software.scorer.split())
    facts = {_MERGEBOARD: software.mergeboard, **{name: version for name, _, version in pairs}}
    for kind in kinds:
        engine = software.engine(kind)
        facts[_engine_name(kind)] = f"{engine.version} for {engine.device}" if engine else _ABSENT
    return facts


def _engine_name(kind: EngineKind) -> str:
    """Name of an engine, distinct from packages: transformers is both."""
    return f"engine {kind}"


def difference(name: str, values: Mapping[str, list[str]]) -> str:
    """Part of a sentence: which version is on which nodes."""
    parts = []
    for value, places in values.items():
        suffix = f" and {len(places) - 3} more" if len(places) > 3 else ""
        parts.append(f"{value} on {', '.join(places[:3])}{suffix}")
    return f"{name} is " + " and ".join(parts)


def mismatch(node: NodeSoftware | None) -> str | None:
    """Why a node that joins later cannot take part in a run of this process; None if it can.

    Engines are not compared: each job names the engine that it needs.
    """
    if node is None:
        return None
    local, remote = _local_scoring(), facts_of(node, ())
    name = next((name for name in local if local[name] != remote.get(name, _ABSENT)), None)
    if name is None:
        return None
    return f"it has another image: {name} is {local[name]} here and {remote.get(name, _ABSENT)} there"
