"""The records of a preflight."""

from __future__ import annotations

from pydantic import Field

from recipes.sources import FactsOrigin, SourceFacts
from recipes.tensor_file import Frozen


class SourcePreflight(Frozen):
    """What is known of one source."""

    name: str = Field(description="The source as the recipe names it.")
    facts: SourceFacts | None = Field(
        default=None, description="Its facts; null where nothing is known of it."
    )
    problem: str | None = Field(
        default=None, description="Why it cannot be used, and the step that mends it."
    )
    unknown: str | None = Field(default=None, description="What could not be found out about it, and why.")
    is_local: bool = Field(default=False, description="Whether its weights are on this machine already.")
    is_adapter: bool = Field(default=False, description="Whether it is a LoRA adapter.")


class StagePreflight(Frozen):
    """What is known of one stage."""

    name: str = Field(description="Its name; 'result' for the last one without a name.")
    method: str = Field(description="Its merge method.")
    n_layers: int | None = Field(description="Layers that come out; null where unknown.")
    parameters: int | None = Field(description="Parameters that come out; null where unknown.")
    dtype: str | None = Field(description="Dtype that is written; null where unknown.")
    size_bytes: int | None = Field(description="Bytes of weights that are written; null where unknown.")
    moves_bytes: bool = Field(description="Whether it is built by moving bytes, without mergekit.")
    memory_bytes: int | None = Field(
        description="Estimate of the memory that building takes; null where unknown."
    )


class Preflight(Frozen):
    """What a recipe will give and need, and whether its sources fit."""

    stages: tuple[StagePreflight, ...] = Field(
        description="Its stages in building order; the last is the result."
    )
    sources: tuple[SourcePreflight, ...] = Field(description="Its sources in the order of first mention.")
    parameters_from: FactsOrigin | None = Field(
        description="What the parameters were computed from, the least exact of the sources; null where unknown."
    )
    embedding_parameters: int | None = Field(
        description="Parameters of the result outside its layers; null where unknown."
    )
    layer_parameters: int | None = Field(
        description="Parameters of one layer of the result, where all have the same."
    )
    disk_bytes: int | None = Field(
        description="Disk that building takes at its peak: result, stages between and manifests; null where unknown."
    )
    download_bytes: int | None = Field(
        description="Bytes of weights that must be downloaded first; null where unknown."
    )
    problems: tuple[str, ...] = Field(description="Why the recipe cannot be built, one sentence each.")
    remarks: tuple[str, ...] = Field(description="What one should know, one sentence each.")
    unknown: tuple[str, ...] = Field(
        description="What cannot be known from here, and why, one sentence each."
    )

    @property
    def result(self) -> StagePreflight:
        """The last stage."""
        return self.stages[-1]

    @property
    def memory_bytes(self) -> int | None:
        """Estimate of the memory that building takes at its peak; null where unknown."""
        each = [stage.memory_bytes for stage in self.stages]
        return None if None in each else max(size for size in each if size is not None)

    def disagreement(self, published_parameters_b: float) -> str | None:
        """How a published checkpoint with that many billion parameters differs from this recipe; null if it does not."""
        if (
            self.result.parameters is None
            or abs(self.result.parameters / 1e9 - published_parameters_b) < 0.006
        ):
            return None
        published = f"The published checkpoint has {published_parameters_b:.3f} B parameters"
        if self.layer_parameters and self.embedding_parameters is not None:
            layers = (published_parameters_b * 1e9 - self.embedding_parameters) / self.layer_parameters
            if abs(layers - round(layers)) < 0.02:
                published += f", which is {round(layers)} layers"
        return (
            f"{published}; the described recipe gives {self.result.n_layers} layers and "
            f"{self.result.parameters / 1e9:.3f} B: recipe and published file disagree."
        )
