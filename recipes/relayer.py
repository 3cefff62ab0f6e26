"""Writes layer paths, and any passthrough without parameters, by moving tensor bytes from file to file.

Nothing is computed, so nothing is loaded: no torch, and no more memory than the headers need.
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
from recipes.layer_config import differing_layers, relayered_config
from recipes.tensor_file import DTYPE_BITS, Frozen, Tensor, header_bytes

__all__ = [
    "SHARD_BYTES",
    "CopyProgress",
    "LayerRange",
    "why_not_bytes",
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
"""Files beside config and weights that a built checkpoint takes over."""

_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|wpe|embed_in|word_embeddings\w*|tok_embeddings|embed_positions)\."
)
_HEAD = re.compile(r"(^|\.)(norm|final_layernorm|final_layer_norm|ln_f|norm_f|lm_head|embed_out|output)\.")
_LAYER_NAMES = re.compile(r"(layers|h|blocks)\\?\.\d")


class LayerRange(Frozen):
    """Layers [start, end) of a checkpoint."""

    source: Path = Field(description="The checkpoint's directory.")
    start: int = Field(ge=0, description="First layer.")
    end: int = Field(description="Layer after the last.")


class _Move(Frozen):
    """One tensor of the output and the bytes that it is made of."""

    tensor: Tensor = Field(description="The tensor under its new name; file and start are the source's.")
    path: Path = Field(description="The source file.")


def write_layer_path(
    source: Path,
    layers: tuple[int, ...],
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    on_progress: OnProgress | None = None,
) -> None:
    """Write the checkpoint that visits these layers of `source` in this order into the directory `out`."""
    slices = tuple(LayerRange(source=source, start=layer, end=layer + 1) for layer in layers)
    write_passthrough(slices, out, shard_bytes=shard_bytes, on_progress=on_progress)


def write_passthrough(
    slices: Sequence[LayerRange],
    out: Path,
    *,
    embed_from: Path | None = None,
    head_from: Path | None = None,
    config_from: Path | None = None,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_progress: OnProgress | None = None,
) -> None:
    """Stack the slices into one checkpoint in the directory `out`.

    The embedding comes from `embed_from` (default: the first slice's source), last norm and head from `head_from`
    (the last slice's), config and tokenizer from `config_from` (the first slice's). `dtype` is only written into the
    config: `why_not_bytes` tells whether the weights have it already.
    """
    if not slices:
        raise BuildError("A checkpoint needs at least one layer: name one.")
    if shard_bytes < 1:
        raise BuildError(f"A shard of {shard_bytes} bytes holds nothing: choose a larger size.")
    embed_from, head_from = embed_from or slices[0].source, head_from or slices[-1].source
    config_from = config_from or slices[0].source
    everything = {*(piece.source for piece in slices), embed_from, head_from, config_from}
    sources = {path: _opened(path) for path in everything}
    pieces = [(piece.source, layer) for piece in slices for layer in range(piece.start, piece.end)]
    _check_fit(sources, pieces, embed_from, head_from, config_from)
    config = _config(sources, pieces, config_from, dtype)
    moves = list(_moves(sources, pieces, embed_from, head_from))
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_shards(
            moves, out, shard_bytes, Meter(sum(move.tensor.size_bytes for move in moves), on_progress)
        )
        _write_json(out / "config.json", config)
        for name in COPIED_FILES:
            if (config_from / name).is_file():
                shutil.copyfile(config_from / name, out / name)
    except OSError as error:
        raise _build_error(error, out) from error


def why_not_bytes(sources: Sequence[Checkpoint], dtype: str | None, out_dtype: str | None) -> str | None:
    """Why a passthrough of these sources is more than moving bytes, or null where it is only that.

    `dtype` is what mergekit loads tensors as, `out_dtype` what it writes them as. Going up to float32 and back down
    changes nothing, so only the last of the two must be the weights' own.
    """
    wanted = {name.removeprefix("torch.") for name in [out_dtype or dtype] if name}
    loaded = (dtype or "").removeprefix("torch.")
    for checkpoint in sources:
        if checkpoint.pickled:
            return f"{checkpoint.directory} holds pickled weights"
        if wanted and checkpoint.dtypes != wanted:
            return f"{checkpoint.directory} is not all {next(iter(wanted))}"
        exact = {"float32", "float64"} if checkpoint.dtypes <= {"bfloat16", "float16", "float32"} else set()
        if loaded and loaded not in exact and checkpoint.dtypes != {loaded}:
            return f"{checkpoint.directory} would lose digits as {loaded}"
    return None


# --- what fits ------------------------------------------------------------------------------------------------------


def _opened(path: Path) -> Checkpoint:
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
    pieces: Sequence[tuple[Path, int]],
    embed_from: Path,
    head_from: Path,
    config_from: Path,
) -> None:
    first = sources[embed_from]
    for path, layer in pieces:
        if not 0 <= layer < sources[path].n_layers:
            raise BuildError(
                f"{path} has no layer {layer}: its layers are 0 to {sources[path].n_layers - 1}."
            )
    for path, other in sources.items():
        for what, mine, theirs in (
            ("architecture", first.config.architecture, other.config.architecture),
            ("hidden_size", first.config.hidden_size, other.config.hidden_size),
            ("names of layers", first.stacks, other.stacks),
            ("tied embeddings", first.config.tied, other.config.tied),
            ("quantisation", first.quantization, other.quantization),
        ):
            if mine != theirs:
                raise BuildError(
                    f"{path} and {first.directory} differ in {what} ({theirs} and {mine}): their layers do not stack."
                )
    _check_layers(sources, pieces)
    for path in (head_from, config_from):
        if sources[path].config.vocab_size != first.config.vocab_size:
            raise BuildError(
                f"{first.directory} and {path} have vocabularies of {first.config.vocab_size} and "
                f"{sources[path].config.vocab_size}: take embedding, head and config from one source, or give the "
                "recipe a tokenizer_source."
            )


def _check_layers(sources: Mapping[Path, Checkpoint], pieces: Sequence[tuple[Path, int]]) -> None:
    """Layers of different sources must have the same tensors in the same shapes."""
    makes = {_make(sources[path], layer): (path, layer) for path, layer in reversed(pieces)}
    if len({path for path, _ in makes.values()}) > 1:
        (one, i), (two, j) = list(makes.values())[:2]
        raise BuildError(
            f"Layer {i} of {one} and layer {j} of {two} have different tensors: they do not stack."
        )


def _make(source: Checkpoint, layer: int) -> frozenset[tuple[str, tuple[int, ...]]]:
    names = ((layer_tensor_name(tensor.name), tensor.shape) for tensor in source.layer_tensors(layer))
    return frozenset((part.rest, shape) for part, shape in names if part)


def _config(
    sources: Mapping[Path, Checkpoint],
    pieces: Sequence[tuple[Path, int]],
    config_from: Path,
    dtype: str | None,
) -> dict[str, Any]:
    raw = {path: read_config(path / "config.json") for path in sources}
    base = raw[config_from]
    config = relayered_config([(raw[path], layer) for path, layer in pieces], base, str(config_from))
    if pieces != [(config_from, layer) for layer in range(sources[config_from].n_layers)]:
        if _LAYER_NAMES.search(json.dumps(base.get("quantization_config"))):
            raise BuildError(
                f"{config_from}: its quantization_config names single layers, so layers cannot move."
            )
        mixed = len({_make(sources[path], layer) for path, layer in pieces}) > 1
        if mixed and not differing_layers(base, str(config_from)):
            raise BuildError(
                f"{config_from}: its layers have different tensors and its config.json has no list that says which "
                "layer is of which kind, so layers cannot move."
            )
    # Code from a checkpoint is never taken over; the architectures here need none.
    config.pop("auto_map", None)
    if dtype is not None:
        config["dtype" if "dtype" in config else "torch_dtype"] = dtype
    return config


# --- what moves -----------------------------------------------------------------------------------------------------


def _moves(
    sources: Mapping[Path, Checkpoint], pieces: Sequence[tuple[Path, int]], embed_from: Path, head_from: Path
) -> Iterator[_Move]:
    """Every tensor of the output, in Hugging Face's order: embedding, layers, last norm, head."""
    yield from _of_no_layer(sources[embed_from], _EMBEDDING, alone=embed_from == head_from, first=True)
    for position, (path, layer) in enumerate(pieces):
        for tensor in sources[path].layer_tensors(layer):
            part = layer_tensor_name(tensor.name)
            assert part is not None  # layer_tensors gives only tensors of layers
            name = f"{part.stack}.{position}.{part.rest}"
            yield _Move(tensor=tensor.model_copy(update={"name": name}), path=path / tensor.file)
    yield from _of_no_layer(sources[head_from], _HEAD, alone=embed_from == head_from, first=False)


def _of_no_layer(source: Checkpoint, wanted: re.Pattern[str], *, alone: bool, first: bool) -> Iterator[_Move]:
    for tensor in source.other_tensors:
        is_embedding, is_head = bool(_EMBEDDING.search(tensor.name)), bool(_HEAD.search(tensor.name))
        if not alone and is_embedding == is_head:
            raise BuildError(
                f"{source.directory}: {tensor.name} belongs neither to the embedding nor to the head, "
                "so it is not known which source gives it."
            )
        if (is_embedding if first else not is_embedding) if alone else wanted.search(tensor.name):
            yield _Move(tensor=tensor, path=source.directory / tensor.file)


def _shards(moves: Sequence[_Move], shard_bytes: int) -> list[list[_Move]]:
    shards: list[list[_Move]] = [[]]
    filled = 0
    for move in moves:
        if shards[-1] and filled + move.tensor.size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(move)
        filled += move.tensor.size_bytes
    # Wide elements first, so that every tensor starts at a multiple of its element's size.
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
        _write_json(out / INDEX_NAME, index)


def _write_shard(shard: Sequence[_Move], path: Path, meter: Meter) -> None:
    with path.open("xb", buffering=0) as target:
        target.write(header_bytes(move.tensor for move in shard))
        for run in _runs(shard):
            with run.path.open("rb", buffering=0) as source:
                copy_bytes(source.fileno(), target.fileno(), run.start, run.size_bytes, meter)


class _Run(Frozen):
    """Bytes that lie together in the source and in the output."""

    path: Path = Field(description="The source file.")
    start: int = Field(description="First byte.")
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


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _build_error(error: OSError, out: Path) -> BuildError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return BuildError(f"The disk that holds {out} is full: free space or choose another place.")
    if error.errno == errno.EEXIST:
        return BuildError(f"{error.filename} exists already: choose an empty directory.")
    return BuildError(f"Writing {out} failed: {error}.")
