"""Checks what this machine or cluster can do, what is missing, and how to fix it."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from evals.datasets import check
from evals.engine import EngineKind, Frozen
from evals.engines import installed_version
from evals.errors import EvaluationError
from evals.suite import load_suite, suite_names
from orchestrator.cluster.gpu_checks import Problem, describe_gpus, gpu_facts, gpu_problems
from orchestrator.cluster.software import require_same
from orchestrator.display.format import size
from orchestrator.errors import MergeboardError, TokenError
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.provenance import hardware, package_version
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.cluster.survey import NodeReport

_SPARE_BYTES = 5_000_000_000


class Health(StrEnum):
    """Result of a check."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


class HealthCheck(Frozen):
    """One line of the doctor's report."""

    name: str = Field(description="Name of the check.")
    health: Health = Field(description="`broken` prevents evaluations; `missing` disables a part.")
    message: str = Field(description="The finding.")
    mend: str | None = Field(default=None, description="Command or step that fixes it.")


def examine(settings: Settings, address: str | None = None) -> Iterator[HealthCheck]:
    """Run all checks and yield their findings."""
    yield from _packages()
    yield _torch()
    yield _vllm()
    yield from _home(settings)
    yield _store(settings)
    yield from _datasets(settings)
    yield _token()
    yield from _gpu(address or settings.ray_address)
    yield from _ray(settings, address)


def _packages() -> Iterator[HealthCheck]:
    names = ("torch", "transformers", "lm_eval", "mergekit", "ray", "streamlit", "sqlalchemy", "math-verify")
    absent = [name for name in names if package_version(name) is None]
    if absent:
        yield HealthCheck(
            name="packages",
            health=Health.BROKEN,
            message=f"not installed: {', '.join(absent)}",
            mend="make setup",
        )
    else:
        versions = ", ".join(f"{name} {package_version(name)}" for name in names)
        yield HealthCheck(name="packages", health=Health.OK, message=versions)


def _torch() -> HealthCheck:
    import torch

    machine = hardware()
    gpus = ", ".join(machine.gpus) or "no GPU"
    memory = machine.memory_bytes / 2**30
    text = f"torch {torch.__version__}; {machine.cpu_count} cores, {memory:.0f} GiB of memory, {gpus}"
    if torch.version.cuda is None and Path("/proc/driver/nvidia/version").exists():
        return HealthCheck(
            name="torch",
            health=Health.MISSING,
            message=f"{text}; this machine has an NVIDIA driver but torch is a CPU build",
            mend="make clean setup TARGET=gpu",
        )
    return HealthCheck(name="torch", health=Health.OK, message=text)


def _vllm() -> HealthCheck:
    try:
        return HealthCheck(
            name="vllm", health=Health.OK, message=f"vLLM {installed_version(EngineKind.VLLM)}"
        )
    except EvaluationError as error:
        return HealthCheck(
            name="vllm",
            health=Health.MISSING,
            message=str(error),
            mend="make setup, or use --engine transformers",
        )


def _home(settings: Settings) -> Iterator[HealthCheck]:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe = settings.home / f".doctor-{uuid.uuid4().hex[:8]}"
        probe.write_text("mergeboard")
        probe.unlink()
    except OSError as error:
        yield HealthCheck(
            name="home",
            health=Health.BROKEN,
            message=f"{settings.home} cannot be written ({error.strerror})",
            mend="set MERGEBOARD_HOME to a folder that you may write",
        )
        return
    yield HealthCheck(name="home", health=Health.OK, message=str(settings.home))
    free = shutil.disk_usage(settings.home).free
    message = f"{size(free)} free under {settings.home}"
    if free < _SPARE_BYTES:
        yield HealthCheck(
            name="disk",
            health=Health.MISSING,
            message=message,
            mend="mergeboard cache prune, or set MERGEBOARD_HOME to a larger disk",
        )
    else:
        yield HealthCheck(name="disk", health=Health.OK, message=message)


def _store(settings: Settings) -> HealthCheck:
    from orchestrator.store import Store

    try:
        store = Store.open(settings.database_url)
    except MergeboardError as error:
        return HealthCheck(name="store", health=Health.BROKEN, message=str(error), mend="mergeboard db check")
    store.close()
    return HealthCheck(name="store", health=Health.OK, message=store.label)


def _datasets(settings: Settings) -> Iterator[HealthCheck]:
    for name in suite_names():
        suite = load_suite(name)
        states = {b.name: check(b, settings.datasets) for b in suite.benchmarks}
        absent = {n: s for n, s in states.items() if s.location is None}
        summary = f"{len(states) - len(absent)} of {len(states)} benchmarks have their data"
        if absent:
            first = next(iter(absent.values()))
            yield HealthCheck(
                name=f"data {name}",
                health=Health.MISSING,
                message=f"{summary}; not: {', '.join(absent)}",
                mend=first.command,
            )
        else:
            yield HealthCheck(name=f"data {name}", health=Health.OK, message=summary)


def _token() -> HealthCheck:
    if os.environ.get("HF_TOKEN"):
        return HealthCheck(
            name="HF_TOKEN", health=Health.OK, message="set (its value is shown and stored nowhere)"
        )
    return HealthCheck(
        name="HF_TOKEN",
        health=Health.MISSING,
        message="not set; gated checkpoints and GPQA cannot be downloaded",
        mend="export HF_TOKEN=... (a read token of an account that accepted the terms)",
    )


def _gpu(address: str | None) -> Iterator[HealthCheck]:
    """Requirements of engines on this machine's GPUs; with a cluster this machine need not have any."""
    facts = gpu_facts()
    problems = list(gpu_problems(facts))
    yield from _gpu_findings(problems, "", Health.MISSING if address else Health.BROKEN)
    if not problems:
        kind = "" if facts.gpu_install else "; packages for CPUs are installed"
        yield HealthCheck(name="gpu", health=Health.OK, message=describe_gpus(facts) + kind)


def _gpu_findings(problems: Iterable[Problem], where: str, worst: Health) -> Iterator[HealthCheck]:
    """Findings for GPU problems; used memory is not broken, since it may be free when an engine opens."""
    for problem in problems:
        health = Health.MISSING if problem.name == "gpu memory" else worst
        yield HealthCheck(
            name=f"{problem.name}{where}", health=health, message=problem.message, mend=problem.mend
        )


def _ray(settings: Settings, address: str | None) -> Iterator[HealthCheck]:
    from orchestrator.cluster import Growth, cluster_facts, connect, disconnect, survey

    try:
        facts = connect(settings, address)
    except MergeboardError as error:
        yield HealthCheck(
            name="ray",
            health=Health.BROKEN,
            message=str(error),
            mend="export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=... (the cluster's)"
            if isinstance(error, TokenError)
            else "ray start --head, or leave --address out",
        )
        return
    try:
        cpus = sum(node.cpus for node in facts.nodes)
        gpus = sum(node.gpus for node in facts.nodes)
        where = address or settings.ray_address or "started on this machine"
        suffix = "; an autoscaler may start nodes with GPUs" if not gpus and Growth().may_come(1) else ""
        yield HealthCheck(
            name="ray",
            health=Health.OK,
            message=f"{len(facts.nodes)} node(s), {cpus:g} CPUs, {gpus:g} GPUs ({where}){suffix}",
        )
        reports = survey(settings, [node.node_id for node in facts.nodes])
        for node in facts.nodes:
            yield from _node(settings, facts.name_of(node), node, reports[node.node_id])
        if address or settings.ray_address:
            yield from _gpus_of_nodes(facts, reports)
            yield from _nodes_together(settings, cluster_facts(reports))
    finally:
        disconnect()


def _node(settings: Settings, name: str, node: NodeFacts, report: NodeReport) -> Iterator[HealthCheck]:
    """Findings for one node: the shared root, its software and its GPUs."""
    if report.problem is not None:
        yield HealthCheck(
            name=f"node {name}",
            health=Health.BROKEN,
            message=f"cannot use {settings.home}: {report.problem}",
            mend="mount the same MERGEBOARD_HOME on every node, and start every node from one image",
        )
        return
    words = [f"reads and writes {settings.home}"]
    if report.software is not None:
        engines = [f"{e.kind} {e.version} for {e.device}" for e in report.software.engines]
        words += [f"mergeboard {report.software.mergeboard}", *engines]
    if report.gpu is not None and node.gpus:
        words.append(describe_gpus(report.gpu))
    yield HealthCheck(name=f"node {name}", health=Health.OK, message="; ".join(words))


def _gpus_of_nodes(facts: ClusterFacts, reports: Mapping[str, NodeReport]) -> Iterator[HealthCheck]:
    """Problems of engines on the nodes with GPUs."""
    for node in facts.nodes:
        gpu = reports[node.node_id].gpu
        if gpu is not None and node.gpus:
            yield from _gpu_findings(gpu_problems(gpu), f" on {facts.name_of(node)}", Health.BROKEN)


def _nodes_together(settings: Settings, facts: ClusterFacts) -> Iterator[HealthCheck]:
    """Whether the nodes that would run a plan have the same software and data."""
    if not facts.engine_nodes:
        return
    engines = {e.kind for n in facts.engine_nodes if n.software is not None for e in n.software.engines}
    try:
        require_same(facts, engines)
    except MergeboardError as error:
        yield HealthCheck(
            name="images",
            health=Health.BROKEN,
            message=str(error),
            mend="start every node from one image (deploy/Dockerfile), and install the same versions here",
        )
    else:
        yield HealthCheck(
            name="images", health=Health.OK, message="the nodes and this machine have the same versions"
        )
    yield from _data_on_nodes(settings, facts)


def _data_on_nodes(settings: Settings, facts: ClusterFacts) -> Iterator[HealthCheck]:
    """Suites whose data is on this machine, but not the same on every node that would read it."""
    from orchestrator.run.node_data import absent_data

    local = {
        (name, benchmark.name): benchmark
        for name in suite_names()
        for benchmark in load_suite(name).benchmarks
        if check(benchmark, settings.datasets).location is not None
    }
    reasons = absent_data(local, settings, facts, facts.engine_nodes)
    for suite in dict.fromkeys(suite for suite, _ in local):
        absent = {benchmark: why for (of, benchmark), why in reasons.items() if of == suite}
        if absent:
            yield HealthCheck(
                name=f"data {suite} on nodes",
                health=Health.MISSING,
                message=f"not: {', '.join(absent)}; {next(iter(absent.values()))}",
                mend="copy the data to one folder that every node mounts, and set MERGEBOARD_DATASETS to it",
            )
        else:
            yield HealthCheck(
                name=f"data {suite} on nodes", health=Health.OK, message="the nodes have what is here"
            )
