"""Column types that make SQLite and PostgreSQL behave alike."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from recipes.layer_visit import Layers, Variant, Visit, variant_runs, visit_of


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


class LayerPathText(sa.types.TypeDecorator[Layers]):
    """A layer path as half-open ranges: (0, 1, 2, 1, 2, 3) is '0:3,1:4'. Null is the checkpoint as it is.

    A range of visits that are not whole ends with their variant: '0:3,1:3:attention,3:4'.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Layers | None, dialect: Dialect) -> str | None:
        """Stretches of consecutive layers become ranges."""
        return None if value is None else _ranges(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Layers | None:
        """Back to single layers."""
        return None if value is None else _layers(value)


@lru_cache(maxsize=8192)
def _ranges(layers: Layers) -> str:
    return ",".join(
        f"{first}:{end}" + (f":{variant.text}" if variant.text else "")
        for first, end, variant in variant_runs(layers)
    )


@lru_cache(maxsize=8192)
def _layers(ranges: str) -> Layers:
    layers: list[int | Visit] = []
    for part in ranges.split(",") if ranges else ():
        first, end, *variant = part.split(":", 2)
        numbers = range(int(first), int(end))
        layers += [visit_of(n, Variant.parse(variant[0])) for n in numbers] if variant else numbers
    return tuple(layers)


def _refuse_naive(value: datetime) -> datetime:
    raise ValueError(f"{value!r} has no time zone; the store takes aware times only")
