"""Seconds that engines take to start, by engine specification, as measured in this installation: one small file in its root."""

from __future__ import annotations

import json
from pathlib import Path

from evals.engine import EngineSpec
from recipes.atomic_file import write_file

_NAME = "engine-starts.json"
_FOLLOW = 0.2
"""Weight of a new start once there are a few: the first on a node compiles and reads from a cold disk, later ones do not."""


class EngineStarts:
    """The mean start of each engine specification. One that is not known yet is taken to start as the others do."""

    def __init__(self, home: Path | None = None) -> None:
        """Read what earlier runs have measured under `home`; without it, nothing is read or written."""
        self._path = home / _NAME if home is not None else None
        self._means = self._read()

    def expected_s(self, engine: EngineSpec) -> float | None:
        """Seconds that an engine is expected to take to start; null where none has been measured."""
        mean = self._means.get(engine.digest)
        return mean[0] if mean is not None else self.typical_s()

    def typical_s(self) -> float | None:
        """Mean seconds of all engines' starts; null where none has been measured."""
        if not self._means:
            return None
        return sum(seconds for seconds, _ in self._means.values()) / len(self._means)

    def learn(self, engine: EngineSpec, seconds: float) -> None:
        """Take a measured start in, and write it down for later runs."""
        if seconds <= 0:
            return
        mean, count = self._means.get(engine.digest, (0.0, 0))
        weight = max(1 / (count + 1), _FOLLOW)
        self._means[engine.digest] = (mean + weight * (seconds - mean), count + 1)
        if self._path is not None:
            # Another run may write at the same time: one of two estimates is lost, never the file.
            write_file(self._path, json.dumps({**self._read(), engine.digest: self._means[engine.digest]}))

    def _read(self) -> dict[str, tuple[float, int]]:
        if self._path is None:
            return {}
        try:
            stored = json.loads(self._path.read_text())
            return {str(k): (float(mean), int(count)) for k, (mean, count) in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
