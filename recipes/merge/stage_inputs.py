"""What the stages of a recipe read: directories, checkpoints, documents and settings, for builds and for live merges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from recipes.checkpoint import Checkpoint
from recipes.config_facts import layer_count_key, read_config, text_config
from recipes.errors import BuildError, CheckpointError
from recipes.layer_config import relayered_config
from recipes.recipe import ModelRef, Recipe, SourceRef, Stage
from recipes.recipe.depth import is_copy, stage_layers
from recipes.recipe.filters import find_missing_value
from recipes.recipe.normal import document
from recipes.relayer import LayerRange, copy_obstacle
from recipes.tensor_file import DTYPE_BITS

_WIDTH_BITS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}


class StageSize(NamedTuple):
    """Bytes of one layer and of all other tensors, bits per element, and number of layers (0 if unknown)."""

    layer: int
    rest: int
    bits: int
    n_layers: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """The size of a checkpoint."""
        layer = sum(tensor.size_bytes for tensor in checkpoint.layer_tensors(0))
        rest = sum(tensor.size_bytes for tensor in checkpoint.other_tensors)
        bits = DTYPE_BITS[checkpoint.tensors[0].dtype] if checkpoint.tensors else 0
        return cls(layer, rest, bits, checkpoint.n_layers)

    @property
    def total(self) -> int:
        """Size in bytes."""
        return self.layer * self.n_layers + self.rest

    def as_dtype(self, dtype: str | None) -> StageSize:
        """The size with elements of this dtype; None keeps the dtype."""
        bits = _WIDTH_BITS.get(dtype or "")
        if not bits or not self.bits:
            return self
        return StageSize(self.layer * bits // self.bits, self.rest * bits // self.bits, bits, self.n_layers)


def stage_sizes(recipe: Recipe, sources: Mapping[str, StageSize]) -> list[StageSize]:
    """Estimated size of each stage's result, in build order; `sources` maps names of sources to their sizes."""
    sizes = dict(sources)
    layers = {name: size.n_layers for name, size in sources.items()}
    recipe = recipe.resolved(layers)
    expected = []
    for stage, depth in zip(recipe.ordered, stage_layers(recipe.ordered, layers), strict=True):
        size = sizes[str(next(stage.refs()).source)].as_dtype(stage.out_dtype or stage.dtype)
        size = size._replace(n_layers=depth or 0)
        sizes[stage.name or ""] = size
        expected.append(size)
    return expected


class CopiedLayers(NamedTuple):
    """What a stage that only copies layers copies, as the arguments of `recipes.relayer.write_passthrough`."""

    ranges: tuple[LayerRange, ...]
    embed_from: Path
    head_from: Path
    config_from: Path


class StageInputs:
    """Directories and checkpoints of a recipe's sources and of its finished stages. Raises BuildError and CheckpointError."""

    def __init__(self, recipe: Recipe, sources: Mapping[str, Path], *, allow_pickles: bool) -> None:
        self._directories = {str(source): _source_directory(source, sources) for source in recipe.sources}
        adapters = set(map(str, recipe.adapters))
        self.checkpoints = {
            name: Checkpoint.open(path, allow_pickles=allow_pickles)
            for name, path in self._directories.items()
            if name not in adapters
        }
        for name in adapters:
            _check_adapter(self._directories[name], allow_pickles)
        layers = {name: checkpoint.n_layers for name, checkpoint in self.checkpoints.items()}
        self.recipe = recipe.resolved(layers)

    def directory(self, ref: ModelRef) -> Path:
        """Directory of a source or finished stage."""
        return self._directories[str(ref.source)]

    def checkpoint(self, ref: ModelRef) -> Checkpoint:
        """A source or finished stage."""
        return self.checkpoints[str(ref.source)]

    def donor(self, stage: Stage) -> Path:
        """Directory of the checkpoint that gives config and tokenizer to the stage's result."""
        return self.directory(stage.base or next(stage.refs()))

    def register(self, stage: Stage, directory: Path, checkpoint: Checkpoint) -> None:
        """Register a finished stage as a source of later stages."""
        assert stage.name is not None
        self._directories[stage.name] = directory
        self.checkpoints[stage.name] = checkpoint

    def is_byte_copy(self, stage: Stage) -> bool:
        """Whether the stage copies layers without changing a byte, so that mergekit is not needed."""
        checkpoints = [self.checkpoint(ref) for ref in stage.refs()]
        return is_copy(stage) and copy_obstacle(checkpoints, stage.dtype, stage.out_dtype) is None

    def copied_layers(self, stage: Stage) -> CopiedLayers:
        """What a stage with `is_byte_copy` copies."""
        groups = stage.modules[0].groups()
        first_model, last_model = groups[0].inputs[0].model, groups[-1].inputs[0].model
        ranges = tuple(
            LayerRange(source=self.directory(input_.model), start=start, end=end)
            for input_ in (group.inputs[0] for group in groups)
            for start, end in [input_.layers or (0, self.checkpoint(input_.model).n_layers)]
        )
        return CopiedLayers(
            ranges,
            self.directory(first_model),
            self.directory(last_model),
            self.directory(stage.base or first_model),
        )

    def document(self, stage: Stage) -> dict[str, Any]:
        """The stage's mergekit document, with every model as a directory."""
        names = [tensor.name for tensor in self.checkpoint(next(stage.refs())).tensors]
        problem = find_missing_value(stage, names)
        if problem:
            raise BuildError(problem)
        return document(stage.model_copy(update={"name": None}), self._encode)

    def layer_settings(self, stage: Stage) -> dict[str, Any]:
        """Per-layer settings of the result's config that differ from the donor's."""
        return _layer_settings(self._origins(stage), self.donor(stage))

    def _origins(self, stage: Stage) -> list[tuple[Path, int]]:
        """Source checkpoint and layer of each output layer, whose per-layer settings it keeps: of the base or first input."""
        origins: list[tuple[Path, int]] = []
        for group in stage.modules[0].slices if len(stage.modules) == 1 else ():
            base = group.base or stage.base
            input_ = next(
                (candidate for candidate in group.inputs if candidate.model == base), group.inputs[0]
            )
            origins += [(self.directory(input_.model), layer) for layer in range(*(input_.layers or (0, 0)))]
        return origins

    def _encode(self, ref: ModelRef) -> dict[str, Any]:
        lora = {"path": str(self._directories[str(ref.adapter)])} if ref.adapter else None
        model = {"path": str(self.directory(ref))}
        return {"model": model, "lora": lora, "override_architecture": ref.architecture}


def write_settings(file: Path, settings: dict[str, Any]) -> None:
    """Write per-layer settings to config.json: transformers may have dropped some."""
    if not settings:
        return
    config = read_config(file)
    text = text_config(config)
    nested = next((key for key, value in config.items() if value is text), None)
    new_text = {**text, **settings}
    file.write_text(
        json.dumps({**config, nested: new_text} if nested else new_text, indent=2) + "\n", encoding="utf-8"
    )


def _source_directory(source: SourceRef, sources: Mapping[str, Path]) -> Path:
    directory = sources.get(str(source), sources.get(source.name))
    if directory is None:
        raise BuildError(f"No directory is given for the source {source}: add it to `sources`.")
    return directory.absolute()


def _check_adapter(path: Path, allow_pickles: bool) -> None:
    if not (path / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{path} is not a LoRA adapter (no adapter_config.json): check the path after the +."
        )
    if not allow_pickles and not (path / "adapter_model.safetensors").is_file():
        raise CheckpointError(
            f"{path} has no adapter_model.safetensors: use a safetensors copy, or allow pickles by name."
        )


def _layer_settings(origins: Sequence[tuple[Path, int]], donor: Path) -> dict[str, Any]:
    """Changed per-layer settings relative to the config of `donor`, without the layer count."""
    if not origins:
        return {}
    configs = {path: read_config(path / "config.json") for path in {donor, *(path for path, _ in origins)}}
    output_config = relayered_config(
        [(configs[path], layer) for path, layer in origins], configs[donor], str(donor)
    )
    donor_config = text_config(configs[donor])
    count_key = layer_count_key(configs[donor], str(donor))
    return {
        key: value
        for key, value in text_config(output_config).items()
        if key != count_key and donor_config.get(key) != value
    }
