"""Figures of what a stage writes, from the figures of what goes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from recipes.preflight.records import StagePreflight
from recipes.recipe import ModelRef, Stage
from recipes.recipe.depth import is_copy, stage_layers
from recipes.relayer import SHARD_BYTES
from recipes.sources import FactsOrigin, SourceFacts
from recipes.tensor_file import Frozen

WIDTH_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}

_MOVING_BYTES = 200_000_000
"""Memory of a build that only moves bytes: an interpreter and the headers."""

_MERGEKIT_BYTES = 800_000_000
"""Memory of mergekit before it loads anything."""

_EXACTNESS = (FactsOrigin.HEADERS, FactsOrigin.CONFIG, FactsOrigin.CATALOG)


class Weights(Frozen):
    """The figures of a checkpoint, be it a source or what a stage makes; null where unknown."""

    n_layers: int | None = Field(default=None, description="Layers.")
    layer: int | None = Field(default=None, description="Parameters of one layer, where all have the same.")
    rest: int | None = Field(default=None, description="Parameters outside the layers.")
    dtype: str | None = Field(default=None, description="Dtype of the weights.")
    known_from: FactsOrigin | None = Field(default=None, description="What the parameters come from.")

    @classmethod
    def of(cls, facts: SourceFacts | None) -> Self:
        """Those of a source."""
        if facts is None:
            return cls()
        layer, total = facts.layer_parameters, facts.parameters
        return cls(
            n_layers=facts.config.n_layers,
            layer=layer,
            rest=None if layer is None or total is None else total - layer * facts.config.n_layers,
            dtype=None if facts.config.quantization else facts.dtype or facts.config.dtype,
            known_from=facts.known_from,
        )

    @property
    def parameters(self) -> int | None:
        """All parameters."""
        if self.n_layers is None or self.layer is None or self.rest is None:
            return None
        return self.n_layers * self.layer + self.rest

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all parameters."""
        width = WIDTH_BYTES.get(self.dtype or "")
        return None if width is None or self.parameters is None else self.parameters * width


def outputs(stages: tuple[Stage, ...], sources: Mapping[str, Weights]) -> tuple[Weights, ...]:
    """What each stage writes."""
    known = dict(sources)
    layers = {name: weights.n_layers for name, weights in known.items() if weights.n_layers is not None}
    found: list[Weights] = []
    for stage, n_layers in zip(stages, stage_layers(stages, layers), strict=True):
        inputs = [known.get(str(ref.source), Weights()) for ref in stage.refs()]
        first = known.get(str(_first(stage).source), Weights())
        layer = {weights.layer for weights in inputs}
        origins = [weights.known_from for weights in inputs if weights.known_from]
        written = Weights(
            n_layers=n_layers,
            layer=first.layer if len(layer) == 1 else None,
            rest=first.rest,
            dtype=stage.out_dtype or stage.dtype or first.dtype,
            known_from=max(origins, key=_EXACTNESS.index, default=None),
        )
        found.append(written)
        known[stage.name or ""] = written
    return tuple(found)


def estimated(stage: Stage, written: Weights, known: Mapping[str, Weights]) -> StagePreflight:
    """One stage with its estimates."""
    inputs = {str(ref.source): known.get(str(ref.source), Weights()) for ref in stage.refs()}
    moves = is_copy(stage) and all(weights.dtype in (None, written.dtype) for weights in inputs.values())
    return StagePreflight(
        name=stage.name or "result",
        method=stage.method,
        n_layers=written.n_layers,
        parameters=written.parameters,
        dtype=written.dtype,
        size_bytes=written.size_bytes,
        moves_bytes=moves,
        memory_bytes=_MOVING_BYTES if moves else _merge_memory(stage, written, list(inputs.values())),
    )


def _first(stage: Stage) -> ModelRef:
    """The checkpoint whose embedding and config the result has."""
    return stage.base or stage.modules[0].groups()[0].inputs[0].model


def _merge_memory(stage: Stage, written: Weights, inputs: list[Weights]) -> int | None:
    """mergekit holds the shard that it fills (and copies it to write it) and one mapped file of every source."""
    sizes = [weights.size_bytes for weights in inputs]
    if written.size_bytes is None or None in sizes:
        return None
    mapped = sum(min(size, SHARD_BYTES) for size in sizes if size is not None)
    kept = written.size_bytes if stage.method == "passthrough" else 2 * min(written.size_bytes, SHARD_BYTES)
    largest = (written.rest or 0) // 2 * 4 * (len(inputs) + 2)
    return _MERGEKIT_BYTES + mapped + kept + largest
