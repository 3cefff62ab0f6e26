"""Live merges: the tensors of a recipe, bit for bit those of its build, without files."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from recipes.checkpoint import Checkpoint
from recipes.config_facts import ConfigFacts, read_config
from recipes.errors import BuildError
from recipes.merge.kept import bytes_to_keep, kept
from recipes.merge.mergekit_tensors import NamedTensors, dtype_name, stage_tensors
from recipes.merge.mergekit_worker import MergeRequest
from recipes.merge.source_pool import SourcePool, TensorLoader
from recipes.merge.stage_inputs import StageInputs, write_settings
from recipes.merge.vocabulary import keeps_vocabulary
from recipes.recipe import Recipe, Stage
from recipes.relayer import SHARD_BYTES, copied_tensors, passthrough_config, write_json
from recipes.tensor_file import Frozen, Tensor

if TYPE_CHECKING:
    import torch


class MergedWeights(Frozen):
    """The weights of a recipe's result. A plain value: every worker of an engine gets a copy and computes the tensors itself."""

    recipe: str = Field(description="The recipe's canonical text.")
    digest: str = Field(description="Digest of the recipe over its sources' weights; names the result.")
    sources: tuple[tuple[str, Path], ...] = Field(description="Sources by name, with their directories.")
    seed: int = Field(default=0, description="Seed of merge methods that draw random numbers.")
    trust_remote_code: bool = Field(default=False, description="Whether code from a source may run.")
    keep_bytes: int | None = Field(
        default=None,
        description="Memory in each process for what the next merges need again, in bytes; null is a share of the machine's.",
    )

    def tensors(self) -> NamedTensors:
        """Names and tensors on the CPU, computed one by one while iterated. Raises BuildError and CheckpointError.

        Tensors may be views of mapped files: copy them before you change them. Results of earlier stages stay in memory until
        the last one is done. One iteration at a time per process.
        """
        return _Merge(self).tensors()


class StoredWeights(Frozen):
    """The weights of a checkpoint's files. A plain value, as MergedWeights."""

    directory: Path = Field(description="Directory of the checkpoint.")
    digest: str = Field(description="Names the weights.")

    def tensors(self) -> NamedTensors:
        """Names and tensors on the CPU, which are views of mapped files. Raises BuildError and CheckpointError."""
        loader = pool().loader(self.directory)
        for name in loader.index.tensor_paths:
            tensor = loader.get_tensor(name)
            assert tensor is not None  # a missing name raises
            yield name, tensor


class _Merge:
    """State of one iteration: the inputs of its stages and the results of finished ones."""

    def __init__(self, weights: MergedWeights) -> None:
        self._weights = weights
        recipe = Recipe.parse(weights.recipe, origin=f"recipe {weights.digest}")
        if recipe.adapters:
            raise BuildError(f"Recipe {weights.digest} merges LoRA adapters, which needs files: build it.")
        self._inputs = StageInputs(recipe, dict(weights.sources), allow_pickles=False)
        self._results: dict[Path, dict[str, torch.Tensor]] = {}

    def tensors(self) -> NamedTensors:
        """The tensors of the last stage."""
        kept().begin(bytes_to_keep(self._weights.keep_bytes))
        *earlier, last = self._inputs.recipe.ordered
        if not earlier:
            yield from self._stage(last, None)
            return
        with tempfile.TemporaryDirectory(prefix="mergeboard-merge-") as scratch:
            for number, stage in enumerate(earlier, 1):
                self._keep(stage, Path(scratch) / f"stage-{number}")
            yield from self._stage(last, None)

    def _keep(self, stage: Stage, directory: Path) -> None:
        """Compute a stage, keep its tensors, and register it as a source: `directory` holds its config alone."""
        directory.mkdir()
        # Mapped tensors cost no memory; the others must not share memory that a later task reuses.
        result = dict(self._stage(stage, directory))
        self._results[directory] = result
        config = read_config(directory / "config.json")
        self._inputs.register(
            stage,
            directory,
            Checkpoint(
                directory=directory,
                config=ConfigFacts.from_config(config, str(directory / "config.json")),
                tensors=tuple(_record(name, tensor) for name, tensor in result.items()),
                has_chat_template=False,
            ),
        )

    def _stage(self, stage: Stage, directory: Path | None) -> NamedTensors:
        """The tensors of a stage; its config is written to `directory`, if one is given."""
        if self._inputs.is_byte_copy(stage):
            return self._copies(stage, directory)
        return self._computed(stage, directory)

    def _copies(self, stage: Stage, directory: Path | None) -> NamedTensors:
        copied = self._inputs.copied_layers(stage)
        checkpoints = {self._inputs.directory(ref): self._inputs.checkpoint(ref) for ref in stage.refs()}
        if directory is not None:
            dtype = stage.out_dtype or stage.dtype
            write_json(
                directory / "config.json",
                passthrough_config(copied.ranges, checkpoints, copied.config_from, dtype),
            )
        for name, source, source_name in copied_tensors(
            copied.ranges, checkpoints, embed_from=copied.embed_from, head_from=copied.head_from
        ):
            tensor = self._loader(source).get_tensor(source_name)
            assert tensor is not None  # a missing name raises
            yield name, tensor

    def _computed(self, stage: Stage, directory: Path | None) -> NamedTensors:
        settings = self._inputs.layer_settings(stage)
        if stage.tokenizer is not None and self._keeps_vocabulary(stage):
            stage = stage.model_copy(update={"tokenizer": None})
        request = MergeRequest(
            document=self._inputs.document(stage),
            layer_settings=settings,
            out=str(directory or ""),
            scratch="",
            seed=self._weights.seed,
            shard_bytes=SHARD_BYTES,
            trust_remote_code=self._weights.trust_remote_code,
        )
        directories = {self._inputs.directory(ref) for ref in stage.refs()}
        loaders = {str(path): self._loader(path) for path in directories}
        yield from stage_tensors(request, loaders, random=stage.method_spec.random)
        if directory is not None:
            write_settings(directory / "config.json", settings)

    def _keeps_vocabulary(self, stage: Stage) -> bool:
        """Whether the stage's tokenizer moves no row of an embedding; mergekit would copy every row in Python."""
        checkpoints = {self._inputs.directory(ref): self._inputs.checkpoint(ref) for ref in stage.refs()}
        sizes = {path: checkpoint.config.vocab_size for path, checkpoint in checkpoints.items()}
        dtypes = [tensor.dtype for checkpoint in checkpoints.values() for tensor in checkpoint.tensors]
        return keeps_vocabulary(stage, sizes, dtypes)

    def _loader(self, directory: Path) -> TensorLoader:
        result = self._results.get(directory)
        return pool().loader(directory) if result is None else TensorLoader.of_memory(result)


@functools.cache
def pool() -> SourcePool:
    """The open source checkpoints of this process."""
    return SourcePool()


def _record(name: str, tensor: torch.Tensor) -> Tensor:
    """A tensor in memory as a file's header would describe it, without a place."""
    size = tensor.numel() * tensor.element_size()
    return Tensor(
        name=name, dtype=dtype_name(tensor), shape=tuple(tensor.shape), file="", start=0, size_bytes=size
    )
