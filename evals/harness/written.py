"""Length of an engine's generated answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """Length of an engine's generated answer to one document."""

    n_tokens: int
    truncated: bool
