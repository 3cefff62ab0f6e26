"""Weights for engines that are replaced while they run: a checkpoint's files as a stream, which can be altered or fail."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.support.merge_recipes import SOURCES
from tests.support.tiny_checkpoints import tiny_checkpoint

Change = Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class FileWeights:
    """The tensors of a checkpoint, an `evals.weights.Weights`."""

    checkpoint: Path
    change: Change | None = None
    fails_at: int | None = None

    @property
    def digest(self) -> str:
        """The directory's name."""
        return self.checkpoint.name

    def tensors(self) -> Generator[tuple[str, torch.Tensor], None, None]:
        """The tensors by name; OSError before tensor number `fails_at`."""
        stored = load_file(self.checkpoint / "model.safetensors")
        for number, named in enumerate((self.change(stored) if self.change else stored).items()):
            if number == self.fails_at:
                raise OSError("injected")
            yield named


def bits(tensor: torch.Tensor) -> bytes:
    """Dtype, shape and bytes of a tensor."""
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + data


def sources_of_family(
    folder: Path, family: str, *, layers: int = 4, tied: bool = False, **settings: int
) -> Path:
    """Three tiny checkpoints of one family, called as the sources of `tests.support.merge_recipes`."""
    for seed, source in enumerate(SOURCES):
        tiny_checkpoint(folder / source, family=family, layers=layers, tied=tied, seed=seed, **settings)
    return folder
