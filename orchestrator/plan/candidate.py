"""A candidate of a plan: the base, or one recipe."""

from __future__ import annotations

from pydantic import Field

from evals.engine import Frozen
from orchestrator.plan.job import BuildJob, CheckpointPlace, LiveMerge
from recipes.layer_visit import Layers
from recipes.origin import MadeFrom
from recipes.sources import SourceFacts


class Candidate(Frozen):
    """One row of the result tables: the base, or one recipe."""

    name: str = Field(description="Name in tables.")
    is_base: bool = Field(default=False, description="Whether the others are compared with this one.")
    place: CheckpointPlace = Field(description="Location of its weights.")
    weights_digest: str = Field(description="Digest of the weights, or of the recipe that makes them.")
    layer_path: Layers | None = Field(
        default=None,
        description="Visits of source layers in order; null if it is not a layer path. A visit that is not whole is a text, "
        "for example `5:attention`.",
    )
    source_layers: int = Field(default=0, description="Layers of the checkpoint that the path refers to.")
    recipe: str | None = Field(default=None, description="Canonical text of its recipe, if it has one.")
    build: BuildJob | None = Field(
        default=None, description="The job that builds its weights, if one is needed."
    )
    live_merge: LiveMerge | None = Field(
        default=None,
        description="The merge, or the built layer path, whose weights the engine of the checkpoint at `place` takes over.",
    )
    built_because: str | None = Field(
        default=None, description="Why a merge is built, if it is not by request; the end of a sentence."
    )
    layers: int | None = Field(default=None, description="Number of layers, if known.")
    parameters: int | None = Field(default=None, description="Number of parameters, if known.")
    quantization: str | None = Field(
        default=None, description="Quantization method of its stored weights; null if they are not quantized."
    )
    stored_bytes: int | None = Field(
        default=None, description="Bytes of its quantized weights; null if unknown or not quantized."
    )
    made_from: tuple[MadeFrom, ...] = Field(
        default=(),
        description="What its weights were made from: sources of its recipe, and what those were built from.",
    )
    remarks: tuple[str, ...] = Field(
        default=(), description="Warnings about its recipe, for example settings without effect."
    )


def quantization_method(facts: SourceFacts) -> str | None:
    """Quantization method of a checkpoint's stored weights; None if they are not quantized."""
    return facts.config.quantized.method if facts.config.quantized else None


def quantized_bytes(facts: SourceFacts, layers: int) -> int | None:
    """Bytes of quantized weights with this many layers; None if unknown or not quantized."""
    return facts.bytes_of(layers) if facts.config.quantized else None
