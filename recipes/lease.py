"""Who is using a file or directory right now: told alive from dead, from any machine that mounts it.

The owner is part of the path's name, so it is there from the first moment on; while the owner lives it touches the path
now and then. On the same machine the process itself is looked at; from another one the path's age decides.
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
"""An owner on another machine that has not touched its path for this long is dead."""

_NAME = re.compile(r"\.([0-9a-f]{16})-(\d+)-(b\w+|\d+)\.[0-9a-f]{32}$")


class Owner(Frozen):
    """A process, named so that another process can tell whether it still runs."""

    host: str = Field(description="Machine, boot and process namespace, as 16 hex digits of a hash.")
    pid: int = Field(description="Process id on that machine.")
    birth: str = Field(
        description="`b` and the birth of that process, which tells it from a later one; seconds since 1970 in names of versions before."
    )

    @classmethod
    def me(cls) -> Self:
        """This process."""
        return cls(host=process_space(), pid=os.getpid(), birth=f"b{process_birth(os.getpid())}")

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The owner in a path's name."""
        name = _NAME.search(path.name)
        return cls(host=name[1], pid=int(name[2]), birth=name[3]) if name else None

    def name(self, what: str) -> str:
        """A new file name for something of this owner."""
        return f"{what}.{self.host}-{self.pid}-{self.birth}.{uuid.uuid4().hex}"


def is_alive(path: Path, now_s: float) -> bool:
    """Whether the owner in this path's name still runs; `now_s` is the file system's own time."""
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
