"""Records of a preflight."""

from __future__ import annotations

from pydantic import Field

from recipes.sources import FactsOrigin, SourceFacts
from recipes.tensor_file import Frozen


class SourcePreflight(Frozen):
    """Preflight of one source."""

    name: str = Field(description="Name of the source in the recipe.")
    facts: SourceFacts | None = Field(
        default=None, description="Facts of the checkpoint; null if none are known."
    )
    problem: str | None = Field(
        default=None, description="Why it cannot be used, and the next step; null if it can."
    )
    unknown: str | None = Field(default=None, description="Which facts are unknown, and why.")
    is_local: bool = Field(default=False, description="Whether the weights are on this machine.")
    is_adapter: bool = Field(default=False, description="Whether it is a LoRA adapter.")


class StagePreflight(Frozen):
    """Preflight of one stage."""

    name: str = Field(description="Name of the stage; 'result' for the last one without a name.")
    method: str = Field(description="Merge method.")
    n_layers: int | None = Field(description="Number of output layers; null if unknown.")
    parameters: int | None = Field(description="Number of output parameters; null if unknown.")
    dtype: str | None = Field(description="Dtype of the output; null if unknown.")
    size_bytes: int | None = Field(description="Size of the output weights in bytes; null if unknown.")
    moves_bytes: bool = Field(description="Whether it is built by copying bytes, without mergekit.")
    memory_bytes: int | None = Field(description="Estimated memory of the build in bytes; null if unknown.")


class Preflight(Frozen):
    """Size of a recipe's result, resources of the build, and compatibility of the sources."""

    stages: tuple[StagePreflight, ...] = Field(
        description="Stages in build order; the last one is the result."
    )
    sources: tuple[SourcePreflight, ...] = Field(description="Sources in the order of first mention.")
    parameters_from: FactsOrigin | None = Field(
        description="Least precise origin of the sources' parameters; null if unknown."
    )
    embedding_parameters: int | None = Field(
        description="Parameters of the result outside the layers; null if unknown."
    )
    layer_parameters: int | None = Field(
        description="Parameters of one layer of the result; null if layers differ or it is unknown."
    )
    disk_bytes: int | None = Field(
        description="Peak disk space of the build in bytes: result, intermediate stages and manifests; null if unknown."
    )
    download_bytes: int | None = Field(description="Bytes of weights to download; null if unknown.")
    problems: tuple[str, ...] = Field(description="Why the recipe cannot be built, one sentence each.")
    remarks: tuple[str, ...] = Field(description="Remarks, one sentence each.")
    unknown: tuple[str, ...] = Field(description="Unknown facts and the reason, one sentence each.")

    @property
    def result(self) -> StagePreflight:
        """Preflight of the last stage."""
        return self.stages[-1]

    @property
    def memory_bytes(self) -> int | None:
        """Estimated peak memory of the build in bytes; None if unknown."""
        sizes = [stage.memory_bytes for stage in self.stages]
        return None if None in sizes else max(size for size in sizes if size is not None)
