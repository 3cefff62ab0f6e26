"""Fixtures of the orchestrator's tests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_tries import tries
from tests.support.pg import postgres
from tests.support.runs_fixture import finished
from tests.support.store_fixtures import store, url

__all__ = ["finished", "postgres", "store", "tries", "url"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
