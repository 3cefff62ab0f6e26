"""Nodes of other images: Ray nodes of this machine whose processes find other packages first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray

from benchmarks.ray_nodes import add_node
from orchestrator.store.records import Outcome
from tests.support.stand_in import StandIn

ROOT = Path(__file__).resolve().parents[2]


def image(folder: Path, **packages: str) -> str:
    """A PYTHONPATH under which these packages seem to be installed in these versions."""
    for name, version in packages.items():
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return os.pathsep.join([str(folder), str(ROOT)])


def add_image_node(cluster: Any, path: str, **options: Any) -> Any:
    """A node whose workers see the packages of `path`."""
    env = {"PYTHONPATH": path, **options.pop("env_vars", {})}
    return add_node(cluster, env_vars=env, **options)


class OnNode(StandIn):
    """A stand-in engine that writes down which node it is on."""

    def run(self, tasks: Any) -> tuple[Outcome, ...]:
        folder = self._home / "nodes"
        folder.mkdir(exist_ok=True)
        (folder / ray.get_runtime_context().get_node_id()).touch()
        return super().run(tasks)
