"""Read the ends of attempts' log files on this machine."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_BYTES = 16 * 1024
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def log_tail(home: Path, attempt_id: str) -> str | None:
    """The last 16 KiB of an attempt's log; None if this machine does not have it."""
    if not _ID.fullmatch(attempt_id):
        return None
    try:
        with (home / "logs" / f"{attempt_id}.log").open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode("utf-8", "replace") or None
    except OSError:
        return None
