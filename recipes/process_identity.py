"""Identity of a process: scope of its id, and start time. Used by leases and drivers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
from pathlib import Path

import psutil

ALIVE = "alive"
"""Birth of a running process on systems without /proc."""


@functools.cache
def process_space() -> str:
    """Scope of process ids: hash of host name, boot id and process namespace, 16 hex digits.

    Containers on one machine may share a host name but not process ids, hence the namespace.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def process_birth(pid: int) -> str:
    """Start of a process in clock ticks since boot; empty if it does not run or is a zombie.

    Distinguishes a process from a later one with the same id, independent of changes of the clock.
    """
    if not Path("/proc/self/stat").exists():
        return ALIVE if psutil.pid_exists(pid) else ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
