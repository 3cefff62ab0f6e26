"""Running a plan from start to end: the store, the cluster, the scheduler, in that order.

A run is named after its plan, so that the same command finds the same run again: a run that was cut short
goes on, a finished one is only shown.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from evals.engine import digest_of
from orchestrator.cluster import ClusterFacts, this_machine
from orchestrator.costs import durations_of
from orchestrator.errors import ClusterError, RunError
from orchestrator.executors import RayExecutor, cluster_facts, connect, disconnect, survey
from orchestrator.metrics import RunMetrics
from orchestrator.plan import Plan, make_plan
from orchestrator.provenance import provenance
from orchestrator.records import CandidateRecord, NewRun, PlannedJob, RunRecord
from orchestrator.scheduler import Reporter, RunSummary, Scheduler
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.sweep import parse_sweep


def execute(
    plan: Plan,
    settings: Settings,
    reporter: Reporter,
    *,
    address: str | None = None,
    cluster: ClusterFacts | None = None,
    stay: bool = False,
) -> RunSummary:
    """Run a plan until nothing is left to do; what is in the store already is not run again.

    With `stay` the cluster is not left, since another plan follows; whoever asks for that leaves it in the end.
    """
    with Store.open(settings.database_url) as store:
        run_id = register(store, plan)
        on_gpu = (cluster or this_machine()).has_gpus
        durations = durations_of(plan, store, on_gpu=on_gpu, home=settings.home)
        scheduler = Scheduler(
            store,
            plan,
            run_id=run_id,
            settings=settings,
            reporter=reporter,
            durations=durations,
            observers=[RunMetrics(run_id)],
        )
        finished = scheduler.nothing_to_do()
        if finished is not None:
            return finished
        known = cluster is not None and all(node.node_id for node in cluster.nodes)
        facts = cluster if cluster is not None and known else usable_nodes(settings, address)
        try:
            executor = RayExecutor(
                settings, facts, needs=plan.needs, seconds=durations.seconds, start_s=durations.start_s
            )
            return scheduler.run(executor)
        finally:
            if not stay:
                disconnect()


def cluster_for(settings: Settings, address: str | None) -> ClusterFacts:
    """What a run will have: the cluster that is named, or this machine, where Ray is started later."""
    return usable_nodes(settings, address) if address or settings.ray_address else this_machine()


def usable_nodes(settings: Settings, address: str | None) -> ClusterFacts:
    """Connect; the nodes that share the root. ClusterError where none does."""
    facts = connect(settings, address)
    if len(facts.nodes) == 1 and not facts.has_gpus:
        return facts
    reports = survey(settings, [node.node_id for node in facts.nodes])
    usable = cluster_facts(reports)
    if not usable.engine_nodes:
        disconnect()
        first = next((r.problem for r in reports.values() if r.problem), "no node has a CPU or a GPU to give")
        raise ClusterError(
            f"No node of the cluster can be used: {first} (MERGEBOARD_HOME is {settings.home}); every node must mount the same "
            "root, `mergeboard doctor --address` checks each."
        )
    return usable


def register(store: Store, plan: Plan) -> str:
    """Write the plan down as a run, unless it is there; the run's id."""
    run_id = run_id_of(plan)
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
                "missing": [f"{m.suite} {m.benchmark}: {m.reason}" for m in plan.missing],
            }
        ),
    )
    store.create_run(run, _candidates(plan), _jobs(plan))
    return run_id


def run_id_of(plan: Plan) -> str:
    """The sweep's name and the first digits of the plan's digest."""
    slug = re.sub(r"[^a-z0-9]+", "-", plan.sweep.name.lower()).strip("-")[:40] or "run"
    return f"{slug}-{plan.digest[:8]}"


def stored_plan(run_id: str, settings: Settings) -> Plan:
    """The plan of a stored run, made again from its sweep; RunError where it is not the same plan any more."""
    with Store.open(settings.database_url, create=False) as store:
        record = store.run(run_id)
    summary = json.loads(record.plan)
    folder = Path(summary.get("folder", "."))
    file = parse_sweep(record.sweep.encode(), origin=f"run {run_id}", folder=folder)
    plan = make_plan(file, settings, tensor_parallel=summary.get("tensor_parallel", 1))
    if run_id_of(plan) != run_id:
        raise RunError(
            f"Run {run_id} cannot go on as it was planned: its checkpoints, data sets or installed versions have changed "
            f"since; run its sweep file again, which reuses what still holds."
        )
    return plan


def cancel_run(run_id: str, settings: Settings) -> RunRecord:
    """Ask for the end of a run; its driver stops within seconds."""
    with Store.open(settings.database_url, create=False) as store:
        return store.cancel_run(run_id)


def _candidates(plan: Plan) -> list[CandidateRecord]:
    return [
        CandidateRecord(
            position=position,
            name=candidate.name,
            is_base=candidate.is_base,
            weights_digest=candidate.weights_digest,
            layer_path=candidate.layer_path,
            recipe=candidate.recipe,
            layers=candidate.layers,
            parameters=candidate.parameters,
        )
        for position, candidate in enumerate(plan.candidates)
    ]


def _jobs(plan: Plan) -> list[PlannedJob]:
    """Every job once, with the positions of the candidates that need it."""
    position = {candidate.name: number for number, candidate in enumerate(plan.candidates)}
    users: dict[str, list[int]] = {}
    for candidate in plan.candidates:
        if candidate.build is not None:
            users.setdefault(candidate.build.digest, []).append(position[candidate.name])
    for planned in plan.evals:
        users.setdefault(planned.job.digest, []).append(position[planned.candidate])
    return [PlannedJob(job=job, candidates=tuple(users[digest])) for digest, job in plan.jobs.items()]
