"""Names of drivers, by which another process can tell whether the driver still runs."""

from __future__ import annotations

import os
import platform
import secrets

from recipes.process_identity import process_birth, process_space


def new_owner() -> str:
    """A name for a driver in this process: `host/space:process:birth-random`.

    The space is boot and process namespace: containers may share a host name, but not process ids.
    """
    return f"{platform.node()}/{process_space()}:{os.getpid()}:{process_birth(os.getpid())}-{secrets.token_hex(4)}"


def owner_is_gone(owner: str) -> bool:
    """Whether an owner was a process of this process space and has ended; False if unknown."""
    _, process, birth = ["", "", *owner.rsplit(":", 2)][-3:]
    return is_local(owner) and process.isdigit() and process_birth(int(process)) != birth.split("-")[0]


def is_local(owner: str) -> bool:
    """Whether an owner's process id is valid here: same boot, same process namespace."""
    return owner.rsplit(":", 2)[0].rpartition("/")[2] == process_space()


def host_of(owner: str) -> str:
    """Name of the owner's host."""
    return owner.rsplit(":", 2)[0].rpartition("/")[0] or owner.rsplit(":", 2)[0]
