"""A few faults of the campaign, one of each kind; `python -m tests.support.fault_campaign` does as many as you like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_runs_end_as_if_nothing_had_happened() -> None:
    kinds = ["driver", "engine", "node", "postgres-killed", "twice"]
    words = [sys.executable, "-m", "tests.support.fault_campaign", "--seed", "7", "--count", "8"]
    for kind in kinds:
        words += ["--kind", kind]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3500)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
