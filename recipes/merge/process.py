"""The mergekit process as seen from outside: requests, progress, failures, and the last lines of its log."""

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
    """A mergekit process: started at its first merge, used again for the next ones, ended by `close`.

    Starting one takes seconds, most merges of small checkpoints less; whoever builds several recipes keeps one.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._from = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                _send(process, "stop")
                process.wait(_STOP_S)
            _end(process)
        self._log.close()

    def merge(self, request: MergeRequest, what: str, on_bytes: Callable[[int], None]) -> None:
        """Run one stage; `what` names it in the error. Whatever goes wrong, the next merge gets a new process."""
        process = self._process or self._start()
        self._from = os.fstat(self._log.fileno()).st_size
        whole = False
        try:
            with contextlib.suppress(OSError):
                _send(process, request.model_dump_json())
            while (answer := _answer(process)) is not None and "done" not in answer:
                on_bytes(int(answer["bytes"]))
            if answer is None:
                raise BuildError(self._failure(process.wait(), what))
            whole = True
        finally:
            if not whole:
                self._process = None
                _end(process)

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

    def _failure(self, code: int, what: str) -> str:
        before, _, trace = self._tail().rpartition(_TRACEBACK)
        if not trace.strip():
            before, trace = before + trace, ""
        elif _TRACEBACK in before:
            before = before.partition(_TRACEBACK)[0]
        found = _EXCEPTION.search(trace)
        reason = _one_line(found.group() if found else trace)
        if code < 0:
            reason = (
                f"its process was killed by signal {-code} (9 is usually the system running out of memory)"
            )
        lines = [_one_line(line) for line in before.splitlines() if line.strip() and "%|" not in line]
        said = f" Its last log lines: {' / '.join(lines[-_LOG_LINES:])}" if lines else ""
        return (
            f"mergekit could not build {what}: {(reason or f'it ended with code {code}').rstrip('.')}." + said
        )

    def _tail(self) -> str:
        """The end of the log of this merge."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(self._from, size - _LOG_BYTES)
        text = os.pread(self._log.fileno(), size - start, start).decode("utf-8", "replace")
        return _ANSI.sub("", text).replace("\r", "\n")


def _send(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _answer(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    assert process.stdout is not None
    line = process.stdout.readline()
    return dict(json.loads(line)) if line else None


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARS]
