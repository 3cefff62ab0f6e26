"""Executes a plan from start to end: opens the store, joins the cluster, runs the scheduler.

A run's id is derived from its plan, so that the same command finds the same run: an interrupted one
continues, a finished one is only shown.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.engine import DeviceKind, InstalledEngine, digest_of
from evals.engines import installed_engine
from evals.suite import Suite
from evals.suite_file import SuiteRequest
from orchestrator.cluster import Growth, RayExecutor, cluster_facts, connect, disconnect, gpus_awaited, survey
from orchestrator.cluster.metrics import RunMetrics
from orchestrator.cluster.software import EnginesOf, require_same
from orchestrator.display.text_safety import plain
from orchestrator.errors import ClusterError, RunError
from orchestrator.plan.benchmarks import MissingBenchmark
from orchestrator.plan.candidate_race import first_round, race_rule
from orchestrator.plan.capacity import ClusterFacts, this_machine
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.sweep import Sweep, SweepFile, parse_sweep
from orchestrator.provenance import provenance
from orchestrator.run.additions import Additions
from orchestrator.run.candidate_race import CandidateRounds
from orchestrator.run.comparing import KeepComparisons
from orchestrator.run.cost import durations_of
from orchestrator.run.evidence import evidence_of
from orchestrator.run.node_data import with_data_on_nodes, without
from orchestrator.run.plan_records import candidate_records, planned_jobs
from orchestrator.run.scheduler import Reporter, RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.records import NewRun, RunRecord


@dataclass(frozen=True)
class GrowingRun:
    """A run whose later candidates follow from the results of earlier ones."""

    run_id: str
    begin: Callable[[Store], Additions]
    """Called when the run is in the store, before its first job starts."""


_LEFT_OUT = "Its data was not on every node when the run was planned."


def to_stderr(sentence: str) -> None:
    """Print one line to stderr, without control characters."""
    sys.stderr.write(f"{plain(sentence)}\n")
    sys.stderr.flush()


def execute(
    plan: Plan,
    settings: Settings,
    reporter: Reporter,
    *,
    address: str | None = None,
    cluster: ClusterFacts | None = None,
    stay: bool = False,
    grows: GrowingRun | None = None,
) -> RunSummary:
    """Run a plan to its end; jobs whose outcome is in the store are not run again.

    With `stay` this process stays connected to the cluster for another plan; the caller disconnects. With `grows` the plan
    is what the run begins with. The candidates of a sweep with `decide.race` race.
    """
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan, run_id=grows.run_id if grows else None)
        additions = grows.begin(store) if grows else None
        if grows is None and (rule := race_rule(plan)) is not None:
            additions, plan = CandidateRounds(plan, rule, store), first_round(plan, rule)
        on_gpu = (cluster or this_machine()).has_gpus
        durations = durations_of(plan, store, on_gpu=on_gpu, home=settings.home)
        comparing = KeepComparisons(store, run_id, settings.home)
        scheduler = Scheduler(
            store,
            plan,
            run_id=run_id,
            settings=settings,
            reporter=reporter,
            durations=durations,
            observers=[RunMetrics(run_id), comparing],
            evidence=evidence_of(plan, store, durations),
            additions=additions,
        )
        finished = scheduler.nothing_to_do()
        if finished is not None:
            return finished
        is_surveyed = cluster is not None and all(node.node_id for node in cluster.nodes)
        facts = cluster if cluster is not None and is_surveyed else usable_nodes(settings, address)
        try:
            _require_engines(plan, facts)
            executor = RayExecutor(
                settings, facts, needs=plan.needs, seconds=durations.seconds, start_s=durations.start_s
            )
            with comparing:
                return scheduler.run(executor)
        finally:
            if not stay:
                disconnect()


def cluster_for(
    settings: Settings, address: str | None, *, gpus: int = 1, say: Callable[[str], None] = to_stderr
) -> ClusterFacts:
    """Capacity for a run: the given cluster, or this machine, on which Ray is started later.

    If the cluster has no GPU node and its autoscaler can start one with `gpus` GPUs, waits for it: the plan
    depends on its engine. With `gpus` 0 no node is started.
    """
    if not (address or settings.ray_address):
        return this_machine()
    facts = connect(settings, address)
    try:
        if not gpus or facts.has_gpus:
            usable = usable_nodes(settings, address)
            # The autoscaler may have removed an idle node during the survey.
            if not gpus or usable.has_gpus or cluster_facts().has_gpus:
                return usable
        with gpus_awaited(gpus, say):
            return usable_nodes(settings, address)
    except BaseException:
        disconnect()
        raise


def gpus_of(sweep: Sweep) -> int:
    """Largest `tensor_parallel` of the sweep's engines; 1 if none is set."""
    return max((entry.tensor_parallel or 1 for entry in sweep.engines), default=1)


def usable_nodes(settings: Settings, address: str | None) -> ClusterFacts:
    """Connect to the cluster and return the nodes that share MERGEBOARD_HOME; ClusterError if none does."""
    facts = connect(settings, address)
    is_local = not (address or settings.ray_address)
    if is_local and len(facts.nodes) == 1 and not facts.has_gpus:
        return facts
    reports = survey(settings, [node.node_id for node in facts.nodes])
    usable = cluster_facts(reports)
    alive = {node.node_id for node in cluster_facts().nodes}
    problem = next((r.problem for node_id, r in reports.items() if r.problem and node_id in alive), None)
    if not usable.engine_nodes and (problem or not Growth().may_come(1)):
        disconnect()
        first = problem or "no node has a CPU or a GPU to give"
        raise ClusterError(
            f"No node of the cluster can be used: {first} (MERGEBOARD_HOME is {settings.home}); every node must mount the same "
            "root, `mergeboard doctor --address` checks each."
        )
    return usable


def plan_for(
    file: SweepFile,
    settings: Settings,
    cluster: ClusterFacts,
    *,
    tensor_parallel: int | None = None,
    suites: Mapping[SuiteRequest, Suite] | None = None,
    whole: bool = False,
) -> Plan:
    """Plan a sweep for the engines and data of the nodes that will run it.

    Raises ClusterError if the nodes' software differs, and the errors of `make_plan`.
    """
    require_same(cluster, {entry.kind for entry in file.sweep.engines})
    plan = make_plan(
        file,
        settings,
        cluster=cluster,
        tensor_parallel=tensor_parallel,
        installed=EnginesOf(cluster),
        suites=suites,
        whole=whole,
    )
    return with_data_on_nodes(plan, settings, cluster)


def further_plan(file: SweepFile, begun: Plan, settings: Settings, cluster: ClusterFacts) -> Plan:
    """Plan further candidates of a run with the engines, suites and benchmarks of the plan that it began with."""
    recorded = {engine.kind: engine for engine in begun.engines}
    plan = make_plan(
        file,
        settings,
        cluster=cluster,
        tensor_parallel=begun.tensor_parallel,
        installed=recorded.__getitem__,
        suites=dict(begun.suites),
    )
    missing = {(m.suite, m.benchmark) for m in plan.missing}
    return without(plan, [m for m in begun.missing if (m.suite, m.benchmark) not in missing])


def _require_engines(plan: Plan, facts: ClusterFacts) -> None:
    """Raise ClusterError if no node has an engine of the plan, and no such node can be started."""
    for spec in dict.fromkeys(planned.job.engine for planned in plan.evals):
        if facts.nodes_for(spec):
            continue
        if (
            spec.device is not DeviceKind.CPU
            and not facts.has_gpus
            and Growth().may_come(spec.tensor_parallel)
        ):
            continue
        installed = {
            f"{engine.version} for {engine.device} on {facts.name_of(node)}"
            for node in facts.engine_nodes
            if node.software is not None and (engine := node.software.engine(spec.kind)) is not None
        }
        state = f"have {', '.join(sorted(installed)[:3])}" if installed else f"are {facts.sentence}"
        raise ClusterError(
            f"The run was planned for {spec.kind} {spec.version} on {spec.device or 'another device'}, and the nodes {state}: start nodes with that "
            "engine, or run the sweep file again, which plans for what is there."
        )


def register(store: Store, plan: Plan, *, run_id: str | None = None) -> str:
    """Store the plan as a run, unless it exists; returns the run's id. A run with an id of its own grows beyond the plan.

    So does a race of candidates, of which the first round is stored.
    """
    rule = race_rule(plan) if run_id is None else None
    grows, run_id = run_id is not None or rule is not None, run_id or run_id_of(plan)
    plan = plan if rule is None else first_round(plan, rule)
    run = NewRun(
        id=run_id,
        name=plan.sweep.name,
        sweep=plan.text,
        sweep_digest=digest_of(plan.sweep),
        provenance=provenance(),
        plan=json.dumps(
            {
                "folder": plan.folder,
                "jobs": len(plan.jobs),
                "tensor_parallel": plan.tensor_parallel,
                "engines": [engine.model_dump(mode="json") for engine in plan.engines],
                "suites": [[request.model_dump(mode="json"), suite.digest] for request, suite in plan.suites],
                "left_out": [[m.suite, m.benchmark] for m in plan.missing],
                "missing": [f"{m.suite} {m.benchmark}: {m.reason}" for m in plan.missing],
                **({"whole": True} if plan.whole else {}),
                **({"confirms": plan.confirms.model_dump(mode="json")} if plan.confirms else {}),
                **({"race": plan.race.model_dump(mode="json")} if plan.race else {}),
                **({"candidate_race": rule.model_dump(mode="json")} if rule is not None else {}),
                **({"grows": True} if grows else {}),
            }
        ),
    )
    store.keep_suites([suite for _, suite in plan.suites])
    store.create_run(run, candidate_records(plan), planned_jobs(plan))
    return run_id


def run_id_of(plan: Plan) -> str:
    """Run id: the sweep's name as a slug, and the first digits of the plan's digest; of a race another one than of the whole sweep."""
    slug = re.sub(r"[^a-z0-9]+", "-", plan.sweep.name.lower()).strip("-")[:40] or "run"
    if (rule := race_rule(plan)) is not None:
        return f"{slug}-race-{digest_of([plan.digest, rule.model_dump(mode='json')])[:8]}"
    return f"{slug}-{plan.digest[:8]}"


def stored_plan(run_id: str, settings: Settings, *, whole: bool = False) -> Plan:
    """Recreate the plan of a stored run from its sweep; RunError if the plan has changed.

    With `whole` it is the plan of the run that completes what stopped early in this one.
    """
    with Store.open(settings.database_url, create=False) as store:
        record = store.run(run_id)
        stored = {suite.digest: suite for suite in store.suites()}
    summary = json.loads(record.plan)
    if summary.get("race"):
        raise RunError(
            f"Run {run_id} is a race of layer paths: run the same `mergeboard scan --race` again, which goes on where it stopped; without "
            "--race it asks every path everything, and nothing twice."
        )
    if summary.get("grows") and not summary.get("candidate_race"):
        raise RunError(
            f"Run {run_id} belongs to a search over merges: run `mergeboard search` with its file again, which goes on where it stopped."
        )
    suites = {
        SuiteRequest.model_validate(request): stored[digest]
        for request, digest in summary.get("suites", ())
        if digest in stored
    }
    folder = Path(summary.get("folder", "."))
    file = parse_sweep(record.sweep.encode(), origin=f"run {run_id}", folder=folder)
    recorded = {e.kind: e for e in map(InstalledEngine.model_validate, summary.get("engines", ()))}
    plan = make_plan(
        file,
        settings,
        tensor_parallel=summary.get("tensor_parallel", 1),
        installed=lambda kind: recorded.get(kind) or installed_engine(kind),
        suites=suites,
        whole=whole or bool(summary.get("whole")),
    )
    # Benchmarks that were missing when the run was planned stay excluded, even if available now.
    missing_keys = {(m.suite, m.benchmark) for m in plan.missing}
    left_out = [key for key in map(tuple, summary.get("left_out", ())) if key not in missing_keys]
    plan = without(plan, [MissingBenchmark(suite=s, benchmark=b, reason=_LEFT_OUT) for s, b in left_out])
    if not whole and run_id_of(plan) != run_id:
        raise RunError(
            f"Run {run_id} cannot go on as it was planned: its checkpoints, data sets or installed versions have changed "
            f"since; run its sweep file again, which reuses what still holds."
        )
    return plan


def cancel_run(run_id: str, settings: Settings) -> RunRecord:
    """Request the cancellation of a run; its driver stops within seconds."""
    with Store.open(settings.database_url, create=False) as store:
        return store.cancel_run(run_id)
