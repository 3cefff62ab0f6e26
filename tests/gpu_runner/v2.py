"""Run a function, or a command, in a process where vLLM uses the GPU's model runner (V2) on CPU tensors.

    from tests.gpu_runner.v2 import Runner, call
    scores = call(score_something, checkpoint, runner=Runner(async_scheduling=True))

`score_something` is a function at the top level of an importable module; arguments and result are pickled. The environment must
be set before vLLM is imported, so every call is a process of its own; tensor-parallel workers inherit it, and so do the Ray
workers of a cluster that the process starts. For a command of your own: `subprocess.run(..., env=Runner().environment())`.

The kernels of V2 are the GPU's own Triton kernels, run by Triton's interpreter: sampling, log-probabilities, input preparation
and block tables are what a GPU runs; attention and matrix products are the CPU's.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
STARTUP = Path(__file__).parent / "startup"


@dataclass(frozen=True)
class Runner:
    """How vLLM runs in a process: on a GPU V2 and async scheduling are the default."""

    async_scheduling: bool = True
    v2: bool = True

    def environment(self) -> dict[str, str]:
        """The environment of such a process, out of this one's."""
        environment = {**os.environ, "PYTHONPATH": _path(ROOT)}
        for name in ("TRITON_INTERPRET", "VLLM_USE_V2_MODEL_RUNNER", "MERGEBOARD_TEST_ASYNC_SCHEDULING"):
            environment.pop(name, None)
        if self.v2:
            environment |= {
                "PYTHONPATH": _path(STARTUP, ROOT),
                "TRITON_INTERPRET": "1",
                "VLLM_USE_V2_MODEL_RUNNER": "1",
                "TORCHDYNAMO_DISABLE": "1",  # a tensor-parallel worker compiles the CPU's all-reduce otherwise
                "MERGEBOARD_TEST_ASYNC_SCHEDULING": str(int(self.async_scheduling)),
            }
        return environment


def _path(*folders: Path) -> str:
    """PYTHONPATH with these folders first."""
    first = [str(folder) for folder in folders]
    return os.pathsep.join(
        [*first, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p not in first)]
    )


class FailedInRunner(AssertionError):
    """The function raised, or its process died; the message holds the end of what it wrote."""


def call(function: Callable[..., T], *args: Any, runner: Runner = Runner(), **named: Any) -> T:
    """The function's result, computed in such a process. Raises FailedInRunner with the process's last lines."""
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "call", Path(folder) / "result"
        question.write_bytes(pickle.dumps((function.__module__, function.__qualname__, args, named)))
        ended = subprocess.run(
            [sys.executable, "-m", "tests.gpu_runner.v2", str(question), str(answer)],
            cwd=ROOT,
            env=runner.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode or not answer.exists():
            raise FailedInRunner(
                f"{function.__qualname__} on {runner}: exit {ended.returncode}\n"
                f"{ended.stdout[-3000:]}\n{ended.stderr[-6000:]}"
            )
        result: T = pickle.loads(answer.read_bytes())
        return result


def require_v2() -> None:
    """Raise where vLLM in this process would not run V2 as Runner asked for."""
    if os.environ.get("VLLM_USE_V2_MODEL_RUNNER") != "1":
        return
    from evals.vllm.environment import answer_for_cpu_build

    answer_for_cpu_build()
    from vllm.triton_utils import HAS_TRITON

    if not HAS_TRITON:
        raise RuntimeError(
            "vLLM found no Triton: is triton installed, and tests/gpu_runner/startup on PYTHONPATH?"
        )


def main(question: str, answer: str) -> None:
    """Answer one `call`."""
    module, name, args, named = pickle.loads(Path(question).read_bytes())
    require_v2()
    result = getattr(importlib.import_module(module), name)(*args, **named)
    Path(answer).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
