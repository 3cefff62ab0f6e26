"""GPUs that jobs wait for and no node has: what Ray's autoscaler is asked for, and what it answers."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray

# Compiled, and of the generated protocol: nothing public tells what the autoscaler cannot start. Ray is pinned.
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from evals.engine import DeviceKind, EngineKind, EngineSpec
from orchestrator.errors import ClusterError

MOST_WISHES = 64
"""Pending requests at once; a run with thousands of jobs scales up in steps."""
# A node that has come is looked at, and given work, before another one is asked for.
_REST_S = 30.0
_POLL_S = 1.0
# A node that has to be started takes this long before an engine can be opened on it, at the least.
_NODE_START_S = 120.0
# Engines to ask nodes for where nothing is known of how long jobs run.
_FEW_ENGINES = 8
# Refusals in a row, a poll apart, after which there is no such node.
_SURE = 4
PATIENCE_S = 3600.0
"""A cloud's machine, its image of some 15 GB and Ray on it take minutes; a queue for GPUs takes longer."""


class Autoscaler:
    """Ray's autoscaler (version 2, as `ray up` and KubeRay's `autoscalerOptions.version: v2` run it), as its state shows it."""

    def __init__(self) -> None:
        self._client = GcsClient(address=ray.get_runtime_context().gcs_address)

    def is_there(self) -> bool:
        """Whether one has reported; a head without an autoscaler never gets nodes by itself."""
        return self._state().autoscaler_state_version > 0

    def cannot_start(self, gpus: float) -> bool:
        """Whether it has said that no kind of node that it may start has so many GPUs."""
        return any(
            dict(request.resources_bundle).get("GPU") == gpus
            for gang in self._state().infeasible_gang_resource_requests
            for request in gang.requests
        )

    def starting(self) -> tuple[str, ...]:
        """Kinds of the nodes that are on their way, one for each."""
        state = self._state()
        asked = [r.ray_node_type_name for r in state.pending_instance_requests for _ in range(r.count)]
        return (*asked, *(instance.ray_node_type_name for instance in state.pending_instances))

    def _state(self) -> Any:
        reply = GetClusterStatusReply()
        reply.ParseFromString(self._client.get_cluster_status())
        return reply.autoscaling_state


class Demand:
    """Requests for GPUs, each a pending placement group: the autoscaler reads them, and Ray forgets them with this driver.

    `ray.autoscaler.sdk.request_resources` would stay in force after a driver that died, and keep nodes that cost money.
    A request that is granted is held until the node is known, so that it does not count as idle meanwhile, and is then given back:
    engines are placed on the node as on any other.
    """

    def __init__(self) -> None:
        self._wishes: list[tuple[float, Any]] = []
        self._held: list[tuple[float, Any]] = []
        self._resting_until = 0.0

    @property
    def pending(self) -> Counter[float]:
        """GPUs of one request -> requests that wait."""
        return Counter(gpus for gpus, _ in self._wishes)

    def ask(self, wanted: Mapping[float, int]) -> None:
        """Let so many requests of each size wait from now on; those that are too many are withdrawn."""
        kept: Counter[float] = Counter()
        for wish in list(self._wishes):
            kept[wish[0]] += 1
            if kept[wish[0]] > wanted.get(wish[0], 0):
                self._withdraw(wish)
        if time.monotonic() < self._resting_until:
            return
        pending = self.pending
        for gpus, number in wanted.items():
            for _ in range(min(number - pending[gpus], MOST_WISHES - len(self._wishes))):
                self._wishes.append((gpus, placement_group([{"GPU": gpus}], strategy="STRICT_PACK")))

    def granted(self) -> bool:
        """Whether GPUs have come that were asked for; they are held until `give_back`."""
        came = [wish for wish in self._wishes if placement_group_table(wish[1]).get("state") == "CREATED"]
        for wish in came:
            self._wishes.remove(wish)
            self._held.append(wish)
        if came:
            self._resting_until = time.monotonic() + _REST_S
        return bool(came)

    def give_back(self) -> None:
        """Let engines have the GPUs that have come."""
        for wish in self._held:
            self._remove(wish)
        self._held.clear()

    def withdraw(self) -> None:
        """Ask for nothing any more, hold nothing; idle nodes are then given back."""
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
    """GPUs that an engine takes; 0 for one that runs on a CPU."""
    if spec.device is DeviceKind.CPU:
        return 0.0
    return float(spec.tensor_parallel if spec.kind is EngineKind.VLLM else 1)


def worth_a_node(waiting: int, seconds_left: float | None, n_open: int, start_s: float) -> int:
    """Further engines that are worth a node that has to be started first, for so many batches that wait.

    `seconds_left` is what one engine would need for them, null where nothing is known; `start_s` is an engine's start.
    """
    if seconds_left is None:
        return min(waiting, _FEW_ENGINES)
    more = int(seconds_left / (start_s + _NODE_START_S)) - n_open
    return min(waiting, max(more, 0 if n_open else 1))


class Growth:
    """Keeps what the autoscaler is asked for in step with what waits; does nothing on a cluster without one."""

    def __init__(self) -> None:
        self._demand = Demand()
        self._autoscaler: Autoscaler | None = None
        self._looked = False

    def update(self, wanted: Mapping[float, int]) -> bool:
        """Ask for GPUs by the size of a request; whether some that were asked for have come.

        What has come is held until the next call: the nodes are looked at in between.
        """
        self._demand.give_back()
        if (wanted or self._demand.pending) and self._there() is not None:
            came = self._demand.granted()
            self._demand.ask(wanted)
            return came
        return False

    def may_come(self, gpus: float) -> bool:
        """Whether a node with so many GPUs may still be started."""
        autoscaler = self._there()
        return autoscaler is not None and not autoscaler.cannot_start(gpus)

    def withdraw(self) -> None:
        """Ask for nothing any more."""
        self._demand.withdraw()

    def _there(self) -> Autoscaler | None:
        if not self._looked and ray.is_initialized():
            self._looked = True
            autoscaler = Autoscaler()
            self._autoscaler = autoscaler if autoscaler.is_there() else None
        return self._autoscaler


@contextlib.contextmanager
def gpus_awaited(gpus: int, say: Callable[[str], None], *, patience_s: float = PATIENCE_S) -> Iterator[bool]:
    """Have a node with so many GPUs started, wait for it, and hold it while the context lasts, in which it is looked at.

    False where there is no autoscaler, or where it has no such node to start. Raises ClusterError when patience is at its end.
    """
    autoscaler = Autoscaler()
    demand = Demand()
    try:
        yield autoscaler.is_there() and _has_come(demand, autoscaler, gpus, say, patience_s)
    finally:
        demand.withdraw()


def _has_come(
    demand: Demand, autoscaler: Autoscaler, gpus: int, say: Callable[[str], None], patience_s: float
) -> bool:
    told: tuple[str, ...] | None = None
    refused = 0
    end = time.monotonic() + patience_s
    demand.ask({float(gpus): 1})
    while not demand.granted():
        # A request that was only just made is not yet looked at, and what cannot be started now may be a moment later.
        starting = autoscaler.starting()
        refused = refused + 1 if autoscaler.cannot_start(gpus) and not starting else 0
        if refused >= _SURE:
            return False
        if starting != told and (starting or told is None):
            coming = f"starting {', '.join(starting)}" if starting else "asked to start one"
            say(f"No node has {gpus} GPU{'s' if gpus > 1 else ''} now; the autoscaler is {coming}.")
            told = starting
        if time.monotonic() > end:
            raise ClusterError(
                f"The autoscaler has started no node with {gpus} GPU(s) within {patience_s / 60:.0f} minutes; `ray status` on the head "
                "tells what it waits for."
            )
        time.sleep(_POLL_S)
    return True
