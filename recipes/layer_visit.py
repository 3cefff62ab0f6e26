"""Visits of a layer: whole, of attention or MLP alone, or damped.

A whole visit is written and stored as the layer's number. The text of another one names its variant:

    5:attention                hidden + attention(hidden): the MLP with its norms is skipped
    5:mlp                      hidden + mlp(hidden): the attention with its norms is skipped; it has no KV cache
    5:damped=0.5               hidden + 0.5 x (layer(hidden) - hidden)
    5:attention:damped=0.5     both: half a step of the attention alone

Factor 1 is the whole visit and is written so. Factor 0 changes nothing; it stays in the path, so that it can be run as a control.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from recipes.errors import LayerPathError
from recipes.tensor_file import Frozen

MAX_FACTOR = 2.0
"""Largest factor of a damped visit; above 1 the step is lengthened."""

_FACTOR = re.compile(r"\d{1,2}(\.\d{1,6})?|\.\d{1,6}", re.ASCII)
_HELP = 'write "attention", "mlp", "damped=0.5" or "attention:damped=0.5"'


class VisitPart(StrEnum):
    """The part of a layer that a visit runs."""

    LAYER = "layer"
    ATTENTION = "attention"
    MLP = "mlp"


class Variant(Frozen):
    """How a visit runs its layer. Raises LayerPathError for a factor outside [0, MAX_FACTOR]."""

    part: VisitPart = Field(default=VisitPart.LAYER, description="The part of the layer that runs.")
    factor: float = Field(default=1.0, description="Factor of the layer's change of the hidden states.")

    @model_validator(mode="after")
    def _check(self) -> Variant:
        if not 0 <= self.factor <= MAX_FACTOR:
            raise LayerPathError(
                f"A visit cannot be damped by {self.factor}: choose a factor from 0 to {MAX_FACTOR:g}."
            )
        return self

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Parse `whole`, `attention`, `mlp`, `damped=A`, or a part and a factor joined by a colon. Raises LayerPathError."""
        part: VisitPart | None = None
        factor: float | None = None
        if text == "whole":
            return cls()
        for word in text.split(":"):
            name, _, value = word.partition("=")
            if word in (VisitPart.ATTENTION, VisitPart.MLP) and part is None:
                part = VisitPart(word)
            elif name == "damped" and factor is None and _FACTOR.fullmatch(value):
                factor = float(value)
            else:
                raise LayerPathError(f"{text[:60]!r} is not a kind of visit: {_HELP}.")
        return cls(part=part or VisitPart.LAYER, factor=1.0 if factor is None else factor)

    @property
    def is_whole(self) -> bool:
        """Whether the whole layer runs, undamped."""
        return self.part is VisitPart.LAYER and self.factor == 1

    @property
    def text(self) -> str:
        """Canonical text; empty for a whole visit."""
        words = [] if self.part is VisitPart.LAYER else [self.part.value]
        if self.factor != 1:
            words.append(f"damped={self.factor:.6f}".rstrip("0").rstrip("."))
        return ":".join(words)

    @property
    def words(self) -> str:
        """The variant in words, for example `attention alone, damped by 0.5`; empty for a whole visit."""
        part = {VisitPart.ATTENTION: "attention alone", VisitPart.MLP: "MLP alone"}.get(self.part)
        damped = f"damped by {self.factor:g}" if self.factor != 1 else None
        return ", ".join(word for word in (part, damped) if word)


WHOLE = Variant()
"""The variant of a plain visit."""


class Visit(Frozen):
    """A visit that is not whole; in JSON the text, for example "5:attention". Raises LayerPathError."""

    layer: int = Field(ge=0, description="Index of the source layer.")
    part: VisitPart = Field(default=VisitPart.LAYER, description="The part of the layer that runs.")
    factor: float = Field(default=1.0, description="Factor of the layer's change of the hidden states.")

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        layer, colon, variant = value.partition(":")
        if not (colon and layer.isascii() and layer.isdigit() and len(layer) <= 9):
            raise ValueError(f"{value[:60]!r} is not a visit of a layer")
        parsed = Variant.parse(variant)
        return {"layer": int(layer), "part": parsed.part, "factor": parsed.factor}

    @model_validator(mode="after")
    def _check(self) -> Visit:
        if self.variant.is_whole:
            raise LayerPathError(f"A whole visit of layer {self.layer} is written as its number.")
        return self

    @model_serializer
    def _as_text(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "string",
            "description": "A visit that is not whole, for example 5:attention, 5:mlp or 5:damped=0.5.",
            "pattern": r"^[0-9]+:((attention|mlp)(:damped=[0-9.]+)?|damped=[0-9.]+)$",
        }

    @property
    def variant(self) -> Variant:
        """How the layer runs."""
        return Variant(part=self.part, factor=self.factor)

    @property
    def text(self) -> str:
        """Canonical text, for example `5:damped=0.5`."""
        return f"{self.layer}:{self.variant.text}"

    def __str__(self) -> str:
        return self.text


Layers = tuple[int | Visit, ...]
"""The visits of a layer path in order; a whole visit is the layer's number."""


def visit_of(layer: int, variant: Variant) -> int | Visit:
    """A visit of the layer; its number if the visit is whole."""
    return layer if variant.is_whole else Visit(layer=layer, part=variant.part, factor=variant.factor)


def layer_of(visit: int | Visit) -> int:
    """The source layer of a visit."""
    return visit if isinstance(visit, int) else visit.layer


def variant_of(visit: int | Visit) -> Variant:
    """How a visit runs its layer."""
    return WHOLE if isinstance(visit, int) else visit.variant


def visit_text(visit: int | Visit) -> int | str:
    """A visit as it is written in a list of layers: the number, or the text of one that is not whole."""
    return visit if isinstance(visit, int) else visit.text


def source_layers_of(layers: Layers) -> tuple[int, ...]:
    """The source layer of each visit."""
    return tuple(layer_of(visit) for visit in layers)


def attention_visits(layers: Layers) -> int:
    """Number of visits that keep keys and values of their own."""
    return sum(variant_of(v).part is not VisitPart.MLP and variant_of(v).factor != 0 for v in layers)


def is_whole_path(layers: Layers) -> bool:
    """Whether every visit runs the whole layer."""
    return all(isinstance(visit, int) for visit in layers)


def variant_runs(layers: Layers) -> tuple[tuple[int, int, Variant], ...]:
    """Maximal ascending ranges [a, b) of visits of one variant, in order."""
    runs: list[tuple[int, int, Variant]] = []
    for visit in layers:
        layer, variant = layer_of(visit), variant_of(visit)
        if runs and runs[-1][1] == layer and runs[-1][2] == variant:
            runs[-1] = (runs[-1][0], layer + 1, variant)
        else:
            runs.append((layer, layer + 1, variant))
    return tuple(runs)
