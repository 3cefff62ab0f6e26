"""Queries all nodes in parallel: access to the root, GPUs, installed versions, data sets."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import ray
from pydantic import Field
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from evals.datasets import DataOnNode, data_of
from evals.engine import Frozen
from evals.suite import Benchmark
from orchestrator.cluster.gpu_checks import GpuFacts, gpu_facts
from orchestrator.cluster.software import mismatch, software_here
from orchestrator.plan.capacity import NodeSoftware
from orchestrator.settings import Settings
from orchestrator.worker.worker import read_and_write

_NODE_CHECK_S = 90.0
# Long enough to read all data once on each node.
_DATA_CHECK_S = 600.0
# A new node is listed by the head before the local raylet knows it; until then tasks for it are refused.
_KNOWN_S = 60.0
_PAUSE_S = 0.5
_UNPLACED = "Ray could not place a task on the node"


class NodeReport(Frozen):
    """Result of the survey of one node."""

    problem: str | None = Field(description="Why the node cannot take part; null if it can.")
    gpu_memory_bytes: int | None = Field(
        default=None, description="Memory in bytes of its smallest GPU; null without GPUs."
    )
    software: NodeSoftware | None = Field(
        default=None, description="Installed software; null if the node did not answer."
    )
    gpu: GpuFacts | None = Field(
        default=None, description="GPU driver, memory and compiler; null if the node did not answer."
    )


def survey(settings: Settings, node_ids: Sequence[str]) -> dict[str, NodeReport]:
    """Query nodes for read and write access to MERGEBOARD_HOME, GPUs and installed software."""
    token = uuid.uuid4().hex
    settings.home.mkdir(parents=True, exist_ok=True)
    mark = settings.home / f".doctor-{token}"
    mark.write_text(token)
    try:
        answers = _ask(_report, (str(mark), token), node_ids, _NODE_CHECK_S)
    finally:
        mark.unlink(missing_ok=True)
    return {
        node_id: answer if isinstance(answer, NodeReport) else NodeReport(problem=answer)
        for node_id, answer in answers.items()
    }


def admitted(report: NodeReport) -> NodeReport:
    """The report of a node that joined after planning, with a problem if its image differs from ours."""
    problem = report.problem or mismatch(report.software)
    return report.model_copy(update={"problem": problem})


def data_on_nodes(
    settings: Settings, node_ids: Sequence[str], benchmarks: Iterable[Benchmark]
) -> dict[str, tuple[DataOnNode, ...] | str]:
    """The data of each benchmark on each node, in order; a sentence if the node did not answer."""
    requested = tuple(benchmarks)
    mirror = str(settings.datasets) if settings.datasets else None
    answers = _ask(_data, (requested, mirror), node_ids, _DATA_CHECK_S)
    return {
        node_id: answer if isinstance(answer, (tuple, str)) else str(answer)
        for node_id, answer in answers.items()
    }


def _ask(
    function: Callable[..., Any], arguments: tuple[Any, ...], node_ids: Sequence[str], patience_s: float
) -> dict[str, Any]:
    """Call a function on every node; returns its result, or a sentence why there is none."""
    # End the process after the call, so that it does not keep GPU memory.
    remote = ray.remote(max_calls=1, num_cpus=0, max_retries=0)(function)
    answers: dict[str, Any] = {}
    retry_until = time.monotonic() + _KNOWN_S
    waiting = list(node_ids)
    while waiting:
        calls = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
                *arguments
            ): node_id
            for node_id in waiting
        }
        ray.wait(list(calls), num_returns=len(calls), timeout=patience_s)
        answers |= {node_id: _answer(reference) for reference, node_id in calls.items()}
        waiting = [node_id for node_id in waiting if answers[node_id] == _UNPLACED]
        if waiting and time.monotonic() < retry_until:
            time.sleep(_PAUSE_S)
            alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
            waiting = [node_id for node_id in waiting if node_id in alive]
        else:
            break
    return answers


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference, timeout=0.1)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, (ImportError, AttributeError)):
            return f"it has another mergeboard than this machine ({cause})"
        return f"the node could not answer ({cause})"
    except ray.exceptions.TaskUnschedulableError:
        return _UNPLACED
    except (ray.exceptions.RayError, TimeoutError) as error:
        return f"the node did not answer ({type(error).__name__})"


def _report(mark: str, token: str) -> NodeReport:
    """Runs on the node."""
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
        # Ray hides all GPUs from a task that reserves none, but the survey needs to see them.
        del os.environ["CUDA_VISIBLE_DEVICES"]
    gpu = gpu_facts()
    return NodeReport(
        problem=read_and_write(mark, token),
        gpu_memory_bytes=min((card.total_bytes for card in gpu.cards), default=None),
        software=software_here(),
        gpu=gpu,
    )


def _data(benchmarks: tuple[Benchmark, ...], mirror: str | None) -> tuple[DataOnNode, ...]:
    """Runs on the node."""
    return tuple(data_of(benchmark, Path(mirror) if mirror else None) for benchmark in benchmarks)
