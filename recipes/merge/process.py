"""The mergekit process as seen from outside: requests, progress, failures, and the last lines of its log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recipes.errors import BuildError
from recipes.merge.engine import MergeRequest

_LOG_LINES = 3
_LOG_BYTES = 20_000
_REASON_CHARS = 500
_STOP_S = 20
_EXCEPTION = re.compile(
    r"^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)\b.*", re.MULTILINE | re.DOTALL
)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class MergekitProcess:
    """A mergekit process, started at the first merge and used for every stage of a recipe."""

    def __init__(self, log: Path, threads: int | None) -> None:
        self._log = log
        self._threads = threads
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        if kind is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._send("stop")
                process.wait(_STOP_S)
        process.kill()
        process.communicate()

    def merge(self, request: MergeRequest, what: str, on_bytes: Callable[[int], None]) -> None:
        """Run one stage; `what` names it in the error."""
        try:
            self._send(request.model_dump_json())
            while (answer := self._answer()) is not None and "done" not in answer:
                on_bytes(int(answer["bytes"]))
        except OSError:
            answer = None
        if answer is None:
            raise BuildError(self._failure(what))

    def _send(self, line: str) -> None:
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def _answer(self) -> dict[str, Any] | None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else None

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
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "recipes.merge"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        return self._process

    def _failure(self, what: str) -> str:
        code = self._process.wait() if self._process else 0
        log = _ANSI.sub("", self._tail())
        before, _, trace = log.rpartition("Traceback (most recent call last):")
        if code < 0:
            reason = (
                f"its process was killed by signal {-code} (9 is usually the system running out of memory)"
            )
        else:
            found = _EXCEPTION.search(trace)
            reason = _one_line(found.group() if found else trace) or f"its process ended with code {code}"
        before = (before if trace else log).partition("Traceback (most recent call last):")[0]
        lines = [_one_line(line) for line in before.splitlines() if line.strip() and "%|" not in line]
        said = f" Its last log lines: {' / '.join(lines[-_LOG_LINES:])}" if lines else ""
        return f"mergekit could not build {what}: {reason.rstrip('.')}." + said

    def _tail(self) -> str:
        """The end of the log."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LOG_BYTES))
            return log.read().decode("utf-8", "replace")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_REASON_CHARS]
