"""Joins a Ray cluster, or starts Ray on this machine, and lists its nodes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import ray

# Private: `ray.init` calls it only for `auto`; no public function sends a token without RAY_AUTH_MODE.
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

# Compiled, without types: no public function checks a token without the dashboard. Ray is pinned.
from ray._raylet import GcsClient  # type: ignore[attr-defined]

from orchestrator.cluster.address import AddressForm, HeadAddress, parse_address
from orchestrator.cluster.private import LOOPBACK, private_start
from orchestrator.cluster.survey import NodeReport
from orchestrator.errors import ClusterError, TokenError
from orchestrator.plan.capacity import ClusterFacts, NodeFacts
from orchestrator.provenance import hardware
from orchestrator.settings import Settings

_ANSWER_S = 10.0
_CLIENT_S = 60.0
_STARTS = 5
_ACCELERATOR = "accelerator_type:"
_COMMON: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}


def connect(settings: Settings, address: str | None = None) -> ClusterFacts:
    """Connect to the cluster, or start Ray on this machine, with token authentication; returns its nodes.

    Raises ClusterError if the address is invalid or does not answer, TokenError if it rejects the token.
    """
    target = address or settings.ray_address
    # Ray warns through this logger, regardless of `logging_level`, that it uses a token.
    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Makes a raylet that is started here kill a worker's children with the worker.
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
    if not ray.is_initialized():
        try:
            with _keep_sigterm_handler():
                if target and target != "local":
                    ray.init(address=head_of(parse_address(target)), **_COMMON)
                else:
                    _start_local(_COMMON)
        except ray.exceptions.AuthenticationError as error:
            raise TokenError(target or "this machine") from error
        except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            raise _unreachable(target, error) from error
    return cluster_facts()


@contextlib.contextmanager
def _keep_sigterm_handler() -> Iterator[None]:
    """Restore the SIGTERM handler, which `ray.init` replaces by one that exits without a message."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def head_of(address: HeadAddress) -> str:
    """The address for `ray.init`: HOST:PORT of the head, which answers and accepts the token, or `auto`.

    The driver of a run talks to every node, so it joins the cluster itself, whatever the form of the address: the
    client server is asked for the head, the dashboard's host is taken as the head's. ClusterError, TokenError.
    """
    if address.form is AddressForm.AUTO:
        return address.text
    if address.form is AddressForm.HEAD:
        ask_head(address.text)
        return address.text
    if address.form is AddressForm.CLIENT:
        head = _head_by_client(address)
        ask_head(head)
        return head
    try:
        ask_head(address.guessed_head)
    except TokenError:
        raise
    except ClusterError as error:
        raise ClusterError(
            f"{address.text} is a dashboard, which takes submissions (`mergeboard submit`); to drive jobs from here, give the head's own "
            f"address, HOST:PORT ({address.guessed_head} does not answer)."
        ) from error
    return address.guessed_head


def _head_by_client(address: HeadAddress) -> str:
    """The head's address, asked from a process behind its client server."""
    with ray.init(address.text, logging_level=logging.ERROR):
        # A lambda is sent as code: the cluster may have another version of mergeboard.
        task = ray.remote(num_cpus=0, max_retries=0)(lambda: ray.get_runtime_context().gcs_address)
        return str(ray.get(task.remote(), timeout=_CLIENT_S))


def ask_head(address: str) -> None:
    """Check that a head at `HOST:PORT` answers and accepts the token; raises ClusterError, TokenError.

    `ray.init` itself would try for most of a minute before it fails.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
        try:
            GcsClient(address=address)
        except ray.exceptions.AuthenticationError:
            # Not earlier: a process in token mode loses its actors on a cluster without tokens.
            if not send_token():
                raise
            GcsClient(address=address)
    except ray.exceptions.AuthenticationError as error:
        raise TokenError(address) from error
    except (OSError, OverflowError, ValueError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error


def send_token() -> bool:
    """Send the token of the environment or ~/.ray from now on, unless RAY_AUTH_MODE is set; True if so."""
    if "RAY_AUTH_MODE" in os.environ:
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    return bool(maybe_enable_token_auth_if_token_available(warn_if_disabled=False))


def _unreachable(address: str | None, error: Exception) -> ClusterError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # A first line that ends with a colon introduces the reason.
    reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return ClusterError(
        f"Ray at {address or 'this machine'} cannot be reached ({reason}); check the address with `ray status --address ADDRESS`, or "
        "leave --address out to run on this machine."
    )


def _start_local(options: dict[str, Any]) -> None:
    """Start Ray on this machine; retried, since Ray may time out during startup under high load."""
    for attempt in range(_STARTS):
        try:
            # Without "local" Ray would join a cluster that another command has started here, and end with it.
            # `num_cpus`: Ray counts the machine's cores, not those that this process may use.
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


def cluster_facts(reports: Mapping[str, NodeReport] | None = None) -> ClusterFacts:
    """Resources of every live node; with reports, only of nodes whose report has no problem."""
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
                software=report.software if report else None,
            )
        )
    return ClusterFacts(nodes=tuple(nodes))


def disconnect() -> None:
    """Leave the cluster; stops Ray if `connect` started it."""
    ray.shutdown()
