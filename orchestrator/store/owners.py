"""Names of drivers, which tell whether the process behind a name still runs."""

from __future__ import annotations

import os
import platform
import secrets

from recipes.process_identity import process_birth, process_space


def new_owner() -> str:
    """A name for a driver in this process: `host/space:process:birth-chance`.

    The space is boot and process namespace: containers may share a host name and not their process ids.
    """
    return f"{platform.node()}/{process_space()}:{os.getpid()}:{process_birth(os.getpid())}-{secrets.token_hex(4)}"


def owner_is_gone(owner: str) -> bool:
    """Whether an owner was a process of this process space and is no more; False where that cannot be known from here."""
    _, process, rest = ["", "", *owner.rsplit(":", 2)][-3:]
    return is_local(owner) and process.isdigit() and process_birth(int(process)) != rest.split("-")[0]


def is_local(owner: str) -> bool:
    """Whether an owner's process id means something here: same boot, same process namespace."""
    return owner.rsplit(":", 2)[0].rpartition("/")[2] == process_space()


def host_of(owner: str) -> str:
    """Name of the owner's host, for people."""
    return owner.rsplit(":", 2)[0].rpartition("/")[0] or owner.rsplit(":", 2)[0]
