"""Names of drivers, which tell whether the process behind a name still runs."""

from __future__ import annotations

import os
import platform
import secrets
from pathlib import Path

import psutil

from recipes.lease import process_space


def new_owner() -> str:
    """A name for a driver in this process: `host/space:process:birth-chance`.

    The space is boot and process namespace: containers may share a host name and not their process ids.
    """
    return f"{platform.node()}/{process_space()}:{os.getpid()}:{_birth(os.getpid())}-{secrets.token_hex(4)}"


def owner_is_gone(owner: str) -> bool:
    """Whether an owner was a process of this process space and is no more; False where that cannot be known from here."""
    _, process, rest = ["", "", *owner.rsplit(":", 2)][-3:]
    return is_local(owner) and process.isdigit() and _birth(int(process)) != rest.split("-")[0]


def is_local(owner: str) -> bool:
    """Whether an owner's process id means something here: same boot, same process namespace."""
    return owner.rsplit(":", 2)[0].rpartition("/")[2] == process_space()


def host_of(owner: str) -> str:
    """Name of the owner's host, for people."""
    return owner.rsplit(":", 2)[0].rpartition("/")[0] or owner.rsplit(":", 2)[0]


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
