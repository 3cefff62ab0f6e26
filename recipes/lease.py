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
        return cls(host=process_space(), pid=os.getpid(), started_s=int(psutil.Process().create_time()))

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
        if owner.host != process_space():
            return now_s - path.stat().st_mtime < DEAD_AFTER_S
        process = psutil.Process(owner.pid)
        same = (
            abs(process.create_time() - owner.started_s) < 5.0
        )  # the boot time that it is counted from drifts
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, psutil.NoSuchProcess):
        return False


class Heartbeat:
    """Touches paths every few seconds, from a thread that starts with the first of them."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def touch(self, path: Path) -> None:
        """Touch this path from now on."""
        with self._lock:
            self._paths.add(path)
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def leave(self, path: Path) -> None:
        """Leave this path alone from now on."""
        with self._lock:
            self._paths.discard(path)

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with self._lock:
                paths = tuple(self._paths)
            for path in paths:
                with contextlib.suppress(OSError):  # a missed beat is made up by the next one
                    os.utime(path)


@contextmanager
def touched(path: Path) -> Iterator[None]:
    """Touch the path every few seconds while the block runs."""
    heart = Heartbeat()
    heart.touch(path)
    try:
        yield
    finally:
        heart.stop()


def file_system_time_s(clock: Path) -> float:
    """The time by the clock that stamps files there, which may be another machine's; `clock` is a file to touch."""
    clock.touch()
    return clock.stat().st_mtime


@functools.cache
def process_space() -> str:
    """Where a process id means something: host name, boot and process namespace, as 16 hex digits of a hash.

    Containers on one machine may share a host name and not their process ids, so the namespace is part of it.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
