"""Ids that sort by time."""

from __future__ import annotations

import os
import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class _Increasing:
    """Makes the numbers of one process increase, whatever its clock and its random numbers do."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()
        # A lock that another thread holds would stay locked in a forked process.
        os.register_at_fork(after_in_child=self._forked)

    def number(self, value: int) -> int:
        """The value, or one a random step after the last number if it is not greater than that."""
        with self._lock:
            # The step is random, since a forked process begins with the same last number.
            self._last = value if value > self._last else self._last + 1 + secrets.randbits(16)
            return self._last

    def _forked(self) -> None:
        self._lock = threading.Lock()


_ids = _Increasing()


def new_id() -> str:
    """A short id that sorts by time: nine characters of milliseconds, six random ones. Later ones of a process are greater."""
    value = _ids.number((int(time.time() * 1000) << 30) | secrets.randbits(30))
    digits = []
    for _ in range(15):
        value, digit = divmod(value, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
