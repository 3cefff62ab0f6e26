"""Builds a recipe, stage by stage, into one checkpoint directory."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import Field

from recipes.checkpoint import Checkpoint
from recipes.config_facts import layer_count_key, read_config, text_config
from recipes.errors import BuildError, CheckpointError
from recipes.layer_config import relayered_config
from recipes.merge.mergekit_worker import MergeRequest
from recipes.merge.process import MergekitProcess
from recipes.recipe import ModelRef, Recipe, SourceRef, Stage
from recipes.recipe.depth import is_copy, stage_layers
from recipes.recipe.filters import find_missing_value
from recipes.recipe.normal import document
from recipes.relayer import SHARD_BYTES, CopyProgress, LayerRange, copy_obstacle, write_passthrough
from recipes.tensor_file import DTYPE_BITS, Frozen

_WORK = ".stages"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_WIDTH_BITS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}


class BuildOptions(Frozen):
    """Options of a build; only the seed affects the result, and only for random methods."""

    seed: int = Field(default=0, description="Seed of random merge methods.")
    shard_bytes: int = Field(default=SHARD_BYTES, ge=1, description="Maximum size of a weight file in bytes.")
    allow_pickles: bool = Field(
        default=False, description="Whether pickled weights are read; loading them can run code."
    )
    trust_remote_code: bool = Field(default=False, description="Whether code from a checkpoint may run.")
    threads: int | None = Field(
        default=None, ge=1, description="Number of threads for mergekit; null is one per core."
    )


class BuildProgress(Frozen):
    """Progress of a build over all stages."""

    stage: str = Field(description="Name of the current stage.")
    done_bytes: int = Field(description="Bytes of weights written so far.")
    total_bytes: int = Field(description="Bytes of weights to write in total, intermediate stages included.")


OnProgress = Callable[[BuildProgress], None]


def build(
    recipe: Recipe,
    sources: Mapping[str, Path],
    out: Path,
    *,
    options: BuildOptions | None = None,
    on_progress: OnProgress | None = None,
    mergekit: MergekitProcess | None = None,
) -> None:
    """Write the checkpoint of a recipe to the directory `out`, which must be new or empty.

    `sources` maps each source, as text or by its name alone, to its directory. Pass the same `mergekit` to several builds
    to reuse its process. Raises BuildError and CheckpointError; on failure `out` is restored.
    """
    options = options or BuildOptions()
    out_existed = out.exists()
    if out_existed and (not out.is_dir() or any(out.iterdir())):
        raise BuildError(f"{out} exists and is not empty: choose a new directory.")
    try:
        (out / _WORK).mkdir(parents=True)
        builder = _Builder(recipe, sources, out, options, on_progress)
        with contextlib.nullcontext(mergekit) if mergekit else MergekitProcess(options.threads) as process:
            builder.run(process)
        shutil.rmtree(out / _WORK)
    except OSError as error:
        _restore(out, out_existed)
        raise BuildError(
            f"{out} could not be written ({error.strerror or error}): free space or choose another directory."
        ) from error
    except BaseException:
        _restore(out, out_existed)
        raise


def _restore(out: Path, out_existed: bool) -> None:
    if out_existed:
        for entry in out.iterdir():
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    else:
        shutil.rmtree(out, ignore_errors=True)


class _Size(NamedTuple):
    """Bytes of one layer and of all other tensors, and bits per element."""

    layer: int
    rest: int
    bits: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        layer = sum(tensor.size_bytes for tensor in checkpoint.layer_tensors(0))
        rest = sum(tensor.size_bytes for tensor in checkpoint.other_tensors)
        return cls(layer, rest, DTYPE_BITS[checkpoint.tensors[0].dtype] if checkpoint.tensors else 0)

    def as_dtype(self, dtype: str | None) -> _Size:
        bits = _WIDTH_BITS.get(dtype or "")
        if not bits or not self.bits:
            return self
        return _Size(self.layer * bits // self.bits, self.rest * bits // self.bits, bits)


class _Builder:
    """State of one build: directories of sources and finished stages, and progress."""

    def __init__(
        self,
        recipe: Recipe,
        sources: Mapping[str, Path],
        out: Path,
        options: BuildOptions,
        on_progress: OnProgress | None,
    ) -> None:
        self._options = options
        self._out = out
        self._on_progress = on_progress
        self._directories = {str(source): _source_directory(source, sources) for source in recipe.sources}
        adapters = set(map(str, recipe.adapters))
        self._checkpoints = {
            name: Checkpoint.open(path, allow_pickles=options.allow_pickles)
            for name, path in self._directories.items()
            if name not in adapters
        }
        for name in adapters:
            _check_adapter(self._directories[name], options)
        self._layers = {name: checkpoint.n_layers for name, checkpoint in self._checkpoints.items()}
        self._recipe = recipe.resolved(self._layers)
        self._expected = self._expected_bytes()
        self._done_bytes = 0

    def run(self, mergekit: MergekitProcess) -> None:
        """Build all stages; the last one directly into the output directory."""
        stages = self._recipe.ordered
        for number, stage in enumerate(stages, 1):
            name = stage.name or "the result"
            last = number == len(stages)
            directory = self._out if last else self._out / _WORK / f"stage-{number}"
            self._build_stage(stage, directory, mergekit, name)
            self._done_bytes += self._expected[number - 1]
            if not last:
                self._register(stage, directory)
            self._report(name, 0)

    def _build_stage(self, stage: Stage, directory: Path, mergekit: MergekitProcess, name: str) -> None:
        checkpoints = [self._checkpoint(ref) for ref in stage.refs()]
        if is_copy(stage) and copy_obstacle(checkpoints, stage.dtype, stage.out_dtype) is None:
            self._copy_layers(stage, directory, name)
        else:
            self._run_mergekit(stage, directory, mergekit, name)

    def _copy_layers(self, stage: Stage, directory: Path, name: str) -> None:
        groups = stage.modules[0].groups()
        first_model, last_model = groups[0].inputs[0].model, groups[-1].inputs[0].model
        ranges = [
            LayerRange(source=self._directory(input_.model), start=start, end=end)
            for input_ in (group.inputs[0] for group in groups)
            for start, end in [input_.layers or (0, self._checkpoint(input_.model).n_layers)]
        ]

        def report(progress: CopyProgress) -> None:
            self._report(name, progress.done_bytes)

        write_passthrough(
            ranges,
            directory,
            embed_from=self._directory(first_model),
            head_from=self._directory(last_model),
            config_from=self._directory(stage.base or first_model),
            dtype=stage.out_dtype or stage.dtype,
            shard_bytes=self._options.shard_bytes,
            on_progress=report,
        )

    def _run_mergekit(self, stage: Stage, directory: Path, mergekit: MergekitProcess, name: str) -> None:
        problem = find_missing_value(
            stage, [tensor.name for tensor in self._checkpoint(next(stage.refs())).tensors]
        )
        if problem:
            raise BuildError(problem)
        donor = self._directory(stage.base or next(stage.refs()))
        settings = _layer_settings(self._origins(stage), donor)
        request = MergeRequest(
            document=document(stage.model_copy(update={"name": None}), self._encode),
            layer_settings=settings,
            out=str(directory),
            scratch=str(self._out / _WORK / "adapters"),
            seed=self._options.seed,
            shard_bytes=self._options.shard_bytes,
            trust_remote_code=self._options.trust_remote_code,
        )
        mergekit.merge(request, name, lambda count: self._report(name, count))
        if not any((directory / file).exists() for file in _TOKENIZER_FILES) and any(
            (donor / file).exists() for file in _TOKENIZER_FILES
        ):
            raise BuildError(
                f"mergekit built {name} without a tokenizer, although {donor} has one: check the tokenizer files there."
            )
        _write_settings(directory / "config.json", settings)

    def _origins(self, stage: Stage) -> list[tuple[Path, int]]:
        """Source checkpoint and layer of each output layer, whose per-layer settings it keeps: of the base or first input."""
        origins: list[tuple[Path, int]] = []
        for group in stage.modules[0].slices if len(stage.modules) == 1 else ():
            base = group.base or stage.base
            input_ = next(
                (candidate for candidate in group.inputs if candidate.model == base), group.inputs[0]
            )
            origins += [(self._directory(input_.model), layer) for layer in range(*(input_.layers or (0, 0)))]
        return origins

    def _encode(self, ref: ModelRef) -> dict[str, Any]:
        lora = {"path": str(self._directories[str(ref.adapter)])} if ref.adapter else None
        model = {"path": str(self._directory(ref))}
        return {"model": model, "lora": lora, "override_architecture": ref.architecture}

    def _directory(self, ref: ModelRef) -> Path:
        return self._directories[str(ref.source)]

    def _checkpoint(self, ref: ModelRef) -> Checkpoint:
        return self._checkpoints[str(ref.source)]

    def _register(self, stage: Stage, directory: Path) -> None:
        """Register a finished stage as a source of later stages."""
        assert stage.name is not None
        self._directories[stage.name] = directory
        self._checkpoints[stage.name] = Checkpoint.open(directory)

    def _expected_bytes(self) -> list[int]:
        """Estimated bytes that each stage writes; 0 if unknown."""
        sizes = {name: _Size.of(checkpoint) for name, checkpoint in self._checkpoints.items()}
        depths = stage_layers(self._recipe.ordered, self._layers)
        expected = []
        for stage, depth in zip(self._recipe.ordered, depths, strict=True):
            size = sizes[str(next(stage.refs()).source)].as_dtype(stage.out_dtype or stage.dtype)
            sizes[stage.name or ""] = size
            expected.append(size.layer * (depth or 0) + size.rest)
        return expected

    def _report(self, name: str, stage_bytes: int) -> None:
        if self._on_progress is not None:
            total = max(sum(self._expected), self._done_bytes)
            done = min(self._done_bytes + stage_bytes, total)
            self._on_progress(BuildProgress(stage=name, done_bytes=done, total_bytes=total))


def _source_directory(source: SourceRef, sources: Mapping[str, Path]) -> Path:
    directory = sources.get(str(source), sources.get(source.name))
    if directory is None:
        raise BuildError(f"No directory is given for the source {source}: add it to `sources`.")
    return directory.absolute()


def _check_adapter(path: Path, options: BuildOptions) -> None:
    if not (path / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{path} is not a LoRA adapter (no adapter_config.json): check the path after the +."
        )
    if not options.allow_pickles and not (path / "adapter_model.safetensors").is_file():
        raise CheckpointError(
            f"{path} has no adapter_model.safetensors: use a safetensors copy, or allow pickles by name."
        )


def _layer_settings(origins: list[tuple[Path, int]], donor: Path) -> dict[str, Any]:
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


def _write_settings(file: Path, settings: dict[str, Any]) -> None:
    """Write the settings to config.json: transformers may have dropped some."""
    if not settings:
        return
    config = read_config(file)
    text = text_config(config)
    nested = next((key for key, value in config.items() if value is text), None)
    new_text = {**text, **settings}
    file.write_text(
        json.dumps({**config, nested: new_text} if nested else new_text, indent=2) + "\n", encoding="utf-8"
    )
