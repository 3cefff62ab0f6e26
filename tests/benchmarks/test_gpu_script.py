"""`benchmarks/gpu.py` on a CPU with tiny sizes: every step to its end, its limits, and that it goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def script(*arguments: str, timeout_s: float = 3000) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(3600)
def test_every_step_runs_to_its_end_with_tiny_sizes(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    ended = script("--tiny", "--out", str(out))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = lines(out)
    listed = [line.split()[0] for line in script("--list").stdout.splitlines()]
    assert [line["step"] for line in found] == listed
    assert all(line["ok"] and line["tiny"] and line["result"] for line in found)
    again = script("--tiny", "--out", str(out))
    assert again.stdout.count("done before") == len(listed)
    assert lines(out) == found


def test_the_limits_add_up_to_twelve_minutes() -> None:
    listed = script("--list").stdout.splitlines()
    assert sum(float(line.split()[1]) for line in listed) <= 720


def test_an_unknown_step_is_named() -> None:
    ended = script("--only", "nothing")
    assert ended.returncode == 2
    assert "there is no step nothing" in ended.stderr


def test_a_step_that_hangs_is_killed_with_its_children_and_a_cut_line_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import gpu

    out = tmp_path / "gpu.jsonl"
    out.write_text('{"step": "kill", "ok": tr\n')
    children = tmp_path / "children"
    hang = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(children)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    popen = subprocess.Popen

    def hanging(command: list[str], **given: Any) -> Any:
        return popen([sys.executable, "-c", hang], **given)

    monkeypatch.setattr(subprocess, "Popen", hanging)
    begun = time.monotonic()
    line = gpu._one("kill", 5, tiny=True)
    assert time.monotonic() - begun < 60
    assert not line.ok
    assert line.error is not None
    assert line.error.startswith("not done after 5 s")
    line.write(out)
    assert gpu._done(out, tiny=True) == set()
    # A killed process may still be on its way out (state D) when the step's line is written.
    stat = Path(f"/proc/{children.read_text()}/stat")
    end = time.monotonic() + 30
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.05)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
