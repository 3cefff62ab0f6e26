"""What the tests of deploy/ share: its files, and the commands that stand in them."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
# Nothing here may name an index, or carry anything that looks like a secret; an image's digest is none.
FORBIDDEN = re.compile(
    r"index-url\b|find-links|pypi\.|hf_[A-Za-z0-9]{8}|(?<!@sha256:)(?<![0-9a-f])[0-9a-f]{32}"
)
# Set for a raylet, it ends what is left of a killed worker's process group (test_raylet.py).
GROUP_CLEANUP = "RAY_process_group_cleanup_enabled"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def check_ray_start(command: str) -> dict[str, Any]:
    """Parse a `ray start` with Ray's own parser; its options."""
    with warnings.catch_warnings():
        # Ray Serve, which comes along, is written for an older pydantic.
        warnings.simplefilter("ignore")
        from ray.scripts.scripts import start

    words = shlex.split(command)
    assert words[:2] == ["ray", "start"]
    return start.make_context("start", words[2:]).params


def values(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from values(value)
    elif isinstance(node, list):
        for item in node:
            yield from values(item)
