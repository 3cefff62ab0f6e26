"""Scores a task that executes code which the model wrote, in a process of its own without rights.

`CodeProcess` starts `python -m evals.harness.code_worker` with an environment without secrets. The worker loads the task, leaves the network (a
network namespace of its own), becomes the user nobody, and forks once per document, with limits of time, memory, processes and file
size. It takes root to become another user: where this process is not root, such a task is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from lm_eval.api.task import Task
from lm_eval.utils import handle_non_serializable

from evals.errors import EvaluationError
from evals.scores import EvalSettings
from evals.suite import Benchmark

_KEPT = (
    "PATH",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "LANG",
    "VIRTUAL_ENV",
)


def is_unsafe(task: Task) -> bool:
    """Whether a task executes code that the model wrote."""
    return bool(getattr(task, "UNSAFE_CODE", False))


class CodeProcess:
    """The worker of one benchmark; a context manager in which the tasks' `process_results` run there."""

    def __init__(
        self, benchmark: Benchmark, tasks: Mapping[str, Task], settings: EvalSettings, mirror: Path | None
    ) -> None:
        self._tasks = {name: task for name, task in tasks.items() if is_unsafe(task)}
        self._request = {
            "benchmark": benchmark.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json"),
            "mirror": str(mirror) if mirror else None,
        }
        self._worker: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        for name in self._tasks:
            _require_allowed(benchmark, name)

    def __enter__(self) -> CodeProcess:
        """Start the worker, if a task needs it."""
        if not self._tasks:
            return self
        self._folder = tempfile.TemporaryDirectory(prefix="mergeboard-code-")
        os.chmod(self._folder.name, 0o711)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HOME": self._folder.name,
            "TMPDIR": tempfile.gettempdir(),
            "HF_ALLOW_CODE_EVAL": "1",
        }
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "evals.harness.code_worker", self._folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._ask(self._request)
        for name, task in self._tasks.items():
            task.process_results = _Remote(self, name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
        if self._folder is not None:
            self._folder.cleanup()

    def results(self, task: str, doc: Any, answers: Any) -> dict[str, float]:
        """The metrics of one document."""
        answer = self._ask({"task": task, "doc": doc, "results": answers})
        if answer.get("out_of_limits"):
            return dict.fromkeys(self._tasks[task].aggregation(), 0.0)
        metrics = answer.get("metrics")
        if not isinstance(metrics, dict) or not all(isinstance(v, int | float) for v in metrics.values()):
            raise EvaluationError(
                f"The task {task} could not be scored in its process: {str(answer.get('error'))[:300]}"
            )
        return {str(name): float(value) for name, value in metrics.items()}

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        worker = self._worker
        assert worker is not None
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(json.dumps(request, default=handle_non_serializable) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise EvaluationError(
                "The process that scores code of the model ended; its messages are in the log of the attempt."
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


class _Remote:
    """A task's `process_results`, in the worker."""

    def __init__(self, process: CodeProcess, task: str) -> None:
        self._process = process
        self._task = task

    def __call__(self, doc: Any, results: Any) -> dict[str, float]:
        return self._process.results(self._task, doc, results)


def _require_allowed(benchmark: Benchmark, task: str) -> None:
    """Raise EvaluationError unless the suite allows the task's code by name and this process can give up its rights."""
    if task not in benchmark.code:
        raise EvaluationError(
            f"The task '{task}' executes code that the model writes, and its suite does not allow it by name."
        )
    if os.geteuid() != 0:
        raise EvaluationError(
            f"The task '{task}' executes code that the model writes, as the user nobody: that takes a worker that runs as root, "
            "as in a container; or leave the task out."
        )
