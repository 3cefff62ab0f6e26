"""Writes layer paths, and passthrough merges without parameters, by copying tensor bytes from file to file.

No torch; memory use is that of the headers.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field

from recipes.byte_copy import CopyProgress, Meter, OnProgress, copy_bytes
from recipes.checkpoint import Checkpoint, layer_tensor_name
from recipes.checkpoint_files import INDEX_NAME, SINGLE_NAME
from recipes.config_facts import read_config
from recipes.errors import BuildError
from recipes.layer_config import layers_differ, relayered_config
from recipes.tensor_file import DTYPE_BITS, Frozen, Tensor, header_bytes

__all__ = [
    "SHARD_BYTES",
    "CopyProgress",
    "LayerRange",
    "copied_tensors",
    "copy_obstacle",
    "passthrough_config",
    "write_json",
    "write_layer_path",
    "write_passthrough",
]

SHARD_BYTES = 5_000_000_000

COPIED_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that are copied to a built checkpoint, besides config and weights."""

_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|wpe|embed_in|word_embeddings\w*|tok_embeddings|embed_positions)\."
)
_HEAD = re.compile(r"(^|\.)(norm|final_layernorm|final_layer_norm|ln_f|norm_f|lm_head|embed_out|output)\.")
_LAYER_NAMES = re.compile(r"(layers|h|blocks)\\?\.\d")


class LayerRange(Frozen):
    """Layers [start, end) of a checkpoint."""

    source: Path = Field(description="Directory of the checkpoint.")
    start: int = Field(ge=0, description="First layer.")
    end: int = Field(description="Layer after the last.")


class _Move(Frozen):
    """A tensor of the output and the source of its bytes."""

    tensor: Tensor = Field(description="Tensor under its new name, with `file` and `start` of the source.")
    path: Path = Field(description="The source file.")
    source: Path = Field(description="Directory of the source.")
    source_name: str = Field(description="Name of the tensor in the source.")


def write_layer_path(
    source: Path,
    layers: tuple[int, ...],
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    on_progress: OnProgress | None = None,
) -> None:
    """Write the checkpoint with these layers of `source`, in this order, to the directory `out`. Raises BuildError."""
    ranges = tuple(LayerRange(source=source, start=layer, end=layer + 1) for layer in layers)
    write_passthrough(ranges, out, shard_bytes=shard_bytes, on_progress=on_progress)


def write_passthrough(
    ranges: Sequence[LayerRange],
    out: Path,
    *,
    embed_from: Path | None = None,
    head_from: Path | None = None,
    config_from: Path | None = None,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_progress: OnProgress | None = None,
) -> None:
    """Stack layer ranges into one checkpoint in the directory `out`. Raises BuildError.

    The embedding comes from `embed_from` (default: source of the first range), last norm and head from `head_from`
    (default: of the last range), config and tokenizer from `config_from` (default: of the first range). `dtype` is only
    written to the config; `copy_obstacle` checks that the weights have it already.
    """
    if not ranges:
        raise BuildError("A checkpoint needs at least one layer: name one.")
    if shard_bytes < 1:
        raise BuildError(f"A shard of {shard_bytes} bytes is too small: choose a larger size.")
    embed_from, head_from = embed_from or ranges[0].source, head_from or ranges[-1].source
    config_from = config_from or ranges[0].source
    directories = {*(range_.source for range_ in ranges), embed_from, head_from, config_from}
    sources = {path: _open_source(path) for path in directories}
    origins = _origins(ranges)
    _check_fit(sources, origins, embed_from, head_from, config_from)
    config = _output_config(sources, origins, config_from, dtype)
    moves = list(_moves(sources, origins, embed_from, head_from))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_shards(
            moves, out, shard_bytes, Meter(sum(move.tensor.size_bytes for move in moves), on_progress)
        )
        write_json(out / "config.json", config)
        for name in COPIED_FILES:
            if (config_from / name).is_file():
                shutil.copyfile(config_from / name, out / name)
    except OSError as error:
        raise _build_error(error, out) from error


def copied_tensors(
    ranges: Sequence[LayerRange], sources: Mapping[Path, Checkpoint], *, embed_from: Path, head_from: Path
) -> Iterator[tuple[str, Path, str]]:
    """Name, source directory and name in the source of every tensor that `write_passthrough` would write.

    `sources` maps every directory to its checkpoint. Raises BuildError.
    """
    origins = _origins(ranges)
    _check_fit(sources, origins, embed_from, head_from, embed_from)
    for move in _moves(sources, origins, embed_from, head_from):
        yield move.tensor.name, move.source, move.source_name


def passthrough_config(
    ranges: Sequence[LayerRange], sources: Mapping[Path, Checkpoint], config_from: Path, dtype: str | None
) -> dict[str, Any]:
    """The config that `write_passthrough` would write. Raises BuildError."""
    return _output_config(sources, _origins(ranges), config_from, dtype)


def _origins(ranges: Sequence[LayerRange]) -> list[tuple[Path, int]]:
    return [(range_.source, layer) for range_ in ranges for layer in range(range_.start, range_.end)]


def copy_obstacle(sources: Sequence[Checkpoint], dtype: str | None, out_dtype: str | None) -> str | None:
    """Why a passthrough of these sources cannot be built by copying bytes; None if it can.

    `dtype` is the dtype in which mergekit loads tensors, `out_dtype` that in which it writes them. A conversion to float32
    and back is lossless, so only the final dtype must be that of the weights.
    """
    target = {name.removeprefix("torch.") for name in [out_dtype or dtype] if name}
    load_dtype = (dtype or "").removeprefix("torch.")
    for checkpoint in sources:
        if checkpoint.pickled:
            return f"{checkpoint.directory} holds pickled weights"
        if target and checkpoint.dtypes != target:
            return f"{checkpoint.directory} is not all {next(iter(target))}"
        lossless = (
            {"float32", "float64"} if checkpoint.dtypes <= {"bfloat16", "float16", "float32"} else set()
        )
        if load_dtype and load_dtype not in lossless and checkpoint.dtypes != {load_dtype}:
            return f"{checkpoint.directory} would lose digits as {load_dtype}"
    return None


# --- compatibility ---------------------------------------------------------------------------------------------------


def _open_source(path: Path) -> Checkpoint:
    checkpoint = Checkpoint.open(path)
    if len(checkpoint.stacks) != 1:
        stacks = ", ".join(checkpoint.stacks) or "none"
        raise BuildError(
            f"{path} has {len(checkpoint.stacks)} stacks of layers ({stacks}), and a layer path names layers of one: "
            "use a text-only checkpoint."
        )
    for layer in range(checkpoint.n_layers):
        if not checkpoint.layer_tensors(layer):
            raise BuildError(
                f"{path} has no tensors for layer {layer} of its {checkpoint.n_layers}: download it again."
            )
    return checkpoint


def _check_fit(
    sources: Mapping[Path, Checkpoint],
    origins: Sequence[tuple[Path, int]],
    embed_from: Path,
    head_from: Path,
    config_from: Path,
) -> None:
    first = sources[embed_from]
    for path, layer in origins:
        if not 0 <= layer < sources[path].n_layers:
            raise BuildError(
                f"{path} has no layer {layer}: its layers are 0 to {sources[path].n_layers - 1}."
            )
    for path, other in sources.items():
        for field, expected, actual in (
            ("architecture", first.config.architecture, other.config.architecture),
            ("hidden_size", first.config.hidden_size, other.config.hidden_size),
            ("names of layers", first.stacks, other.stacks),
            ("tied embeddings", first.config.tied, other.config.tied),
            ("quantisation", first.quantization, other.quantization),
        ):
            if expected != actual:
                raise BuildError(
                    f"{path} and {first.directory} differ in {field} ({actual} and {expected}): their layers do not stack."
                )
    _check_layers(sources, origins)
    for path in (head_from, config_from):
        if sources[path].config.vocab_size != first.config.vocab_size:
            raise BuildError(
                f"{first.directory} and {path} have vocabularies of {first.config.vocab_size} and "
                f"{sources[path].config.vocab_size}: take embedding, head and config from one source, or give the "
                "recipe a tokenizer_source."
            )


def _check_layers(sources: Mapping[Path, Checkpoint], origins: Sequence[tuple[Path, int]]) -> None:
    """Raise BuildError if layers of different sources have different tensors or shapes."""
    layouts = {_layer_layout(sources[path], layer): (path, layer) for path, layer in reversed(origins)}
    if len({path for path, _ in layouts.values()}) > 1:
        (first, i), (second, j) = list(layouts.values())[:2]
        raise BuildError(
            f"Layer {i} of {first} and layer {j} of {second} have different tensors: they do not stack."
        )


def _layer_layout(source: Checkpoint, layer: int) -> frozenset[tuple[str, tuple[int, ...]]]:
    names = ((layer_tensor_name(tensor.name), tensor.shape) for tensor in source.layer_tensors(layer))
    return frozenset((name.rest, shape) for name, shape in names if name)


def _output_config(
    sources: Mapping[Path, Checkpoint],
    origins: Sequence[tuple[Path, int]],
    config_from: Path,
    dtype: str | None,
) -> dict[str, Any]:
    configs = {path: read_config(path / "config.json") for path in sources}
    base = configs[config_from]
    config = relayered_config([(configs[path], layer) for path, layer in origins], base, str(config_from))
    if origins != [(config_from, layer) for layer in range(sources[config_from].n_layers)]:
        if _LAYER_NAMES.search(json.dumps(base.get("quantization_config"))):
            raise BuildError(
                f"{config_from}: its quantization_config names single layers, so layers cannot move."
            )
        mixed = len({_layer_layout(sources[path], layer) for path, layer in origins}) > 1
        if mixed and not layers_differ(base, str(config_from)):
            raise BuildError(
                f"{config_from}: its layers have different tensors and its config.json has no list that says which "
                "layer is of which kind, so layers cannot move."
            )
    # Code from a checkpoint is never copied.
    config.pop("auto_map", None)
    if dtype is not None:
        config["dtype" if "dtype" in config else "torch_dtype"] = dtype
    return config


# --- copying --------------------------------------------------------------------------------------------------------


def _moves(
    sources: Mapping[Path, Checkpoint], origins: Sequence[tuple[Path, int]], embed_from: Path, head_from: Path
) -> Iterator[_Move]:
    """All tensors of the output, in Hugging Face order: embedding, layers, last norm, head."""
    yield from _outer_tensors(
        sources[embed_from], _EMBEDDING, single_source=embed_from == head_from, before_layers=True
    )
    for position, (path, layer) in enumerate(origins):
        for tensor in sources[path].layer_tensors(layer):
            name_parts = layer_tensor_name(tensor.name)
            assert name_parts is not None  # layer_tensors gives only tensors of layers
            name = f"{name_parts.stack}.{position}.{name_parts.rest}"
            yield _Move(
                tensor=tensor.model_copy(update={"name": name}),
                path=path / tensor.file,
                source=path,
                source_name=tensor.name,
            )
    yield from _outer_tensors(
        sources[head_from], _HEAD, single_source=embed_from == head_from, before_layers=False
    )


def _outer_tensors(
    source: Checkpoint, pattern: re.Pattern[str], *, single_source: bool, before_layers: bool
) -> Iterator[_Move]:
    for tensor in source.other_tensors:
        is_embedding, is_head = bool(_EMBEDDING.search(tensor.name)), bool(_HEAD.search(tensor.name))
        if not single_source and is_embedding == is_head:
            raise BuildError(
                f"{source.directory}: {tensor.name} belongs neither to the embedding nor to the head, "
                "so its source cannot be determined."
            )
        if (
            (is_embedding if before_layers else not is_embedding)
            if single_source
            else pattern.search(tensor.name)
        ):
            yield _Move(
                tensor=tensor,
                path=source.directory / tensor.file,
                source=source.directory,
                source_name=tensor.name,
            )


def _shards(moves: Sequence[_Move], shard_bytes: int) -> list[list[_Move]]:
    shards: list[list[_Move]] = [[]]
    filled = 0
    for move in moves:
        if shards[-1] and filled + move.tensor.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(move)
        filled += move.tensor.size_bytes
    # Wide elements first, so that every tensor is aligned to its element size.
    return [sorted(shard, key=lambda move: -DTYPE_BITS[move.tensor.dtype]) for shard in shards]


def _write_shards(moves: Sequence[_Move], out: Path, shard_bytes: int, meter: Meter) -> None:
    shards = _shards(moves, shard_bytes)
    count = len(shards)
    names = (
        [SINGLE_NAME]
        if count == 1
        else [f"model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    )
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        futures = [
            pool.submit(_write_shard, shard, out / name, meter)
            for shard, name in zip(shards, names, strict=True)
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            meter.cancelled = True
            raise
    if count > 1:
        weight_map = {m.tensor.name: name for shard, name in zip(shards, names, strict=True) for m in shard}
        index = {"metadata": {"total_size": meter.total_bytes}, "weight_map": weight_map}
        write_json(out / INDEX_NAME, index)


def _write_shard(shard: Sequence[_Move], path: Path, meter: Meter) -> None:
    with path.open("xb", buffering=0) as target:
        target.write(header_bytes(move.tensor for move in shard))
        for run in _runs(shard):
            with run.path.open("rb", buffering=0) as source:
                copy_bytes(source.fileno(), target.fileno(), run.start, run.size_bytes, meter)


class _Run(Frozen):
    """Bytes that are contiguous in source and output."""

    path: Path = Field(description="The source file.")
    start: int = Field(description="Offset of the first byte.")
    size_bytes: int = Field(description="Number of bytes.")


def _runs(shard: Sequence[_Move]) -> Iterator[_Run]:
    run: _Run | None = None
    for move in shard:
        start, size = move.tensor.start, move.tensor.size_bytes
        if run is not None and run.path == move.path and run.start + run.size_bytes == start:
            run = _Run(path=run.path, start=run.start, size_bytes=run.size_bytes + size)
            continue
        if run is not None:
            yield run
        run = _Run(path=move.path, start=start, size_bytes=size)
    if run is not None:
        yield run


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a config or index."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _build_error(error: OSError, out: Path) -> BuildError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return BuildError(f"The disk that holds {out} is full: free space or choose another directory.")
    if error.errno == errno.EEXIST:
        return BuildError(f"{error.filename} exists already: choose an empty directory.")
    return BuildError(f"Writing {out} failed: {error}.")
