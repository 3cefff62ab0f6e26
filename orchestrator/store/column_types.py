"""Column types that make SQLite and PostgreSQL behave alike."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC; naive values are refused on the way in and never come out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite keeps no zone."""
        if value is None:
            return None
        moment = value.astimezone(UTC) if value.tzinfo else _refuse_naive(value)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always aware, always UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class LayerPathText(sa.types.TypeDecorator[tuple[int, ...]]):
    """A layer path as half-open ranges: (0, 1, 2, 1, 2, 3) is '0:3,1:4'. Null is the checkpoint as it is."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: Dialect) -> str | None:
        """Stretches of consecutive layers become ranges."""
        return None if value is None else _ranges(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[int, ...] | None:
        """Back to single layers."""
        return None if value is None else _layers(value)


@lru_cache(maxsize=8192)
def _ranges(layers: tuple[int, ...]) -> str:
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and ranges[-1][1] == layer:
            ranges[-1][1] = layer + 1
        else:
            ranges.append([layer, layer + 1])
    return ",".join(f"{first}:{end}" for first, end in ranges)


@lru_cache(maxsize=8192)
def _layers(ranges: str) -> tuple[int, ...]:
    bounds = (part.split(":") for part in ranges.split(",") if part)
    return tuple(layer for first, end in bounds for layer in range(int(first), int(end)))


def _refuse_naive(value: datetime) -> datetime:
    raise ValueError(f"{value!r} has no time zone; the store takes aware times only")
