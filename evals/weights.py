"""Weights for a running engine: how they are described, what is required of them, and which ones an engine holds."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evals.checkpoint_config import read_config
from evals.errors import EngineError
from evals.quantization import stored_method
from evals.weight_headers import stored_tensors

if TYPE_CHECKING:
    import torch

_IGNORED = re.compile(r"\.(rotary_emb\.inv_freq|masked_bias)$")
"""Constants that older checkpoints store beside the weights; engines ignore them."""

NamedTensors = Generator[tuple[str, "torch.Tensor"], None, None]
"""Names, as in a checkpoint's files, and tensors."""

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of stored tensors."""


class StreamedWeights(Protocol):
    """Weights that are made where they are needed. Picklable: each worker of an engine gets a copy and iterates over it."""

    @property
    def digest(self) -> str:
        """Identity of the weights."""

    def tensors(self) -> NamedTensors:
        """Names, as in a checkpoint's files, and tensors on the CPU; a tensor is not changed after it was yielded."""


def replaceable_tensors(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that replace a checkpoint's weights in an engine that was opened with it.

    Raises EngineError for a checkpoint whose weights cannot be replaced: a quantised one, whose files hold packed numbers; one
    that ties its embeddings and stores a head besides, where the values decide whether an engine ties them; and one of an
    unknown format.
    """
    config = read_config(checkpoint)
    method = stored_method(checkpoint, config)
    if method is not None:
        raise EngineError(
            f"{checkpoint} is stored quantised ({method}), and a quantised engine cannot replace its weights: build the merge, or "
            "use a base that is not quantised."
        )
    stored = stored_tensors(checkpoint)
    if stored is None:
        raise EngineError(
            f"{checkpoint} has no weight files whose names are known: build the merge with `materialize: true`."
        )
    names = {name: tensor.shape for name, tensor in stored.items() if not _IGNORED.search(name)}
    if config.get("tie_word_embeddings") and "lm_head.weight" in names:
        raise EngineError(
            f"{checkpoint} ties its embeddings and stores lm_head.weight besides, so that its weights cannot be replaced: build the "
            "merge with `materialize: true`."
        )
    return names


def complete(tensors: NamedTensors, expected: Shapes, checkpoint: Path) -> NamedTensors:
    """The tensors, each checked; EngineError for a name or shape that the checkpoint does not have, and for missing names."""
    with closing(tensors):
        yield from _checked(tensors, expected, checkpoint)


def _checked(tensors: NamedTensors, expected: Shapes, checkpoint: Path) -> NamedTensors:
    missing = set(expected)
    for name, tensor in tensors:
        if _IGNORED.search(name):
            continue
        if name not in missing:
            what = "appears twice" if name in expected else f"is not a tensor of {checkpoint}"
            raise EngineError(
                f"The new weights do not fit the running engine: {name[:200]} {what}: build the merge with `materialize: true`."
            )
        if tuple(tensor.shape) != expected[name]:
            raise EngineError(
                f"The new weights do not fit the running engine: {name} has the shape {tuple(tensor.shape)}, and in {checkpoint} it "
                f"is {expected[name]}: build the merge with `materialize: true`."
            )
        missing.remove(name)
        yield name, tensor
    if missing:
        raise EngineError(
            f"The new weights lack {len(missing)} of the {len(expected)} tensors of {checkpoint}, the first is {min(missing)}: build "
            "the merge with `materialize: true`."
        )


class LoadedWeights:
    """Which weights an engine holds. From the first tensor of a change to its end, and after one that failed, none."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self.digest: str | None = None
        """Digest of the weights; None for the checkpoint's own."""
        self.whole = True
        """Whether all tensors are of one source."""

    @contextmanager
    def change(self, digest: str | None) -> Iterator[None]:
        """Change the weights; the engine is without weights until the block ends, and stays so if it raises."""
        self.whole = False
        yield
        self.digest, self.whole = digest, True

    def require_whole(self) -> None:
        """Raise EngineError if the last change of weights was not completed."""
        if not self.whole:
            raise EngineError(
                f"The engine of {self._checkpoint} holds weights of two sources, because a change of weights was cut short: close the "
                "engine and open it again."
            )
