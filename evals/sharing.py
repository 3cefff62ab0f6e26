"""Lets several engines share the requests of one job: each claims the next unclaimed stretch.

All processes order the job's requests alike and write their answers to one journal. The leader produces the job's result
and repeats requests that a helper claimed but did not answer. Helpers may join and leave at any time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

STRETCH = 16
"""Number of requests claimed together; neighbours share prefixes."""
PATIENCE_S = 10.0
"""Seconds that the leader waits for a helper's next answer before it runs the remaining requests itself."""

_FOLDER = "claims"


class StretchLocks:
    """Locks of stretches: empty files in the journal's folder, each created by exactly one process."""

    def __init__(self, journal_dir: Path, *, until: Callable[[], bool] = lambda: False) -> None:
        """`until` returns true when nothing further may be claimed."""
        self._folder = journal_dir / _FOLDER
        self._until = until
        self._claimed: dict[str, bool] = {}
        self._quota: int | None = None

    def clear(self) -> None:
        """Delete all claims, for example those of an earlier attempt."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self, stretch: str) -> bool:
        """Claim the stretch unless it was tried before; returns whether this process holds it."""
        if stretch not in self._claimed:
            if self._quota == 0:
                return False
            self._claimed[stretch] = not self._until() and self._create(self._folder / stretch)
            if self._quota is not None:
                self._quota -= self._claimed[stretch]
        return self._claimed[stretch]

    def limit(self, stretches: Iterable[str]) -> bool:
        """Limit further claims to half of the unclaimed stretches, at least one; returns whether there are any.

        Helpers call it so that the other half stays for others until theirs is answered.
        """
        taken = set(os.listdir(self._folder)) if self._folder.is_dir() else None
        free = 0 if taken is None else len(set(stretches) - taken)
        self._quota = -(-free // 2)
        return free > 0 and not self._until()

    @staticmethod
    def _create(path: Path) -> bool:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except (FileExistsError, FileNotFoundError):
            return False  # claimed by another process, or the job is done and its folder removed
        return True


def has_leader(journal_dir: Path) -> bool:
    """Whether a leader has started the job in this folder."""
    return (journal_dir / _FOLDER).is_dir()


def deadline(seconds: float) -> Callable[[], bool]:
    """A function that returns whether `seconds` have passed since this call."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
