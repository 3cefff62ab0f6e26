"""What only a machine with a GPU can show, in twelve minutes: for whoever has an H100.

    python benchmarks/gpu.py --out gpu.jsonl          # one JSON line a step is appended
    python benchmarks/gpu.py --list                   # the steps with their limits
    python benchmarks/gpu.py --out gpu.jsonl --only change-of-path --only kill

Each step is a process of its own, which is killed at its limit with all its children, so that one which hangs costs its limit
and nothing more. Run again with the same `--out`, steps that succeeded are skipped. Without a GPU, or with `--tiny`, all steps
run with tiny sizes on the CPU: that shows that the script works, and says nothing about a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
BUDGET_S = 720.0
"""All steps together; each one's limit is at most what is left of it."""


@dataclass(frozen=True)
class Line:
    """One line of the results file."""

    step: str
    ok: bool
    tiny: bool
    seconds: float
    limit_s: float
    result: dict[str, Any] | None
    error: str | None

    def write(self, out: Path) -> None:
        """Append it."""
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.__dict__) + "\n")


def _load(name: str = "gpu_steps") -> Any:
    """The steps, or their set-up; they import torch."""
    return importlib.import_module(f"benchmarks.{name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps that are not done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--list", action="store_true", help="print the steps and stop")
    parser.add_argument("--only", action="append", metavar="STEP", help="this step; may be repeated")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes; set by itself without a GPU")
    parser.add_argument("--budget", type=float, default=None, help="seconds for all steps (720; tiny: none)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    steps, setup = _load(), _load("gpu_setup")
    if options.list:
        for name, step in steps.STEPS.items():
            print(f"{name:22} {step.limit_s:4.0f} s  {step.what}")
        return 0
    for name in options.only or []:
        if name not in steps.STEPS:
            parser.error(f"there is no step {name}; the steps are {', '.join(steps.STEPS)}")
    tiny = options.tiny or not setup.has_gpu()
    if options.step:
        options.answer.write_text(
            json.dumps(steps.run_step(options.step, setup.Sizes.of(tiny=tiny))), encoding="utf-8"
        )
        return 0
    budget = options.budget or (float("inf") if tiny else BUDGET_S)
    return _run(options.only or list(steps.STEPS), options.out, tiny=tiny, budget_s=budget)


def _run(names: Sequence[str], out: Path, *, tiny: bool, budget_s: float) -> int:
    done = _done(out, tiny=tiny)
    ends = time.monotonic() + budget_s
    failed = 0
    for name in names:
        if name in done:
            print(f"{name}: done before", flush=True)
            continue
        # On a CPU two cores do what a GPU does in no time, and others use them too.
        limit_s = min(_load().STEPS[name].limit_s * (10 if tiny else 1), ends - time.monotonic())
        if limit_s < 10:
            print(f"{name}: no time left", flush=True)
            failed += 1
            continue
        line = _one(name, limit_s, tiny=tiny)
        line.write(out)
        failed += not line.ok
        told = json.dumps(line.result) if line.ok else line.error
        print(f"{name}: {'ok' if line.ok else 'FAILED'} in {line.seconds:.1f} s: {told}", flush=True)
    return 1 if failed else 0


def _done(out: Path, *, tiny: bool) -> set[str]:
    """Steps of the same sizes that succeeded; a line that was cut off by the end of a machine is passed over."""
    done = set()
    for text in out.read_text(encoding="utf-8").splitlines() if out.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["ok"] and line["tiny"] == tiny:
            done.add(line["step"])
    return done


def _one(name: str, limit_s: float, *, tiny: bool) -> Line:
    """Run a step in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder) / "answer", Path(folder) / "log"
        command = [sys.executable, "-m", "benchmarks.gpu", "--step", name, "--answer", str(answer)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        begun = time.monotonic()
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, *(["--tiny"] if tiny else [])],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = None
            _end(process)
        seconds = round(time.monotonic() - begun, 1)
        tail = log.read_text(errors="replace")[-1500:]
        if code == 0 and answer.exists():
            return Line(name, True, tiny, seconds, limit_s, json.loads(answer.read_text()), None)
        why = f"not done after {limit_s:.0f} s" if code is None else f"exit {code}"
        return Line(name, False, tiny, seconds, limit_s, None, f"{why}; the end of its output: {tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a step: its process group, and children that have a group of their own."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(main())
