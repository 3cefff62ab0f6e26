"""Requests GPUs that no node has from Ray's autoscaler, and reads its answers."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray

# Private modules: no public interface reports what the autoscaler cannot start. Ray is pinned.
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from evals.engine import DeviceKind, EngineKind, EngineSpec
from orchestrator.errors import ClusterError

MOST_WISHES = 64
"""Most pending requests; a run with thousands of jobs scales up in steps."""
# Pause after a node has started, in which it gets work before another one is requested.
_REST_S = 30.0
_POLL_S = 1.0
# Least seconds from the request of a node until an engine can be opened on it.
_NODE_START_S = 120.0
# Most engines to request nodes for if the jobs' durations are unknown.
_FEW_ENGINES = 8
# Consecutive polls with a refusal after which the autoscaler counts as unable to start the node.
_SURE = 4
PATIENCE_S = 3600.0
"""Longest wait for a node: a cloud machine with a 15 GB image takes minutes, a queue for GPUs longer."""


class Autoscaler:
    """State of Ray's autoscaler, version 2: `ray up`, or KubeRay with `autoscalerOptions.version: v2`."""

    def __init__(self) -> None:
        self._client = GcsClient(address=ray.get_runtime_context().gcs_address)

    def is_there(self) -> bool:
        """Whether an autoscaler has reported; without one, no node is ever started."""
        return self._state().autoscaler_state_version > 0

    def cannot_start(self, gpus: float) -> bool:
        """Whether it has reported that none of its node types has so many GPUs."""
        return any(
            dict(request.resources_bundle).get("GPU") == gpus
            for gang in self._state().infeasible_gang_resource_requests
            for request in gang.requests
        )

    def starting(self) -> tuple[str, ...]:
        """Node types of the nodes that are requested or starting, one entry per node."""
        state = self._state()
        requested = [r.ray_node_type_name for r in state.pending_instance_requests for _ in range(r.count)]
        return (*requested, *(instance.ray_node_type_name for instance in state.pending_instances))

    def _state(self) -> Any:
        reply = GetClusterStatusReply()
        reply.ParseFromString(self._client.get_cluster_status())
        return reply.autoscaling_state


class Demand:
    """Requests for GPUs as pending placement groups, which the autoscaler reads; they end with this driver.

    `ray.autoscaler.sdk.request_resources` would outlive a driver that died, and keep paid nodes running.
    A granted request is held until the node has been surveyed, so that the node is not removed as idle, and then
    released: engines are placed on the node as on any other.
    """

    def __init__(self) -> None:
        self._wishes: list[tuple[float, Any]] = []
        self._held: list[tuple[float, Any]] = []
        self._resting_until = 0.0

    @property
    def pending(self) -> Counter[float]:
        """GPUs per request -> number of pending requests."""
        return Counter(gpus for gpus, _ in self._wishes)

    def ask(self, requests: Mapping[float, int]) -> None:
        """Set the number of pending requests of each size; surplus requests are withdrawn."""
        counts: Counter[float] = Counter()
        for wish in list(self._wishes):
            counts[wish[0]] += 1
            if counts[wish[0]] > requests.get(wish[0], 0):
                self._withdraw(wish)
        if time.monotonic() < self._resting_until:
            return
        pending = self.pending
        for gpus, number in requests.items():
            for _ in range(min(number - pending[gpus], MOST_WISHES - len(self._wishes))):
                self._wishes.append((gpus, placement_group([{"GPU": gpus}], strategy="STRICT_PACK")))

    def granted(self) -> bool:
        """Whether new GPUs have been granted; they are held until `give_back`."""
        created = [wish for wish in self._wishes if placement_group_table(wish[1]).get("state") == "CREATED"]
        for wish in created:
            self._wishes.remove(wish)
            self._held.append(wish)
        if created:
            self._resting_until = time.monotonic() + _REST_S
        return bool(created)

    def give_back(self) -> None:
        """Release granted GPUs for engines."""
        for wish in self._held:
            self._remove(wish)
        self._held.clear()

    def withdraw(self) -> None:
        """Withdraw all requests and release all GPUs; the autoscaler then removes idle nodes."""
        self.give_back()
        for wish in list(self._wishes):
            self._withdraw(wish)

    def _withdraw(self, wish: tuple[float, Any]) -> None:
        self._wishes.remove(wish)
        self._remove(wish)

    @staticmethod
    def _remove(wish: tuple[float, Any]) -> None:
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            remove_placement_group(wish[1])


def gpus_of(spec: EngineSpec) -> float:
    """Number of GPUs of an engine; 0 on a CPU."""
    if spec.device is DeviceKind.CPU:
        return 0.0
    return float(spec.tensor_parallel if spec.kind is EngineKind.VLLM else 1)


def worth_a_node(waiting: int, seconds_left: float | None, n_open: int, start_s: float) -> int:
    """Number of further engines for which starting nodes saves time, given `waiting` batches.

    `seconds_left` is the time that one engine needs for them, None if unknown; `start_s` an engine's start.
    """
    if seconds_left is None:
        return min(waiting, _FEW_ENGINES)
    worthwhile = int(seconds_left / (start_s + _NODE_START_S)) - n_open
    return min(waiting, max(worthwhile, 0 if n_open else 1))


class Growth:
    """Keeps the requests to the autoscaler equal to the demand; does nothing without an autoscaler."""

    def __init__(self) -> None:
        self._demand = Demand()
        self._autoscaler: Autoscaler | None = None
        self._looked = False

    def update(self, requests: Mapping[float, int]) -> bool:
        """Set the number of requests by GPUs per request; returns whether new GPUs have been granted.

        Granted GPUs are held until the next call, so that the nodes can be surveyed in between.
        """
        self._demand.give_back()
        if (requests or self._demand.pending) and self._find_autoscaler() is not None:
            granted = self._demand.granted()
            self._demand.ask(requests)
            return granted
        return False

    def may_come(self, gpus: float) -> bool:
        """Whether the autoscaler may start a node with so many GPUs."""
        autoscaler = self._find_autoscaler()
        return autoscaler is not None and not autoscaler.cannot_start(gpus)

    def withdraw(self) -> None:
        """Withdraw all requests."""
        self._demand.withdraw()

    def _find_autoscaler(self) -> Autoscaler | None:
        if not self._looked and ray.is_initialized():
            self._looked = True
            autoscaler = Autoscaler()
            self._autoscaler = autoscaler if autoscaler.is_there() else None
        return self._autoscaler


@contextlib.contextmanager
def gpus_awaited(gpus: int, say: Callable[[str], None], *, patience_s: float = PATIENCE_S) -> Iterator[bool]:
    """Request a node with so many GPUs, wait for it, and hold it within the context, for its survey.

    Yields False if there is no autoscaler, or if it has no such node type. ClusterError after `patience_s`.
    """
    autoscaler = Autoscaler()
    demand = Demand()
    try:
        yield autoscaler.is_there() and _wait_for_gpus(demand, autoscaler, gpus, say, patience_s)
    finally:
        demand.withdraw()


def _wait_for_gpus(
    demand: Demand, autoscaler: Autoscaler, gpus: int, say: Callable[[str], None], patience_s: float
) -> bool:
    reported: tuple[str, ...] | None = None
    refused = 0
    end = time.monotonic() + patience_s
    demand.ask({float(gpus): 1})
    while not demand.granted():
        # A new request may not have been processed yet, so one refusal is not final.
        starting = autoscaler.starting()
        refused = refused + 1 if autoscaler.cannot_start(gpus) and not starting else 0
        if refused >= _SURE:
            return False
        if starting != reported and (starting or reported is None):
            coming = f"starting {', '.join(starting)}" if starting else "asked to start one"
            say(f"No node has {gpus} GPU{'s' if gpus > 1 else ''} now; the autoscaler is {coming}.")
            reported = starting
        if time.monotonic() > end:
            raise ClusterError(
                f"The autoscaler has started no node with {gpus} GPU(s) within {patience_s / 60:.0f} minutes; `ray status` on the head "
                "tells what it waits for."
            )
        time.sleep(_POLL_S)
    return True
