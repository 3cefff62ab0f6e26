"""The process behind `evals.harness.code_process`: loads a benchmark's tasks, gives up its rights, scores one document per child.

Requests and answers are lines of JSON on stdin and stdout; the first request is the benchmark.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

NOBODY = 65534
CPU_S = 60
WALL_S = 120.0
MEMORY_BYTES = 4 * 2**30
FILE_BYTES = 64 * 2**20
PROCESSES = 64
_CLONE_NEWNET = 0x40000000
_CLONE_NEWIPC = 0x08000000
_MAX_ANSWER = 1_000_000


def main() -> None:
    """Serve requests until stdin ends."""
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a task prints is no answer
    tasks = _load(json.loads(sys.stdin.readline()))
    drop_rights(folder)
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        _answer(answers, _in_child(tasks[request["task"]], request, answers.fileno()))


def _answer(stream: TextIO, value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def _load(request: dict[str, Any]) -> dict[str, Any]:
    from evals.harness.tasks import load_tasks
    from evals.scores import EvalSettings
    from evals.suite import Benchmark

    mirror = request["mirror"]
    return dict(
        load_tasks(
            Benchmark.model_validate(request["benchmark"]),
            EvalSettings.model_validate(request["settings"]),
            Path(mirror) if mirror else None,
        )
    )


def drop_rights(folder: Path) -> None:
    """Leave the network and become nobody, in a folder that only nobody writes to. OSError if that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Containers may forbid namespaces of their own; the user and the limits remain.
    libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC)
    work = folder / "work"
    work.mkdir(mode=0o700)
    os.chown(work, NOBODY, NOBODY)
    os.chdir(work)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.environ["HOME"] = os.environ["TMPDIR"] = str(work)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS


def _limit() -> None:
    """Limits of the child that runs the code, beyond what it has from its parent."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_BYTES
    for kind, value in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))


def _in_child(task: Any, request: dict[str, Any], answers: int) -> dict[str, Any]:
    """Score one document in a child with limits, which cannot write to `answers`; `out_of_limits` if it ran out of one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.setsid()
            os.close(reader)
            os.close(answers)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # stdin brings the next requests
            _limit()
            os.write(writer, _scored(task, request).encode())
        os._exit(0)
    os.close(writer)
    data = _read(reader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    # Code that broke the limits, or wrote into the pipe, has not passed.
    return value if isinstance(value, dict) else {"out_of_limits": True}


def _scored(task: Any, request: dict[str, Any]) -> str:
    try:
        metrics = task.process_results(request["doc"], request["results"])
        return json.dumps({"metrics": {name: float(value) for name, value in metrics.items()}})
    except Exception as error:  # noqa: BLE001 - the task's code and the model's may raise anything
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:500]})


def _read(pipe: int) -> bytes:
    """What the child writes within the time limit."""
    end, data = time.monotonic() + WALL_S, b""
    while (left := end - time.monotonic()) > 0 and len(data) < _MAX_ANSWER:
        if not select.select([pipe], [], [], left)[0]:
            break
        part = os.read(pipe, 65536)
        if not part:
            break
        data += part
    return data


if __name__ == "__main__":
    main()
