"""Who is using a directory right now: owners that can be told alive from dead, from any machine that mounts it.

An owner is a small file with a host and a process in it, touched by the process now and then. On the same machine
the process itself is looked at; from another one the age of the file decides.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psutil
from pydantic import Field, ValidationError

from recipes.tensor_file import Frozen

HEARTBEAT_S = 20.0
DEAD_AFTER_S = 600.0
"""An owner on another machine that has not touched its file for this long is dead."""


class Owner(Frozen):
    """A process, named so that another process can tell whether it still runs."""

    host: str = Field(description="Machine, boot and process namespace.")
    pid: int = Field(description="Process id on that machine.")
    started_s: float = Field(
        description="When that process started, seconds since 1970; tells it from a later one."
    )

    @classmethod
    def me(cls) -> Self:
        """This process."""
        return cls(host=_host(), pid=os.getpid(), started_s=psutil.Process().create_time())

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The owner in a file; null where the file is gone or was cut short."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None


def is_alive(path: Path, now_s: float) -> bool:
    """Whether the owner written in this file still runs; `now_s` is the file system's own time."""
    owner = Owner.read(path)
    try:
        age_s = now_s - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if owner is None or owner.host != _host():
        return age_s < DEAD_AFTER_S
    try:
        process = psutil.Process(owner.pid)
        same = (
            abs(process.create_time() - owner.started_s) < 5.0
        )  # the boot time that it is counted from drifts
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Keep an owner file at `path` while the block runs."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.write_text(Owner.me().model_dump_json())
    aside.rename(path)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        path.unlink(missing_ok=True)


def file_system_time_s(directory: Path) -> float:
    """The time by the clock that stamps files here, which may be another machine's."""
    probe = directory / f".clock.{os.getpid()}.{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):  # a missed beat is made up by the next one
            os.utime(path)


def _host() -> str:
    """Containers on one machine may share a host name and not their process ids, so the namespace is part of it."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "|".join(parts)
