"""Removes benchmarks from a plan if their data is missing or different on a node that would run them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from evals.datasets import DataOnNode, data_of
from evals.suite import Benchmark, suite_with
from orchestrator.cluster import data_on_nodes
from orchestrator.errors import PlanError
from orchestrator.plan.benchmarks import MissingBenchmark
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.plan.plan import Plan, with_early_stops
from orchestrator.settings import Settings

BenchmarkKey = tuple[str, str]
"""Names of suite and benchmark."""


def with_data_on_nodes(plan: Plan, settings: Settings, cluster: ClusterFacts) -> Plan:
    """Move benchmarks whose data differs between the nodes that would run them to the plan's missing ones.

    Raises PlanError if no benchmark is left.
    """
    keys = list(dict.fromkeys((e.job.suite, e.job.benchmark) for e in plan.evals if not e.job.is_probe))
    nodes = [node for node in cluster.engine_nodes if node.node_id and node.software is not None]
    if not keys or not nodes:
        return plan
    digests = {(e.job.suite, e.job.benchmark): e.job.benchmark_digest for e in plan.evals}
    benchmarks = {key: suite_with(*key, digests[key]).benchmark(key[1]) for key in keys}
    reasons = absent_data(benchmarks, settings, cluster, nodes)
    return without(
        plan, [MissingBenchmark(suite=s, benchmark=b, reason=reason) for (s, b), reason in reasons.items()]
    )


def without(plan: Plan, missing: Collection[MissingBenchmark]) -> Plan:
    """The plan without these benchmarks; PlanError if no evaluation is left."""
    missing_keys = {(m.suite, m.benchmark) for m in missing}
    if not missing_keys:
        return plan
    evals = tuple(e for e in plan.evals if (e.job.suite, e.job.benchmark) not in missing_keys)
    if not plan.whole:
        # The number of comparisons has changed, and evaluations may depend on those that are gone.
        evals = tuple(with_early_stops(evals, plan.candidates[0].name, plan.sweep))
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
    """Reasons why benchmarks cannot run on these nodes, one sentence each with node names and command."""
    answers = data_on_nodes(settings, [node.node_id for node in nodes], benchmarks.values())
    reasons: dict[BenchmarkKey, str] = {}
    for position, (key, benchmark) in enumerate(benchmarks.items()):
        local = data_of(benchmark, settings.datasets)
        lacking: dict[str, DataOnNode] = {}
        different: list[str] = []
        silent: dict[str, str] = {}
        for node in nodes:
            answer = answers[node.node_id]
            name = cluster.name_of(node)
            if isinstance(answer, str):
                silent[name] = answer
            elif answer[position].digest is None:
                lacking[name] = answer[position]
            elif answer[position].digest != local.digest:
                different.append(name)
        if lacking:
            first = next(iter(lacking.values()))
            reasons[key] = (
                f"On {_listed(lacking)}: {first.reason} Get it there with: {first.command} (or mount one folder on every node and "
                "name it in MERGEBOARD_DATASETS)"
            )
        elif different:
            reasons[key] = (
                f"{local.dataset} has other content on {_listed(different)} than here; get the same revision on every node (or mount one "
                "folder on every node and name it in MERGEBOARD_DATASETS)"
            )
        elif silent:
            name, why = next(iter(silent.items()))
            reasons[key] = f"{name} could not be asked whether it has {local.dataset}: {why}"
    return reasons


def _listed(names: Collection[str]) -> str:
    shown = list(names)[:3]
    suffix = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(shown) + suffix
