"""Names of drivers, which tell whether the process behind a name still runs."""

from __future__ import annotations

import os
import platform
import secrets
from pathlib import Path

import psutil


def new_owner() -> str:
    """A name for a driver in this process: host, process id, and the process's birth with a piece of chance."""
    return f"{platform.node()}:{os.getpid()}:{_birth(os.getpid())}-{secrets.token_hex(4)}"


def owner_is_gone(owner: str) -> bool:
    """Whether an owner was a process of this machine and is no more; False where that cannot be known from here."""
    host, process, rest = ["", "", *owner.rsplit(":", 2)][-3:]
    return host == platform.node() and process.isdigit() and _birth(int(process)) != rest.split("-")[0]


def _birth(process: int) -> str:
    """Clock ticks from the machine's start to the process's: tells it from a later one of the same id, whatever the
    clock does. Empty where it does not run; 'alive' where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return "alive" if psutil.pid_exists(process) else ""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
