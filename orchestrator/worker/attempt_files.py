"""Files of a running attempt: the progress that the scheduler reads, and the log."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from evals.harness import Progress
from recipes.atomic_file import write_file
from recipes.merge import BuildProgress

_PROGRESS_PERIOD_S = 0.5


class ProgressFile:
    """Writes the progress of a running job to a file that the scheduler reads, at most twice a second."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"
        self._last = 0.0
        self._begun_at: float | None = None

    def engine_start(self) -> None:
        """Report that the engine is starting."""
        self._write({"stage": "starting the engine", "engine_starts": True})

    def build(self, progress: BuildProgress) -> None:
        """Report the progress of a build in MB."""
        done, total = progress.done_bytes // 1_000_000, progress.total_bytes // 1_000_000
        share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 0.0
        self._count(f"building {progress.stage} (MB)", done, total, share)

    def __call__(self, progress: Progress) -> None:
        """Report the progress of an evaluation."""
        self._count(
            "evaluating",
            progress.n_done,
            progress.n_total,
            progress.share_done,
            tokens=progress.n_tokens,
            work_s=progress.elapsed_s,
        )

    def count(self, done: int, total: int) -> None:
        """Report how many requests of a probe are answered."""
        self._count("evaluating", done, total, done / total if total else 0.0)

    def _count(
        self, stage: str, done: int, total: int, share: float, *, tokens: int = 0, work_s: float | None = None
    ) -> None:
        now = time.monotonic()
        self._begun_at = self._begun_at or now
        if now - self._last < _PROGRESS_PERIOD_S and done not in (0, total):
            return
        self._last = now
        self._write(
            {
                "stage": stage,
                "done": done,
                "total": total,
                "tokens": tokens,
                "share_done": min(1.0, share),
                "work_s": now - self._begun_at if work_s is None else work_s,
            }
        )

    def _write(self, data: dict[str, str | int | float | bool]) -> None:
        write_file(self._path, json.dumps(data))


@contextlib.contextmanager
def captured(log: Path) -> Iterator[None]:
    """Redirect the process's stdout and stderr, including C libraries, to the attempt's log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def share_log(logs: Sequence[Path]) -> None:
    """Link the log of a batch's first attempt to the names of the others, if the file system can."""
    for log in logs[1:]:
        with contextlib.suppress(OSError):
            log.hardlink_to(logs[0])
