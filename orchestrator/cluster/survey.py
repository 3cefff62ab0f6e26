"""Asking nodes, all at once, what a driver cannot see from here: the root, GPUs, installed versions, data sets."""

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
# Every byte of the data is read once on each node.
_DATA_CHECK_S = 600.0
# The head lists a new node some time before the node that places this process's tasks knows it, and refuses them until then.
_KNOWN_S = 60.0
_PAUSE_S = 0.5
_UNPLACED = "Ray could not place a task on the node"


class NodeReport(Frozen):
    """What a node says of itself."""

    problem: str | None = Field(description="Why it cannot take part; null where it can.")
    gpu_memory_bytes: int | None = Field(
        default=None, description="Memory of its smallest GPU; null where it has none."
    )
    software: NodeSoftware | None = Field(
        default=None, description="What is installed on it; null where it did not answer."
    )
    gpu: GpuFacts | None = Field(
        default=None, description="Driver, memory and compiler; null where it did not answer."
    )


def survey(settings: Settings, node_ids: Sequence[str]) -> dict[str, NodeReport]:
    """Whether nodes can write and read under MERGEBOARD_HOME, how large their GPUs are, and what is installed on them."""
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
    """The report of a node that came after the run was planned: with a problem where it has another image than this process."""
    problem = report.problem or mismatch(report.software)
    return report.model_copy(update={"problem": problem})


def data_on_nodes(
    settings: Settings, node_ids: Sequence[str], benchmarks: Iterable[Benchmark]
) -> dict[str, tuple[DataOnNode, ...] | str]:
    """The data of each benchmark as a job on the node would read it, in order; a sentence where the node did not answer."""
    asked = tuple(benchmarks)
    mirror = str(settings.datasets) if settings.datasets else None
    answers = _ask(_data, (asked, mirror), node_ids, _DATA_CHECK_S)
    return {
        node_id: answer if isinstance(answer, (tuple, str)) else str(answer)
        for node_id, answer in answers.items()
    }


def _ask(
    function: Callable[..., Any], arguments: tuple[Any, ...], node_ids: Sequence[str], patience_s: float
) -> dict[str, Any]:
    """Call a function on every node; its answer, or a sentence that says why there is none."""
    # The process ends with the call: what it has opened on a GPU would stay for as long as it lives.
    remote = ray.remote(max_calls=1, num_cpus=0, max_retries=0)(function)
    answers: dict[str, Any] = {}
    known_by = time.monotonic() + _KNOWN_S
    waiting = list(node_ids)
    while waiting:
        asked = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
                *arguments
            ): node_id
            for node_id in waiting
        }
        ray.wait(list(asked), num_returns=len(asked), timeout=patience_s)
        answers |= {node_id: _answer(reference) for reference, node_id in asked.items()}
        waiting = [node_id for node_id in waiting if answers[node_id] == _UNPLACED]
        if waiting and time.monotonic() < known_by:
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
        # Ray hides all GPUs from a task that reserves none; this one looks which engines they serve.
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
