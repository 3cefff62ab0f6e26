"""Progress of `mergeboard build` on stderr, which the build itself redirects to its log."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from orchestrator.display.format import duration
from orchestrator.run.progress import JobProgress, read_progress

_LOOK_EVERY_S = 0.5
_LINE_EVERY_S = 15.0


@contextlib.contextmanager
def build_progress(digest: str, journals: Path) -> Iterator[None]:
    """Show a build's stage and remaining time: in place in a terminal, else as a line every 15 s."""
    ended = threading.Event()
    with os.fdopen(os.dup(2), "w", errors="replace") as stream:
        watcher = threading.Thread(target=_watch, args=(stream, digest, journals, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def sentence(progress: JobProgress, elapsed_s: float) -> str:
    """For example `building merging (MB) 120/538, 12 s, about 40 s left`."""
    count = f" {progress.done}/{progress.total}" if progress.total else ""
    left = ""
    if progress.share_done and progress.share_done < 1.0:
        left = f", about {duration(elapsed_s * (1 - progress.share_done) / progress.share_done)} left"
    return f"{progress.stage}{count}, {duration(elapsed_s)}{left}"


def _watch(stream: TextIO, digest: str, journals: Path, ended: threading.Event) -> None:
    begun, in_place = time.monotonic(), stream.isatty()
    said_at = begun
    with contextlib.suppress(OSError):  # the terminal is gone
        while not ended.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            if not in_place and now - said_at < _LINE_EVERY_S:
                continue
            said_at = now
            text = sentence(read_progress(journals, digest, "build"), now - begun)
            stream.write(f"\r\x1b[K{text}" if in_place else f"{text}\n")
            stream.flush()
        if in_place:
            stream.write("\r\x1b[K")
