"""Benchmarks whose data a node lacks, or has with other content: left out when a run is planned, not when its engine is open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from evals.datasets import DataOnNode, data_of
from evals.suite import Benchmark, load_suite
from orchestrator.cluster import data_on_nodes
from orchestrator.errors import PlanError
from orchestrator.plan.benchmarks import MissingBenchmark
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.plan import Plan
from orchestrator.settings import Settings

BenchmarkKey = tuple[str, str]
"""Suite and benchmark."""


def with_data_on_nodes(plan: Plan, settings: Settings, cluster: ClusterFacts) -> Plan:
    """The plan without the benchmarks whose data is not the same on every node that would run them, which become missing.

    Raises PlanError where nothing is left.
    """
    keys = list(dict.fromkeys((e.job.suite, e.job.benchmark) for e in plan.evals if not e.job.is_probe))
    nodes = [node for node in cluster.engine_nodes if node.node_id and node.software is not None]
    if not keys or not nodes:
        return plan
    benchmarks = {key: load_suite(key[0]).benchmark(key[1]) for key in keys}
    reasons = absent_data(benchmarks, settings, cluster, nodes)
    return without(
        plan, [MissingBenchmark(suite=s, benchmark=b, reason=reason) for (s, b), reason in reasons.items()]
    )


def without(plan: Plan, missing: Collection[MissingBenchmark]) -> Plan:
    """The plan without these benchmarks; PlanError where nothing is left of it."""
    gone = {(m.suite, m.benchmark) for m in missing}
    if not gone:
        return plan
    evals = tuple(e for e in plan.evals if (e.job.suite, e.job.benchmark) not in gone)
    if not evals and plan.evals:
        first = next(iter(missing))
        raise PlanError(f"None of the benchmarks can run here: {first.benchmark}: {first.reason}")
    return plan.model_copy(update={"evals": evals, "missing": (*plan.missing, *missing)})


def absent_data(
    benchmarks: Mapping[BenchmarkKey, Benchmark],
    settings: Settings,
    cluster: ClusterFacts,
    nodes: Sequence[NodeFacts],
) -> dict[BenchmarkKey, str]:
    """Why benchmarks cannot run on these nodes, in one sentence each, with the nodes' names and the command."""
    answers = data_on_nodes(settings, [node.node_id for node in nodes], benchmarks.values())
    reasons: dict[BenchmarkKey, str] = {}
    for position, (key, benchmark) in enumerate(benchmarks.items()):
        here = data_of(benchmark, settings.datasets)
        lacking: dict[str, DataOnNode] = {}
        other: list[str] = []
        silent: dict[str, str] = {}
        for node in nodes:
            answer = answers[node.node_id]
            name = cluster.name_of(node)
            if isinstance(answer, str):
                silent[name] = answer
            elif answer[position].digest is None:
                lacking[name] = answer[position]
            elif answer[position].digest != here.digest:
                other.append(name)
        if lacking:
            first = next(iter(lacking.values()))
            reasons[key] = (
                f"On {_listed(lacking)}: {first.reason} Get it there with: {first.command} (or mount one folder on every node and "
                "name it in MERGEBOARD_DATASETS)"
            )
        elif other:
            reasons[key] = (
                f"{here.dataset} has other content on {_listed(other)} than here; get the same revision on every node (or mount one "
                "folder on every node and name it in MERGEBOARD_DATASETS)"
            )
        elif silent:
            name, why = next(iter(silent.items()))
            reasons[key] = f"{name} could not be asked whether it has {here.dataset}: {why}"
    return reasons


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:3]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(shown) + more
