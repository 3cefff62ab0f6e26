"""Times and sizes as people say them; text from outside is made fit to be shown by `orchestrator.display.text_safety`."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.display.text_safety import LONG, SHORT, entity, escaped, line, plain

__all__ = ["LONG", "SHORT", "duration", "entity", "escaped", "line", "moment", "parameters", "plain", "size"]


def duration(seconds: float | None) -> str:
    """A duration as people say it."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(when: datetime | None) -> str:
    """A moment in UTC."""
    return "–" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int | None) -> str:
    """A number of bytes."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def parameters(count: int | None) -> str:
    """A number of parameters, in billions as the boards have it."""
    return "–" if count is None else f"{count / 1e9:.3f} B"
