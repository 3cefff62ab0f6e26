"""A head whose autoscaler starts nodes as raylets on this machine: Ray's own fake provider, in a process tree of its own.

`ray.cluster_utils.AutoscalingCluster` does the same and begins with `ray stop --force`, which ends every Ray of the machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

_HEAD_NODE_ID = "f" * 51 + "00000"
_START_S = 180.0


@contextmanager
def autoscaling_head(
    folder: Path, groups: Mapping[str, Mapping[str, float]], *, most: int = 2, idle_minutes: float = 0.3
) -> Iterator[str]:
    """A head without CPUs and GPUs, and groups of nodes by the resources of each, none of which runs yet; its address."""
    host, port = "127.0.0.1", free_port()
    types = {
        name: {"resources": dict(resources), "node_config": {}, "min_workers": 0, "max_workers": most}
        for name, resources in groups.items()
    }
    config = {
        "cluster_name": "fake",
        "max_workers": most * len(groups),
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": 1.0,
        "docker": {},
        "provider": {
            # The wheel lacks the defaults of type "fake_multinode"; its class is there.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": f"{host}:{port}",
            "launch_multiple": True,
            "head_node_id": _HEAD_NODE_ID,
        },
        "auth": {"ssh_user": "ubuntu"},
        "available_node_types": {
            **types,
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        },
        "head_node_type": "ray.head.default",
        "head_node": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    file = folder / "autoscaler.yaml"
    file.write_text(json.dumps(config))
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": _HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_NODE_ID,
        "RAY_prestart_worker_first_driver": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    words = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}"]
    words += ["--num-cpus=0", "--num-gpus=0", f"--node-ip-address={host}", "--include-dashboard=false"]
    words += [f"--autoscaling-config={file}", "--object-store-memory=80000000"]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(process, port, folder / "head.log")
        yield f"{host}:{port}"
    finally:
        _end(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0 and "Ray runtime started" in log.read_text():
                return
        time.sleep(0.2)
    raise RuntimeError(log.read_text()[-3000:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """The head, its autoscaler and every node that it started."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait(30)
