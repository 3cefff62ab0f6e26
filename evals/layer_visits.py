"""Visits of a live layer path: a layer's number for the whole layer, or a record with a part and a factor.

    attention    hidden + attention(hidden)       mlp    hidden + mlp(hidden)
    factor a     hidden + a x (change of hidden)

The half that is left out is skipped with its norms. A visit with factor 0 changes nothing and is not run.
"""

from __future__ import annotations

from numbers import Integral
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

ATTENTION = "attention"
MLP = "mlp"
LAYER = "layer"


@runtime_checkable
class PartialVisit(Protocol):
    """A visit that does not run the whole layer with full effect. Immutable and hashable; its text is its `str`."""

    @property
    def layer(self) -> int:
        """Index of the source layer."""

    @property
    def part(self) -> str:
        """The part that runs: `layer`, `attention` or `mlp`."""

    @property
    def factor(self) -> float:
        """Factor of the change of the hidden states."""


def _checked(value: Any) -> int | PartialVisit:
    if type(value) is int or isinstance(value, PartialVisit):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):  # numpy's
        return int(value)
    raise ValueError("a visit is the number of a layer, or a record with layer, part and factor")


AnyVisit = Annotated[
    int | PartialVisit,
    PlainValidator(_checked),
    PlainSerializer(lambda visit: visit if isinstance(visit, int) else str(visit)),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
]
"""A visit; in records a number or, in JSON, its text."""
VisitPath = tuple[AnyVisit, ...]
"""A layer path: its visits in order."""


def layer_of(visit: AnyVisit) -> int:
    """The source layer of a visit."""
    return visit if isinstance(visit, int) else visit.layer


def part_of(visit: AnyVisit) -> str:
    """The part of the layer that runs."""
    return LAYER if isinstance(visit, int) else visit.part


def factor_of(visit: AnyVisit) -> float:
    """The factor of the visit's change of the hidden states; 1 for a whole visit."""
    return 1.0 if isinstance(visit, int) else visit.factor


def has_attention(visit: AnyVisit) -> bool:
    """Whether the visit runs attention and so keeps keys and values of its own."""
    return part_of(visit) != MLP


def running(path: VisitPath) -> VisitPath:
    """The visits that change the hidden states."""
    return tuple(visit for visit in path if factor_of(visit) != 0)


def cache_slots(path: VisitPath) -> tuple[int, ...]:
    """For each visit, the number of visits with attention before it: the index of its keys and values."""
    slots, count = [], 0
    for visit in path:
        slots.append(count)
        count += has_attention(visit)
    return tuple(slots)


def order_key(visit: AnyVisit) -> tuple[int, str, float]:
    """A key by which visits are sorted; those of a layer are neighbours."""
    return layer_of(visit), part_of(visit), factor_of(visit)


def path_order_key(path: VisitPath) -> tuple[tuple[int, str, float], ...]:
    """A key by which paths are sorted; those with common first visits are neighbours."""
    return tuple(map(order_key, path))
