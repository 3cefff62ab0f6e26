"""Replaces the weights of a running vLLM worker with its own layer-wise reload, which packs and splits them as at the start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from evals.weights import Shapes, StreamedWeights, complete


class ReplacesWeights:
    """Mixin for vLLM's workers."""

    model_runner: Any
    reload_weights: Callable[..., None]

    def replace_weights(self, weights: StreamedWeights | None, expected: Shapes, checkpoint: Path) -> None:
        """Load these weights, of which each rank makes the tensors itself; None loads the checkpoint's files.

        `expected` has the names and shapes of the checkpoint's files: with the same names the model's loader writes every parameter, as
        it did at the start. After an error the worker cannot be used any more.
        """
        with torch.no_grad(), _quiet_reload():
            if weights is None:
                self.reload_weights()
            else:
                self.reload_weights(weights_iterator=complete(weights.tensors(), expected, checkpoint))
            _process_tied(self.model_runner.get_model())


@contextmanager
def _quiet_reload() -> Iterator[None]:
    """Suppress vLLM's warnings of modules that load nothing: rotary embeddings and tied heads; `complete` finds missing weights."""
    logger = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _process_tied(model: nn.Module) -> None:
    """Process again what embeddings and heads with one common weight derive from it.

    vLLM reloads the weight through one of the modules and leaves the packed copy that a CPU's kernel reads in the other.
    """
    by_weight: dict[int, list[VocabParallelEmbedding]] = {}
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding) and isinstance(
            weight := getattr(module, "weight", None), torch.Tensor
        ):
            by_weight.setdefault(weight.data_ptr(), []).append(module)
    for modules in by_weight.values():
        for module in modules if len(modules) > 1 else ():
            module.quant_method.process_weights_after_loading(module)
