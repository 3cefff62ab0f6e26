"""Format durations, sizes, counts, p-values and times for display; an unknown value is `–`."""

from __future__ import annotations

import math
from datetime import UTC, datetime

UNKNOWN = "–"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Upper limit, rounding step and unit of an estimated duration, in seconds.
_ABOUT = (
    (57.5, 5, 1, "s"),
    (9.5 * _MINUTE, _MINUTE, _MINUTE, "min"),
    (57.5 * _MINUTE, 5 * _MINUTE, _MINUTE, "min"),
    (9.75 * _HOUR, _HOUR // 2, _HOUR, "h"),
    (47.5 * _HOUR, _HOUR, _HOUR, "h"),
    (math.inf, _DAY, _DAY, "days"),
)


def duration(seconds: float | None) -> str:
    """A measured duration, to two units: `8.2 s`, `12 s`, `7 min 4 s`, `1 h 20 min`, `2 d 3 h`."""
    if seconds is None:
        return UNKNOWN
    if round(seconds) < _MINUTE:
        return f"{seconds:.0f} s" if round(seconds, 1) >= 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    minutes = round(seconds / _MINUTE)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / _HOUR)
    return f"{hours // 24} d {hours % 24} h"


def about(seconds: float | None) -> str | None:
    """An estimated duration, rounded: `under 10 s`, `about 5 min`, `about 2.5 h`, `about 4 days`.

    None if `seconds` is None.
    """
    if seconds is None:
        return None
    if seconds < 10:
        return "under 10 s"
    _, step_s, unit_s, unit = next(entry for entry in _ABOUT if seconds < entry[0])
    return f"about {round(seconds / step_s) * step_s / unit_s:g} {unit}"


def hours(seconds: float) -> str:
    """Seconds of engine or GPU time as hours with two decimals."""
    return f"{seconds / _HOUR:,.2f}"


def size(count: int | None) -> str:
    """A number of bytes in decimal units: `512 B`, `1.5 kB`, `2.3 GB`, `1.20 TB`."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        text = f"{value:.0f}" if unit == "B" else f"{value:.1f}"
        if float(text) < 1000:
            return f"{text} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def parameters(count: int | None) -> str:
    """A number of parameters in billions, to three decimals as on the leaderboard."""
    return UNKNOWN if count is None else f"{count / 1e9:.3f} B"


def p_value(value: float | None) -> str:
    """A p-value to three decimals; `<0.001` below that."""
    if value is None:
        return UNKNOWN
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def moment(when: datetime | None) -> str:
    """A timestamp in UTC, to the second."""
    return UNKNOWN if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
