"""Figures of a stage's output, computed from those of its inputs."""

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
"""Memory of a build that only copies bytes: interpreter and headers."""

_MERGEKIT_BYTES = 800_000_000
"""Memory of mergekit before it loads weights."""

_BY_PRECISION = (FactsOrigin.HEADERS, FactsOrigin.CONFIG, FactsOrigin.CATALOG)


class Weights(Frozen):
    """Figures of a source or of a stage's output; null if unknown."""

    n_layers: int | None = Field(default=None, description="Number of layers.")
    layer: int | None = Field(default=None, description="Parameters of one layer; null if layers differ.")
    each: tuple[int, ...] | None = Field(
        default=None,
        description="Parameters of each layer, where layers differ and the config determines them.",
    )
    rest: int | None = Field(default=None, description="Parameters outside the layers.")
    dtype: str | None = Field(default=None, description="Dtype of the weights.")
    known_from: FactsOrigin | None = Field(default=None, description="Origin of the parameters.")

    @classmethod
    def of(cls, facts: SourceFacts | None) -> Self:
        """Figures of a source."""
        if facts is None:
            return cls()
        layer, total, sizes = facts.layer_parameters, facts.parameters, facts.config.sizes
        each = sizes.layers if layer is None and sizes is not None else None
        in_layers = sum(each) if each is not None else (layer or 0) * facts.config.n_layers
        return cls(
            n_layers=facts.config.n_layers,
            layer=layer,
            each=each,
            rest=None if (layer is None and each is None) or total is None else total - in_layers,
            dtype=None if facts.config.quantization else facts.dtype or facts.config.dtype,
            known_from=facts.known_from,
        )

    @property
    def parameters(self) -> int | None:
        """Number of parameters, or None."""
        if self.each is not None and self.rest is not None:
            return sum(self.each) + self.rest
        if self.n_layers is None or self.layer is None or self.rest is None:
            return None
        return self.n_layers * self.layer + self.rest

    @property
    def size_bytes(self) -> int | None:
        """Size in bytes, or None."""
        width = WIDTH_BYTES.get(self.dtype or "")
        return None if width is None or self.parameters is None else self.parameters * width


def stage_outputs(stages: tuple[Stage, ...], sources: Mapping[str, Weights]) -> tuple[Weights, ...]:
    """Figures of the output of each stage."""
    by_name = dict(sources)
    layers = {name: weights.n_layers for name, weights in by_name.items() if weights.n_layers is not None}
    results: list[Weights] = []
    for stage, n_layers in zip(stages, stage_layers(stages, layers), strict=True):
        inputs = [by_name.get(str(ref.source), Weights()) for ref in stage.refs()]
        first = by_name.get(str(_config_source(stage).source), Weights())
        layer = {weights.layer for weights in inputs}
        origins = [weights.known_from for weights in inputs if weights.known_from]
        written = Weights(
            n_layers=n_layers,
            layer=first.layer if len(layer) == 1 else None,
            each=_copied(stage, by_name),
            rest=first.rest,
            dtype=stage.out_dtype or stage.dtype or first.dtype,
            known_from=max(origins, key=_BY_PRECISION.index, default=None),
        )
        results.append(written)
        by_name[stage.name or ""] = written
    return tuple(results)


def estimate_stage(stage: Stage, written: Weights, weights_by_name: Mapping[str, Weights]) -> StagePreflight:
    """Preflight of one stage, with estimates of size and memory."""
    inputs = {str(ref.source): weights_by_name.get(str(ref.source), Weights()) for ref in stage.refs()}
    copies_bytes = is_copy(stage) and all(
        weights.dtype in (None, written.dtype) for weights in inputs.values()
    )
    return StagePreflight(
        name=stage.name or "result",
        method=stage.method,
        n_layers=written.n_layers,
        parameters=written.parameters,
        dtype=written.dtype,
        size_bytes=written.size_bytes,
        moves_bytes=copies_bytes,
        memory_bytes=_MOVING_BYTES if copies_bytes else _merge_memory(stage, written, list(inputs.values())),
    )


def _copied(stage: Stage, by_name: Mapping[str, Weights]) -> tuple[int, ...] | None:
    """Parameters of each layer of a stage that copies layers which differ; None for others, or if they are unknown."""
    if not is_copy(stage) or not stage.modules[0].slices:
        return None
    counts: list[int] = []
    for group in stage.modules[0].slices:
        source = by_name.get(str(group.inputs[0].model.source), Weights())
        if source.each is None or group.inputs[0].layers is None:
            return None
        start, end = group.inputs[0].layers
        counts += source.each[start:end]
    return tuple(counts)


def _config_source(stage: Stage) -> ModelRef:
    """The checkpoint that gives the output its embedding and config."""
    return stage.base or stage.modules[0].groups()[0].inputs[0].model


def _merge_memory(stage: Stage, written: Weights, inputs: list[Weights]) -> int | None:
    """Memory of a merge: the current shard and its copy, one mapped file per source, and the largest tensor."""
    sizes = [weights.size_bytes for weights in inputs]
    if written.size_bytes is None or None in sizes:
        return None
    mapped_bytes = sum(min(size, SHARD_BYTES) for size in sizes if size is not None)
    shard_bytes = (
        written.size_bytes if stage.method == "passthrough" else 2 * min(written.size_bytes, SHARD_BYTES)
    )
    tensor_bytes = (written.rest or 0) // 2 * 4 * (len(inputs) + 2)
    return _MERGEKIT_BYTES + mapped_bytes + shard_bytes + tensor_bytes
