"""Which process it is: where its id means something, and when it was born. The one implementation; leases and drivers use it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
from pathlib import Path

import psutil

ALIVE = "alive"
"""Birth of a process that runs on a system which does not tell when it started."""


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


def process_birth(pid: int) -> str:
    """Clock ticks from the machine's start to the process's; empty where it does not run, or is a zombie.

    Tells a process from a later one of the same id, whatever the clock does meanwhile.
    """
    if not Path("/proc/self/stat").exists():
        return ALIVE if psutil.pid_exists(pid) else ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
