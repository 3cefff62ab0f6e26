"""Progress of a report, on stderr: how many candidates are compared, and how long the others take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.display.format import about

_PAUSE_S = 2.0
"""Seconds before the first line, and between two: a short report prints none."""


@contextmanager
def comparing(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how many candidates of how many are compared; it prints a line every few seconds."""
    started = shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if quiet or now - shown < _PAUSE_S or done >= total:
            return
        shown = now
        left = about((now - started) / done * (total - done))
        sys.stderr.write(f"compared {done:,} of {total:,} candidates, {left} left\n")
        sys.stderr.flush()

    yield show
