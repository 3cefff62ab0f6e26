"""Client of the mergekit process: requests, progress, failures, and the last lines of its log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from recipes.errors import BuildError
from recipes.merge.mergekit_worker import MergeRequest

_LOG_LINES = 3
_LOG_BYTES = 20_000
_REASON_CHARS = 500
_STOP_S = 20
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(
    r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)\b.*", re.MULTILINE | re.DOTALL
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class MergekitProcess:
    """A mergekit process: started by the first merge, reused by later ones, ended by `close`.

    The start takes seconds, longer than most merges of small checkpoints: reuse one process for several recipes.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._log_start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                _write_line(process, "stop")
                process.wait(_STOP_S)
            _kill(process)
        self._log.close()

    def merge(self, request: MergeRequest, what: str, on_bytes: Callable[[int], None]) -> None:
        """Merge one stage. After a failure the next merge uses a new process.

        `what` names the stage in errors. Raises BuildError.
        """
        process = self._process or self._start()
        self._log_start = os.fstat(self._log.fileno()).st_size
        finished = False
        try:
            with contextlib.suppress(OSError):
                _write_line(process, request.model_dump_json())
            while (answer := _read_answer(process)) is not None and "done" not in answer:
                on_bytes(int(answer["bytes"]))
            if answer is None:
                raise BuildError(self._failure_text(process.wait(), what))
            finished = True
        finally:
            if not finished:
                self._process = None
                _kill(process)

    def _start(self) -> subprocess.Popen[str]:
        package = Path(__file__).parents[2]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",  # every source is a directory
            "TRANSFORMERS_VERBOSITY": "error",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")])),
        }
        if self._threads is not None:
            environment |= {"OMP_NUM_THREADS": str(self._threads), "MKL_NUM_THREADS": str(self._threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "recipes.merge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        return self._process

    def _failure_text(self, code: int, what: str) -> str:
        output, _, traceback_ = self._log_tail().rpartition(_TRACEBACK)
        if not traceback_.strip():
            output, traceback_ = output + traceback_, ""
        elif _TRACEBACK in output:
            output = output.partition(_TRACEBACK)[0]
        exception = _EXCEPTION.search(traceback_)
        reason = _one_line(exception.group() if exception else traceback_)
        if code < 0:
            reason = (
                f"its process was killed by signal {-code} (9 is usually the system running out of memory)"
            )
        lines = [_one_line(line) for line in output.splitlines() if line.strip() and "%|" not in line]
        log_lines = f" Its last log lines: {' / '.join(lines[-_LOG_LINES:])}" if lines else ""
        return (
            f"mergekit could not build {what}: {(reason or f'it ended with code {code}').rstrip('.')}."
            + log_lines
        )

    def _log_tail(self) -> str:
        """Last bytes of the log of this merge."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._log_start, size - _LOG_BYTES)
        text = os.pread(self._log.fileno(), size - start, start).decode("utf-8", "replace")
        return _ANSI.sub("", text).replace("\r", "\n")


def _write_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _read_answer(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    assert process.stdout is not None
    line = process.stdout.readline()
    return dict(json.loads(line)) if line else None


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARS]
