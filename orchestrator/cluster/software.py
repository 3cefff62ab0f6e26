"""What is installed on the nodes of a cluster: the engines that a plan is made for, and whether all nodes have the same."""

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
    """What is installed where this process runs."""
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
    """The engines of a cluster, by kind, for a plan: those of the nodes that will run them."""

    def __init__(self, cluster: ClusterFacts) -> None:
        self._nodes = cluster.engine_nodes

    def __call__(self, kind: EngineKind) -> InstalledEngine:
        """The engine of this kind on the nodes; this process's own where no node was asked.

        Nodes that have it differ in their GPUs at most (`require_same` has seen to it): a compute capability that they do not
        share is left open. Raises EngineError where no node has the engine.
        """
        asked = [node.software for node in self._nodes if node.software is not None]
        if not asked:
            return installed_engine(kind)
        engines = {engine for software in asked if (engine := software.engine(kind)) is not None}
        if not engines:
            hosts = ", ".join(sorted({node.host for node in self._nodes})[:3])
            raise EngineError(
                f"The {kind} engine is not installed on the nodes that would run it ({hosts}): start them from an image that has "
                "it, or choose another engine."
            )
        some = next(iter(engines))
        return some if len(engines) == 1 else some.model_copy(update={"compute_capability": None})


def require_same(cluster: ClusterFacts, kinds: Collection[EngineKind]) -> None:
    """Raise ClusterError, naming the nodes, where those that would run a plan differ from each other or from this process.

    Engines are compared among the nodes that would hold them: this process plans for engines that it need not have.
    """
    here = _scoring_here()
    for name in (_MERGEBOARD, *here, *map(_engine_name, kinds)):
        nodes = cluster.nodes if name == _MERGEBOARD else cluster.engine_nodes
        values: dict[str, list[str]] = {}
        if name in here:
            values[here[name]] = [_HERE]
        for node in nodes:
            if node.software is not None:
                value = facts_of(node.software, kinds).get(name, _ABSENT)
                values.setdefault(value, []).append(cluster.name_of(node))
        if len(values) > 1:
            raise ClusterError(
                f"The nodes do not have the same image: {difference(name, values)}; start all of them, and the command, from one "
                "image (`mergeboard doctor --address ADDRESS` lists what each has)."
            )


def _scoring_here() -> dict[str, str]:
    """Versions of mergeboard and of what scores, of this process."""
    version = package_version(_MERGEBOARD) or _ABSENT
    return facts_of(NodeSoftware(mergeboard=version, scorer=packages_identity(), engines=()), ())


def facts_of(software: NodeSoftware, kinds: Iterable[EngineKind]) -> dict[str, str]:
    """Versions by name: mergeboard, each package that scores, and the engines of these kinds with their device."""
    pairs = (item.partition("=") for item in software.scorer.split())
    facts = {_MERGEBOARD: software.mergeboard, **{name: version for name, _, version in pairs}}
    for kind in kinds:
        engine = software.engine(kind)
        facts[_engine_name(kind)] = f"{engine.version} for {engine.device}" if engine else _ABSENT
    return facts


def _engine_name(kind: EngineKind) -> str:
    """What an engine is called beside packages, one of which may have its name: transformers is both."""
    return f"engine {kind}"


def difference(name: str, values: Mapping[str, list[str]]) -> str:
    """One sentence part: which version is where."""
    parts = []
    for value, places in values.items():
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        parts.append(f"{value} on {', '.join(places[:3])}{more}")
    return f"{name} is " + " and ".join(parts)


def mismatch(node: NodeSoftware | None) -> str | None:
    """Why a node that comes later cannot take part in a run of this process; None where it can.

    Engines are not looked at: which of them a job needs is in the job.
    """
    if node is None:
        return None
    here, there = _scoring_here(), facts_of(node, ())
    name = next((name for name in here if here[name] != there.get(name, _ABSENT)), None)
    if name is None:
        return None
    return f"it has another image: {name} is {here[name]} here and {there.get(name, _ABSENT)} there"
