"""Several Ray nodes on one machine, as light as they can be: for the benchmark of the cluster, and for tests.

The nodes' agents are those of Ray's minimal installation, there is neither a dashboard nor an autoscaler, and no worker is
started before one is needed. All of that together takes two busy cores longer than a raylet waits for its agents: 15 s, then it dies.
"""

from __future__ import annotations

import os
import time
from typing import Any
from unittest import mock

from ray.cluster_utils import Cluster

_MEMORY_BYTES = 80_000_000


def new_cluster(head_cpus: int = 0, head_gpus: int = 0) -> Cluster:
    """A head that has this many CPUs and GPUs; what Ray counts as a GPU need not be one."""
    os.environ |= {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_prestart_worker_first_driver": "0"}
    cluster = Cluster()
    add_node(cluster, num_cpus=head_cpus, num_gpus=head_gpus, include_dashboard=False)
    return cluster


def add_node(cluster: Cluster, **options: Any) -> Any:
    """Another node."""
    with (
        mock.patch("ray._private.utils.get_dashboard_dependency_error", return_value="left out"),
        mock.patch("ray._private.node.time", _SlowClock),
    ):
        return cluster.add_node(
            object_store_memory=_MEMORY_BYTES, include_log_monitor=False, no_monitor=True, **options
        )


class _SlowClock:
    """What `ray._private.node` takes for the time while a node starts: its half minute becomes five."""

    sleep = staticmethod(time.sleep)
    time = staticmethod(time.time)

    @staticmethod
    def monotonic() -> float:
        """A tenth of the time that passes."""
        return time.monotonic() / 10
