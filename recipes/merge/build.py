"""Builds a recipe, stage by stage, into one checkpoint directory."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field

from recipes.checkpoint import Checkpoint
from recipes.errors import BuildError
from recipes.merge.mergekit_worker import MergeRequest
from recipes.merge.process import MergekitProcess
from recipes.merge.stage_inputs import StageInputs, StageSize, stage_sizes, write_settings
from recipes.recipe import Recipe, Stage
from recipes.relayer import SHARD_BYTES, CopyProgress, write_passthrough
from recipes.tensor_file import Frozen

_WORK = ".stages"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


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
        self._inputs = StageInputs(recipe, sources, allow_pickles=options.allow_pickles)
        sizes = {name: StageSize.of(checkpoint) for name, checkpoint in self._inputs.checkpoints.items()}
        self._expected = [size.total for size in stage_sizes(recipe, sizes)]
        self._done_bytes = 0

    def run(self, mergekit: MergekitProcess) -> None:
        """Build all stages; the last one directly into the output directory."""
        stages = self._inputs.recipe.ordered
        for number, stage in enumerate(stages, 1):
            name = stage.name or "the result"
            last = number == len(stages)
            directory = self._out if last else self._out / _WORK / f"stage-{number}"
            self._build_stage(stage, directory, mergekit, name)
            self._done_bytes += self._expected[number - 1]
            if not last:
                self._inputs.register(stage, directory, Checkpoint.open(directory))
            self._report(name, 0)

    def _build_stage(self, stage: Stage, directory: Path, mergekit: MergekitProcess, name: str) -> None:
        if self._inputs.is_byte_copy(stage):
            self._copy_layers(stage, directory, name)
        else:
            self._run_mergekit(stage, directory, mergekit, name)

    def _copy_layers(self, stage: Stage, directory: Path, name: str) -> None:
        def report(progress: CopyProgress) -> None:
            self._report(name, progress.done_bytes)

        copied = self._inputs.copied_layers(stage)
        write_passthrough(
            copied.ranges,
            directory,
            embed_from=copied.embed_from,
            head_from=copied.head_from,
            config_from=copied.config_from,
            dtype=stage.out_dtype or stage.dtype,
            shard_bytes=self._options.shard_bytes,
            on_progress=report,
        )

    def _run_mergekit(self, stage: Stage, directory: Path, mergekit: MergekitProcess, name: str) -> None:
        document = self._inputs.document(stage)
        donor = self._inputs.donor(stage)
        settings = self._inputs.layer_settings(stage)
        request = MergeRequest(
            document=document,
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
        write_settings(directory / "config.json", settings)

    def _report(self, name: str, stage_bytes: int) -> None:
        if self._on_progress is not None:
            total = max(sum(self._expected), self._done_bytes)
            done = min(self._done_bytes + stage_bytes, total)
            self._on_progress(BuildProgress(stage=name, done_bytes=done, total_bytes=total))
