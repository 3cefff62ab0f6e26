"""A run that goes on on another cluster than it began on."""

from __future__ import annotations

from pathlib import Path

from benchmarks.ray_nodes import add_node, new_cluster
from tests.support.runs_fixture import mergeboard


def resume_on_two_nodes(run_id: str, home: Path) -> None:
    """Resume a run on a cluster of two nodes with a core each: two engines."""
    cluster = new_cluster(head_cpus=1)
    try:
        add_node(cluster, num_cpus=1, num_gpus=0)
        resumed = mergeboard("resume", run_id, "--address", str(cluster.address), home=home, timeout_s=1500)
    finally:
        cluster.shutdown()
    assert resumed.returncode == 0, resumed.stderr
