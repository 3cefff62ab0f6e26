"""Who is using a file or directory right now: told alive from dead, from any machine that mounts it.

The owner is part of the path's name, so it is there from the first moment on; while the owner lives it touches the path
now and then. On the same machine the process itself is looked at; from another one the path's age decides.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil
from pydantic import Field

from recipes.tensor_file import Frozen

HEARTBEAT_S = 20.0
DEAD_AFTER_S = 600.0
"""An owner on another machine that has not touched its path for this long is dead."""

_NAME = re.compile(r"\.([0-9a-f]{16})-(\d+)-(\d+)\.[0-9a-f]{32}$")


class Owner(Frozen):
    """A process, named so that another process can tell whether it still runs."""

    host: str = Field(description="Machine, boot and process namespace, as 16 hex digits of a hash.")
    pid: int = Field(description="Process id on that machine.")
    started_s: int = Field(
        description="When that process started, seconds since 1970; tells it from a later one."
    )

    @classmethod
    def me(cls) -> Self:
        """This process."""
        return cls(host=_host(), pid=os.getpid(), started_s=int(psutil.Process().create_time()))

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The owner in a path's name."""
        found = _NAME.search(path.name)
        return cls(host=found[1], pid=int(found[2]), started_s=int(found[3])) if found else None

    def name(self, what: str) -> str:
        """A new file name for something of this owner."""
        return f"{what}.{self.host}-{self.pid}-{self.started_s}.{uuid.uuid4().hex}"


def is_alive(path: Path, now_s: float) -> bool:
    """Whether the owner in this path's name still runs; `now_s` is the file system's own time."""
    owner = Owner.of(path)
    if owner is None:
        return False
    try:
        if owner.host != _host():
            return now_s - path.stat().st_mtime < DEAD_AFTER_S
        process = psutil.Process(owner.pid)
        same = (
            abs(process.create_time() - owner.started_s) < 5.0
        )  # the boot time that it is counted from drifts
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, psutil.NoSuchProcess):
        return False


@contextmanager
def touched(path: Path) -> Iterator[None]:
    """Touch the path every few seconds while the block runs."""
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()


def file_system_time_s(clock: Path) -> float:
    """The time by the clock that stamps files there, which may be another machine's; `clock` is a file to touch."""
    clock.touch()
    return clock.stat().st_mtime


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):  # a missed beat is made up by the next one
            os.utime(path)


@functools.cache
def _host() -> str:
    """Containers on one machine may share a host name and not their process ids, so the namespace is part of it."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
