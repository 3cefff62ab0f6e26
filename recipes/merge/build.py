"""A recipe, stage by stage, into one checkpoint directory."""

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
from recipes.recipe.filters import missing_value
from recipes.recipe.normal import document
from recipes.relayer import SHARD_BYTES, CopyProgress, LayerRange, why_not_bytes, write_passthrough
from recipes.tensor_file import DTYPE_BITS, Frozen

_WORK = ".stages"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_WIDTH_BITS = {"bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}


class BuildOptions(Frozen):
    """How to build; of these only the seed affects what comes out, and only for random methods."""

    seed: int = Field(default=0, description="Seed of the random methods.")
    shard_bytes: int = Field(default=SHARD_BYTES, ge=1, description="Largest file of weights.")
    allow_pickles: bool = Field(
        default=False, description="Whether pickled sources are read, which can run code."
    )
    trust_remote_code: bool = Field(default=False, description="Whether code from a checkpoint may run.")
    threads: int | None = Field(
        default=None, ge=1, description="Threads of mergekit; null is what the machine has."
    )


class BuildProgress(Frozen):
    """How far a build is, over all of its stages."""

    stage: str = Field(description="The stage that is being built.")
    done_bytes: int = Field(description="Bytes of weights that are made.")
    total_bytes: int = Field(description="Bytes of weights that will be made, stages in between included.")


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
    """Write the checkpoint of a recipe into the directory `out`, which is new or empty.

    `sources` has the directory of every source under its text, or its name alone. Whoever builds several recipes
    passes one `mergekit` to all. When this fails, `out` is left as it was found.
    """
    options = options or BuildOptions()
    existed = out.exists()
    if existed and (not out.is_dir() or any(out.iterdir())):
        raise BuildError(f"{out} is there already and not empty: choose a new directory.")
    try:
        (out / _WORK).mkdir(parents=True)
        builder = _Builder(recipe, sources, out, options, on_progress)
        with contextlib.nullcontext(mergekit) if mergekit else MergekitProcess(options.threads) as process:
            builder.run(process)
        shutil.rmtree(out / _WORK)
    except OSError as error:
        _clear(out, existed)
        raise BuildError(
            f"{out} could not be written ({error.strerror or error}): make room or choose another place."
        ) from error
    except BaseException:
        _clear(out, existed)
        raise


def _clear(out: Path, existed: bool) -> None:
    if existed:
        for entry in out.iterdir():
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
    else:
        shutil.rmtree(out, ignore_errors=True)


class _Size(NamedTuple):
    """Bytes of one layer and of everything else, and the bits of one element."""

    layer: int
    rest: int
    bits: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        layer = sum(tensor.size_bytes for tensor in checkpoint.layer_tensors(0))
        rest = sum(tensor.size_bytes for tensor in checkpoint.other_tensors)
        return cls(layer, rest, DTYPE_BITS[checkpoint.tensors[0].dtype] if checkpoint.tensors else 0)

    def as_dtype(self, dtype: str | None) -> _Size:
        wanted = _WIDTH_BITS.get(dtype or "")
        if not wanted or not self.bits:
            return self
        return _Size(self.layer * wanted // self.bits, self.rest * wanted // self.bits, wanted)


class _Builder:
    """One build: the directories of its sources and stages, and how far it is."""

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
        self._places = {str(source): _place(source, sources) for source in recipe.sources}
        adapters = set(map(str, recipe.adapters))
        self._checkpoints = {
            name: Checkpoint.open(path, allow_pickles=options.allow_pickles)
            for name, path in self._places.items()
            if name not in adapters
        }
        for name in adapters:
            _check_adapter(self._places[name], options)
        self._layers = {name: one.n_layers for name, one in self._checkpoints.items()}
        self._recipe = recipe.resolved(self._layers)
        self._expected = self._expected_bytes()
        self._done_bytes = 0

    def run(self, mergekit: MergekitProcess) -> None:
        """Build every stage; the last one into the output itself."""
        stages = self._recipe.ordered
        for number, stage in enumerate(stages, 1):
            name = stage.name or "the result"
            last = number == len(stages)
            place = self._out if last else self._out / _WORK / f"stage-{number}"
            self._stage(stage, place, mergekit, name)
            self._done_bytes += self._expected[number - 1]
            if not last:
                self._keep(stage, place)
            self._tell(name, 0)

    def _stage(self, stage: Stage, place: Path, mergekit: MergekitProcess, name: str) -> None:
        checkpoints = [self._checkpoint(ref) for ref in stage.refs()]
        if is_copy(stage) and why_not_bytes(checkpoints, stage.dtype, stage.out_dtype) is None:
            self._copy(stage, place, name)
        else:
            self._compute(stage, place, mergekit, name)

    def _copy(self, stage: Stage, place: Path, name: str) -> None:
        groups = stage.modules[0].groups()
        first, last = groups[0].inputs[0].model, groups[-1].inputs[0].model
        pieces = [
            LayerRange(source=self._directory(one.model), start=start, end=end)
            for one in (group.inputs[0] for group in groups)
            for start, end in [one.layers or (0, self._checkpoint(one.model).n_layers)]
        ]

        def tell(progress: CopyProgress) -> None:
            self._tell(name, progress.done_bytes)

        write_passthrough(
            pieces,
            place,
            embed_from=self._directory(first),
            head_from=self._directory(last),
            config_from=self._directory(stage.base or first),
            dtype=stage.out_dtype or stage.dtype,
            shard_bytes=self._options.shard_bytes,
            on_progress=tell,
        )

    def _compute(self, stage: Stage, place: Path, mergekit: MergekitProcess, name: str) -> None:
        lacking = missing_value(
            stage, [tensor.name for tensor in self._checkpoint(next(stage.refs())).tensors]
        )
        if lacking:
            raise BuildError(lacking)
        donor = self._directory(stage.base or next(stage.refs()))
        settings = _layer_settings(self._origins(stage), donor)
        request = MergeRequest(
            document=document(stage.model_copy(update={"name": None}), self._encode),
            layer_settings=settings,
            out=str(place),
            scratch=str(self._out / _WORK / "adapters"),
            seed=self._options.seed,
            shard_bytes=self._options.shard_bytes,
            trust_remote_code=self._options.trust_remote_code,
        )
        mergekit.merge(request, name, lambda count: self._tell(name, count))
        if not any((place / file).exists() for file in _TOKENIZER_FILES) and any(
            (donor / file).exists() for file in _TOKENIZER_FILES
        ):
            raise BuildError(
                f"mergekit built {name} without a tokenizer, although {donor} has one: check that one."
            )
        _write_settings(place / "config.json", settings)

    def _origins(self, stage: Stage) -> list[tuple[Path, int]]:
        """For each output layer the checkpoint and layer whose kind it has: the base's, or the first input's."""
        origins: list[tuple[Path, int]] = []
        for group in stage.modules[0].slices if len(stage.modules) == 1 else ():
            base = group.base or stage.base
            chosen = next((one for one in group.inputs if one.model == base), group.inputs[0])
            origins += [(self._directory(chosen.model), layer) for layer in range(*(chosen.layers or (0, 0)))]
        return origins

    def _encode(self, ref: ModelRef) -> dict[str, Any]:
        lora = {"path": str(self._places[str(ref.adapter)])} if ref.adapter else None
        model = {"path": str(self._directory(ref))}
        return {"model": model, "lora": lora, "override_architecture": ref.architecture}

    def _directory(self, ref: ModelRef) -> Path:
        return self._places[str(ref.source)]

    def _checkpoint(self, ref: ModelRef) -> Checkpoint:
        return self._checkpoints[str(ref.source)]

    def _keep(self, stage: Stage, place: Path) -> None:
        """Make the stage known to those after it."""
        assert stage.name is not None
        self._places[stage.name] = place
        self._checkpoints[stage.name] = Checkpoint.open(place)

    def _expected_bytes(self) -> list[int]:
        """About as many bytes as each stage will write; 0 where that cannot be known."""
        sizes = {name: _Size.of(checkpoint) for name, checkpoint in self._checkpoints.items()}
        depths = stage_layers(self._recipe.ordered, self._layers)
        expected = []
        for stage, depth in zip(self._recipe.ordered, depths, strict=True):
            size = sizes[str(next(stage.refs()).source)].as_dtype(stage.out_dtype or stage.dtype)
            sizes[stage.name or ""] = size
            expected.append(size.layer * (depth or 0) + size.rest)
        return expected

    def _tell(self, name: str, stage_bytes: int) -> None:
        if self._on_progress is not None:
            total = max(sum(self._expected), self._done_bytes)
            done = min(self._done_bytes + stage_bytes, total)
            self._on_progress(BuildProgress(stage=name, done_bytes=done, total_bytes=total))


def _place(source: SourceRef, sources: Mapping[str, Path]) -> Path:
    place = sources.get(str(source), sources.get(source.name))
    if place is None:
        raise BuildError(f"No directory is given for the source {source}.")
    return place.absolute()


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
    """What has to change in the donor's config so that settings of single layers follow the layers, but their count."""
    if not origins:
        return {}
    raw = {path: read_config(path / "config.json") for path in {donor, *(path for path, _ in origins)}}
    followed = relayered_config([(raw[path], layer) for path, layer in origins], raw[donor], str(donor))
    before = text_config(raw[donor])
    count = layer_count_key(raw[donor], str(donor))
    return {
        key: value
        for key, value in text_config(followed).items()
        if key != count and before.get(key) != value
    }


def _write_settings(file: Path, settings: dict[str, Any]) -> None:
    """The settings again in the file itself, where transformers may have left some out."""
    if not settings:
        return
    written = read_config(file)
    text = text_config(written)
    nested = next((key for key, value in written.items() if value is text), None)
    changed = {**text, **settings}
    file.write_text(
        json.dumps({**written, nested: changed} if nested else changed, indent=2) + "\n", encoding="utf-8"
    )
