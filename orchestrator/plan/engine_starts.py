"""Measured engine start times by engine specification, kept in one file of MERGEBOARD_HOME."""

from __future__ import annotations

import json
from pathlib import Path

from evals.engine import EngineSpec
from recipes.atomic_file import write_file

_NAME = "engine-starts.json"
_FOLLOW = 0.2
"""Least weight of a new measurement: a node's first start compiles and reads from a cold disk."""


class EngineStarts:
    """Mean start time of each engine specification; an unmeasured one gets the mean of all others."""

    def __init__(self, home: Path | None = None) -> None:
        """Read the measurements of earlier runs under `home`; without `home` nothing is read or written."""
        self._path = home / _NAME if home is not None else None
        self._means = self._read()

    def expected_s(self, engine: EngineSpec) -> float | None:
        """Expected start time of an engine in seconds; None if no start has been measured."""
        mean = self._means.get(engine.digest)
        return mean[0] if mean is not None else self.typical_s()

    def typical_s(self) -> float | None:
        """Mean start time of all engines in seconds; None if no start has been measured."""
        if not self._means:
            return None
        return sum(seconds for seconds, _ in self._means.values()) / len(self._means)

    def learn(self, engine: EngineSpec, seconds: float) -> None:
        """Record a measured start time in seconds, and save it for later runs."""
        if seconds <= 0:
            return
        mean, count = self._means.get(engine.digest, (0.0, 0))
        weight = max(1 / (count + 1), _FOLLOW)
        self._means[engine.digest] = (mean + weight * (seconds - mean), count + 1)
        if self._path is not None:
            # Another run may write at the same time: one update is lost, but the file stays valid.
            write_file(self._path, json.dumps({**self._read(), engine.digest: self._means[engine.digest]}))

    def _read(self) -> dict[str, tuple[float, int]]:
        if self._path is None:
            return {}
        try:
            stored = json.loads(self._path.read_text())
            return {str(k): (float(mean), int(count)) for k, (mean, count) in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
