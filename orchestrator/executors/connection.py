"""Joining a Ray cluster or starting Ray here; what the nodes have, and whether all of them see the one root."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import uuid
from typing import Any

import ray
from pydantic import Field

# Ray's own and compiled, so mypy does not see it: nothing public asks a head for its token without its dashboard. Ray is pinned.
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.cluster import ClusterFacts, NodeFacts
from orchestrator.errors import ClusterError, TokenError
from orchestrator.executors.private import LOOPBACK, private_start
from orchestrator.jobs import Frozen
from orchestrator.provenance import hardware
from orchestrator.settings import Settings
from orchestrator.worker import read_and_write

_NODE_CHECK_S = 90.0
_ANSWER_S = 10.0
_STARTS = 5
_ACCELERATOR = "accelerator_type:"


class NodeReport(Frozen):
    """What a node says of itself."""

    problem: str | None = Field(description="Why it cannot use MERGEBOARD_HOME; null where it can.")
    gpu_memory_bytes: int | None = Field(
        default=None, description="Memory of its smallest GPU; null where it has none."
    )


def connect(settings: Settings, address: str | None = None) -> ClusterFacts:
    """Connect to the cluster, or start Ray on this machine, with its token authentication; what it has.

    Raises ClusterError where the address does not answer, TokenError where it does not take our token.
    """
    target = address or settings.ray_address
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    common: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "configure_logging": False,
    }
    if not ray.is_initialized():
        try:
            if target:
                ask_head(target)
                ray.init(address=target, **common)
            else:
                _start_here(common)
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            raise _unreachable(target, error) from error
    return cluster_facts()


def ask_head(address: str) -> None:
    """Whether a head at `HOST:PORT` answers and takes our token; other forms of address are left to Ray.

    Ray itself tries for most of a minute, and says in the end that it cannot be reached. Raises ClusterError, TokenError.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
        GcsClient(address=address)
    except ray.exceptions.AuthenticationError as error:
        raise TokenError(address) from error
    except (OSError, OverflowError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> ClusterError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ClusterError(
        f"Ray at {address or 'this machine'} cannot be reached ({reason}); check the address with `ray status --address ADDRESS`, or "
        "leave --address out to run on this machine."
    )


def _start_here(options: dict[str, Any]) -> None:
    """Start Ray on this machine; on a busy one its parts may miss each other the first time."""
    for attempt in range(_STARTS):
        try:
            # "local": left out, Ray would join whatever cluster another command has started here, and die with it.
            # Ray counts the machine's cores, not those that this process may use.
            with private_start():
                ray.init(
                    address="local",
                    num_cpus=hardware().cpu_count,
                    include_dashboard=False,
                    _node_ip_address=LOOPBACK,
                    **options,
                )
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if attempt + 1 == _STARTS:
                raise ClusterError(
                    f"Ray did not start on this machine in {_STARTS} tries; it is too busy, or /tmp/ray/session_latest/logs "
                    "tells why."
                ) from error


def cluster_facts(reports: dict[str, NodeReport] | None = None) -> ClusterFacts:
    """CPUs, GPUs and memory of every live node; with reports, only nodes that have one without a problem."""
    nodes = []
    for node in ray.nodes():
        report = (reports or {}).get(node["NodeID"])
        if not node["Alive"] or (reports is not None and (report is None or report.problem)):
            continue
        has = node["Resources"]
        kinds = [name.removeprefix(_ACCELERATOR) for name in has if name.startswith(_ACCELERATOR)]
        nodes.append(
            NodeFacts(
                node_id=node["NodeID"],
                host=node["NodeManagerHostname"],
                cpus=has.get("CPU", 0.0),
                gpus=has.get("GPU", 0.0),
                memory_bytes=int(has.get("memory", 0)),
                gpu_type=kinds[0] if kinds else None,
                gpu_memory_bytes=report.gpu_memory_bytes if report else None,
            )
        )
    return ClusterFacts(nodes=tuple(nodes))


def survey(settings: Settings, node_ids: list[str]) -> dict[str, NodeReport]:
    """Ask nodes, all at once, whether they can write and read under MERGEBOARD_HOME, and how large their GPUs are."""
    token = uuid.uuid4().hex
    settings.home.mkdir(parents=True, exist_ok=True)
    mark = settings.home / f".doctor-{token}"
    mark.write_text(token)
    try:
        asked = {
            ray.remote(_report)
            .options(
                num_cpus=0,
                max_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote(str(mark), token): node_id
            for node_id in node_ids
        }
        ray.wait(list(asked), num_returns=len(asked), timeout=_NODE_CHECK_S)
        return {node_id: _answer(reference) for reference, node_id in asked.items()}
    finally:
        mark.unlink(missing_ok=True)


def _answer(reference: Any) -> NodeReport:
    try:
        report: NodeReport = ray.get(reference, timeout=0.1)
    except (ray.exceptions.RayError, TimeoutError) as error:
        return NodeReport(problem=f"the node did not answer ({type(error).__name__})")
    return report


def _report(mark: str, token: str) -> NodeReport:
    """Runs on the node."""
    return NodeReport(problem=read_and_write(mark, token), gpu_memory_bytes=_smallest_gpu_bytes())


def _smallest_gpu_bytes() -> int | None:
    """By the driver's own tool, which reserves no GPU; null where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    words = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    sizes = [int(line) for line in told.stdout.split() if line.isdigit()]
    return min(sizes) << 20 if sizes else None


def home_check(settings: Settings, facts: ClusterFacts) -> dict[str, str | None]:
    """Write and read a file under MERGEBOARD_HOME from every node; host to what went wrong, or None."""
    reports = survey(settings, [node.node_id for node in facts.nodes])
    return {node.host: reports[node.node_id].problem for node in facts.nodes}


def disconnect() -> None:
    """Leave the cluster; stops Ray where `connect` started it."""
    ray.shutdown()
