"""Leases: files and directories whose owner process is known to be alive or dead, from any machine that mounts them.

The owner is part of the file name, so a lease has an owner from its creation. The owner updates the modification time
regularly. On the owner's machine the process is looked up; on other machines the age of the path decides.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import Field

from recipes.process_identity import process_birth, process_space
from recipes.tensor_file import Frozen

HEARTBEAT_S = 20.0
DEAD_AFTER_S = 600.0
"""Age of a path after which its owner on another machine counts as dead."""

_NAME = re.compile(r"\.([0-9a-f]{16})-(\d+)-(b\w+|\d+)\.[0-9a-f]{32}$")


class Owner(Frozen):
    """Identity of a process, which tells whether it still runs."""

    host: str = Field(description="Machine, boot and process namespace, as 16 hex digits of a hash.")
    pid: int = Field(description="Process id on that machine.")
    birth: str = Field(
        description="`b` and the birth of the process, which excludes a later process with the same id; names of earlier versions have "
        "seconds since 1970 instead."
    )

    @classmethod
    def current(cls) -> Self:
        """This process."""
        return cls(host=process_space(), pid=os.getpid(), birth=f"b{process_birth(os.getpid())}")

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The owner that is encoded in a file name, or None."""
        match = _NAME.search(path.name)
        return cls(host=match[1], pid=int(match[2]), birth=match[3]) if match else None

    def new_file_name(self, prefix: str) -> str:
        """A new unique file name with this owner."""
        return f"{prefix}.{self.host}-{self.pid}-{self.birth}.{uuid.uuid4().hex}"


def is_owner_alive(path: Path, now_s: float) -> bool:
    """Whether the owner in the file name still runs; `now_s` is the time of the file system."""
    owner = Owner.of(path)
    if owner is None:
        return False
    if owner.host == process_space() and owner.birth.startswith("b"):
        return owner.birth == f"b{process_birth(owner.pid)}"
    try:
        return now_s - path.stat().st_mtime < DEAD_AFTER_S
    except FileNotFoundError:
        return False


class Heartbeat:
    """Thread that updates the modification time of paths; starts with the first path."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, path: Path) -> None:
        """Start to touch a path."""
        with self._lock:
            self._paths.add(path)
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def remove(self, path: Path) -> None:
        """Stop to touch a path."""
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
                with contextlib.suppress(OSError):  # the next beat comes before the lease expires
                    os.utime(path)


@contextmanager
def keep_touched(path: Path) -> Iterator[None]:
    """Context manager that touches a path regularly."""
    heartbeat = Heartbeat()
    heartbeat.add(path)
    try:
        yield
    finally:
        heartbeat.stop()


def file_system_time_s(clock: Path) -> float:
    """Current time of the file system, whose clock may be another machine's; `clock` is a file that is keep_touched."""
    clock.touch()
    return clock.stat().st_mtime
