"""Checkpoint: a directory with config.json and safetensors files, read without loading weights."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pydantic import Field

from recipes.checkpoint_files import (
    INDEX_NAME,
    PICKLE_PATTERNS,
    SINGLE_NAME,
    check_unambiguous,
    loadable_files,
)
from recipes.config_facts import ConfigFacts, read_config
from recipes.errors import CheckpointError
from recipes.file_hash import file_sha256
from recipes.quantization import MODELOPT_NAME, with_modelopt
from recipes.tensor_file import Frozen, Tensor, read_header

_BUFFER = re.compile(r"\.(rotary_emb\.inv_freq|masked_bias)$")
"""Constants that older checkpoints store beside the weights; loaders ignore them and merges do not write them."""

_TORCH_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


class LayerTensorName(Frozen):
    """Name of a tensor split at the layer index: `model.layers` . 7 . `mlp.up_proj.weight`."""

    stack: str = Field(description="Name before the index.")
    layer: int = Field(description="Layer index.")
    rest: str = Field(description="Name after the index.")


class Checkpoint(Frozen):
    """Facts of a checkpoint, from its config and safetensors headers."""

    directory: Path = Field(description="Directory of the checkpoint.")
    config: ConfigFacts = Field(description="Facts of config.json.")
    tensors: tuple[Tensor, ...] = Field(
        description="Tensors in the order of files and bytes; empty for pickled weights."
    )
    has_chat_template: bool = Field(description="Whether the tokenizer has a chat template.")
    pickled: bool = Field(
        default=False, description="Whether the weights are pickles, which the caller allowed."
    )

    @classmethod
    def open(cls, path: Path, *, allow_pickles: bool = False) -> Self:
        """Read config and headers. Raises CheckpointError for anything missing or unsafe."""
        directory = Path(path)
        if not directory.is_dir():
            raise CheckpointError(f"There is no checkpoint directory {directory}: check the path.")
        if not (directory / "config.json").exists() and (directory / "adapter_config.json").exists():
            raise CheckpointError(
                f"{directory} is a LoRA adapter, not a checkpoint: merge it into its base first."
            )
        config = with_modelopt(read_config(directory / "config.json"), _read_modelopt(directory))
        facts = ConfigFacts.from_config(config, str(directory / "config.json"))
        files = weight_files(directory)
        if not files:
            _check_pickles(directory, allow_pickles)
            return cls(
                directory=directory,
                config=facts,
                tensors=(),
                has_chat_template=_has_chat_template(directory),
                pickled=True,
            )
        tensors = _read_tensors(directory, files)
        return cls(
            directory=directory,
            config=facts,
            tensors=tensors,
            has_chat_template=_has_chat_template(directory),
        )

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.config.n_layers

    @property
    def quantization(self) -> str | None:
        """Label of the quantisation; None if the weights are not quantised."""
        return self.config.quantization

    @functools.cached_property
    def parameters(self) -> int | None:
        """Number of stored elements; for pickles the number by the config, or None."""
        return sum(tensor.parameters for tensor in self.tensors) if self.tensors else self.config.parameters()

    @functools.cached_property
    def size_bytes(self) -> int:
        """Size of the weights in bytes."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @functools.cached_property
    def dtype(self) -> str | None:
        """Dtype of most parameters in torch's spelling; the config's dtype if there are no headers."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[tensor.dtype] += tensor.parameters
        most = counts.most_common(1)
        return _TORCH_DTYPES.get(most[0][0], most[0][0]) if most else self.config.dtype

    @functools.cached_property
    def dtypes(self) -> frozenset[str]:
        """Dtypes of the stored tensors, in torch's spelling if it has one."""
        return frozenset(_TORCH_DTYPES.get(tensor.dtype, tensor.dtype) for tensor in self.tensors)

    @functools.cached_property
    def stacks(self) -> tuple[str, ...]:
        """Name prefixes of the numbered stacks of layers; a plain language model has one, such as `model.layers`."""
        names = (layer_tensor_name(tensor.name) for tensor in self.tensors)
        return tuple(dict.fromkeys(name.stack for name in names if name))

    def layer_tensors(self, layer: int) -> tuple[Tensor, ...]:
        """The tensors of one layer."""
        return self._by_layer.get(layer, ())

    @property
    def other_tensors(self) -> tuple[Tensor, ...]:
        """The tensors outside the layers: embedding, last norm, head."""
        return self._by_layer.get(-1, ())

    @functools.cached_property
    def _by_layer(self) -> dict[int, tuple[Tensor, ...]]:
        grouped: dict[int, list[Tensor]] = {}
        for tensor in self.tensors:
            part = layer_tensor_name(tensor.name)
            grouped.setdefault(part.layer if part else -1, []).append(tensor)
        return {layer: tuple(tensors) for layer, tensors in grouped.items()}


def layer_tensor_name(name: str) -> LayerTensorName | None:
    """Split the name of a tensor at its first number; None for a tensor outside the layers."""
    parts = name.split(".")
    for position, part in enumerate(parts[1:-1], start=1):
        if part.isascii() and part.isdigit() and len(part) < 10:
            return LayerTensorName(
                stack=".".join(parts[:position]), layer=int(part), rest=".".join(parts[position + 1 :])
            )
    return None


def weight_files(directory: Path) -> tuple[str, ...]:
    """Sorted names of the safetensors files that hold the weights; empty if there are none."""
    index = directory / INDEX_NAME
    if index.exists():
        weight_map = read_config(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise CheckpointError(f"{index} has no usable weight_map: download or copy it again.")
        files = tuple(sorted(set(weight_map.values())))
        for file in files:
            if PurePosixPath(file).name != file or file in {"", ".", ".."} or "\\" in file or "\0" in file:
                raise CheckpointError(
                    f"{index} points at {file!r}, outside its own directory: do not use this checkpoint."
                )
        return files
    if (directory / SINGLE_NAME).exists():
        return (SINGLE_NAME,)
    others = sorted(
        path.name for path in directory.glob("*.safetensors") if not path.name.startswith("adapter_")
    )
    if len(others) > 1:
        raise CheckpointError(
            f"{directory} has {len(others)} safetensors files and no {INDEX_NAME} that orders them: "
            "download or copy the index too."
        )
    return tuple(others)


def _read_tensors(directory: Path, files: tuple[str, ...]) -> tuple[Tensor, ...]:
    tensors = [
        tensor for file in files for tensor in read_header(directory, file) if not _BUFFER.search(tensor.name)
    ]
    holders = {tensor.name: tensor.file for tensor in tensors}
    index = directory / INDEX_NAME
    if not index.exists():
        return tuple(tensors)
    weight_map: dict[str, str] = read_config(index)["weight_map"]
    for name, file in weight_map.items():
        if not _BUFFER.search(name) and name not in holders:
            raise CheckpointError(
                f"{directory / file} does not hold {name}, which {INDEX_NAME} lists: download it again."
            )
    # A tensor stored in two shards counts once, in the shard that the index names.
    return tuple(tensor for tensor in tensors if weight_map.get(tensor.name) == tensor.file)


def refuse_gguf(place: Path) -> None:
    """Raise CheckpointError if this is a GGUF file or a directory with one, which no engine here loads."""
    files = sorted(place.glob("*.gguf")) if place.is_dir() else [place] if place.suffix == ".gguf" else []
    if files:
        raise CheckpointError(
            f"{files[0]} is GGUF, which no engine here loads (vLLM 0.32 has dropped it): use the safetensors checkpoint that it was "
            "made from, or convert it (transformers: from_pretrained(..., gguf_file=...), then save_pretrained)."
        )


def _check_pickles(directory: Path, allowed: bool) -> None:
    pickles = _pickle_files(directory)
    if not pickles:
        refuse_gguf(directory)
        raise CheckpointError(
            f"{directory} holds no weights ({SINGLE_NAME} or {INDEX_NAME}): download or copy it again."
        )
    if not allowed:
        raise CheckpointError(
            f"{directory} holds only pickled weights ({pickles[0]}), which can run code when they are loaded: "
            "use a safetensors copy, or allow pickles by name."
        )


def _read_modelopt(directory: Path) -> dict[str, Any] | None:
    return read_config(directory / MODELOPT_NAME) if (directory / MODELOPT_NAME).is_file() else None


def _has_chat_template(directory: Path) -> bool:
    if any((directory / name).exists() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    config = directory / "tokenizer_config.json"
    return config.exists() and bool(read_config(config).get("chat_template"))


def weights_digest(path: Path, cache_dir: Path) -> str:
    """sha256 over every file that a loader may open (see `checkpoint_files`); file hashes are cached in `cache_dir`.

    Also works for the directory of an adapter. Raises CheckpointError if loaders would read different weights.
    """
    directory = Path(path)
    if not (directory / "config.json").is_file():
        if not (directory / "adapter_config.json").is_file():
            refuse_gguf(directory)
            raise CheckpointError(
                f"{directory} is not a checkpoint directory (no config.json): check the path."
            )
        files = loadable_files(directory)
    else:
        weights = weight_files(directory)
        missing = next((name for name in weights if not (directory / name).exists()), None)
        if missing is not None:
            raise CheckpointError(
                f"{directory / missing} cannot be read (it is not there): download or copy it again."
            )
        if weights:
            check_unambiguous(directory, weights)
        files = loadable_files(directory)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashes = list(pool.map(lambda name: file_sha256(directory / name, cache_dir), files))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(zip(files, hashes, strict=True)))
    return hashlib.sha256(lines.encode()).hexdigest()


def _pickle_files(directory: Path) -> list[str]:
    return sorted({path.name for pattern in PICKLE_PATTERNS for path in directory.glob(pattern)})
