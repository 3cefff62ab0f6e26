"""Engines that share the requests of one job: each takes the next stretch that nobody has claimed.

All of them see the job's requests in one order and write their answers into one journal. One leads: it gives the job's
result, and asks again what a helper claimed and never answered. Helpers may come and go at any moment.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

STRETCH = 16
"""Requests that are claimed together: neighbours, which share prefixes."""
PATIENCE_S = 10.0
"""How long the one that leads waits for the next answer of those who help, before it asks for what is left itself."""

_FOLDER = "claims"


class StretchLocks:
    """Who has which stretch, as empty files in a folder beside the journal that only one process can make."""

    def __init__(self, journal_dir: Path, *, until: Callable[[], bool] = lambda: False) -> None:
        """`until` tells when nothing further is to be claimed."""
        self._folder = journal_dir / _FOLDER
        self._until = until
        self._mine: dict[str, bool] = {}
        self._quota: int | None = None

    def clear(self) -> None:
        """Forget everyone's claims, which an attempt that died may have left."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self, stretch: str) -> bool:
        """Whether the stretch is this process's, now or since it took it."""
        if stretch not in self._mine:
            if self._quota == 0:
                return False
            self._mine[stretch] = not self._until() and self._make(self._folder / stretch)
            if self._quota is not None:
                self._quota -= self._mine[stretch]
        return self._mine[stretch]

    def limit(self, stretches: Iterable[str]) -> bool:
        """Take at most half of what nobody has of these stretches from now on, at least one; whether there is any.

        For helpers: the rest stays for the others until this half is answered.
        """
        taken = set(os.listdir(self._folder)) if self._folder.is_dir() else None
        free = 0 if taken is None else len(set(stretches) - taken)
        self._quota = -(-free // 2)
        return free > 0 and not self._until()

    @staticmethod
    def _make(path: Path) -> bool:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except (FileExistsError, FileNotFoundError):
            return False  # somebody's; or the job is done, and its folder is gone
        return True


def claims_made(journal_dir: Path) -> bool:
    """Whether somebody leads here."""
    return (journal_dir / _FOLDER).is_dir()


def deadline(seconds: float) -> Callable[[], bool]:
    """Tells whether so much time has passed since now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end
