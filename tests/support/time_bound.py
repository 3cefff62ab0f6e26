"""Bounds on time that tell work that grows too fast from a machine that is slow."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOWEST_MACHINE = 5.0
"""Under coverage on a busy machine the same work took 3.5 times what it takes on a quiet one."""


@contextmanager
def cpu_bound(quiet_s: float) -> Iterator[None]:
    """Fail where the block needs five times `quiet_s` of this process's CPU time, a generous figure for a quiet machine.

    Choose inputs for which work that grows faster than its input needs minutes.
    """
    yield from _bound(quiet_s, time.process_time)


@contextmanager
def wall_bound(quiet_s: float) -> Iterator[None]:
    """As `cpu_bound`, for waiting: fail where the block lasts five times `quiet_s`."""
    yield from _bound(quiet_s, time.monotonic)


def _bound(quiet_s: float, clock: Callable[[], float]) -> Iterator[None]:
    start = clock()
    yield
    taken_s = clock() - start
    assert taken_s < quiet_s * SLOWEST_MACHINE, f"{taken_s:.1f} s where a quiet machine needs {quiet_s:g} s"
