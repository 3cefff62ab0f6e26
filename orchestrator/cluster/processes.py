"""Process group of an engine on its node. Independent of Ray."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
from pydantic import Field

from evals.engine import Frozen
from recipes.process_identity import process_birth

_KILL_S = 30.0


class ProcessGroup(Frozen):
    """The processes of one engine on its node."""

    leader: int = Field(description="Process id of the actor, which is the group's id.")
    birth: str = Field(description="Start time of the actor's process, since process ids are reused.")


def lead_group(host: object) -> ProcessGroup:
    """Make the actor's process a group leader; its children join the group. Runs in the actor."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    return ProcessGroup(leader=os.getpid(), birth=process_birth(os.getpid()))


def kill_group(group: ProcessGroup, limit_s: float = _KILL_S) -> bool:
    """Kill the group and wait until it is empty; False after `limit_s`. Runs on the node."""
    end = time.monotonic() + limit_s
    while members(group):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group.leader, signal.SIGKILL)
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def members(group: ProcessGroup) -> list[int]:
    """Process ids of the group on this machine, without zombies, which hold no resources."""
    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(process.pid) != group.leader or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.pid == group.leader and process_birth(group.leader) not in (group.birth, ""):
                return []  # the group has ended, and its id was reused
            pids.append(process.pid)
    return pids
