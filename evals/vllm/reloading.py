"""Replaces the weights of a running vLLM worker with its own layer-wise reload, which packs and splits them as at the start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

from evals.errors import EngineError
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
        model = self.model_runner.get_model()
        with torch.no_grad(), _unloaded_classes() as unloaded:
            _forget_packed_experts(model)
            if weights is None:
                self.reload_weights()
            else:
                self.reload_weights(weights_iterator=complete(weights.tensors(), expected, checkpoint))
            _process_tied(model)
        _require_loaded(model, unloaded, checkpoint)


@contextmanager
def _unloaded_classes() -> Iterator[set[str]]:
    """Names of the classes of which vLLM warns that a module loaded nothing, instead of its warnings."""
    names: set[str] = set()

    def is_shown(record: logging.LogRecord) -> bool:
        if "Failed to load weights" not in str(record.msg):
            return True
        names.update(map(str, record.args if isinstance(record.args, tuple) else ()))
        return False

    logger = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addFilter(is_shown)
    try:
        yield names
    finally:
        logger.removeFilter(is_shown)
        logger.setLevel(level)


def _require_loaded(model: nn.Module, unloaded: Collection[str], checkpoint: Path) -> None:
    """Raise EngineError if a module kept weights of its own: rotary embeddings have none, and a tied head has another's."""
    loaded = {
        parameter.data_ptr()
        for module in model.modules()
        if type(module).__name__ not in unloaded
        for parameter in module.parameters(recurse=False)
    }
    for name, module in model.named_modules():
        weights = [p for p in module.parameters(recurse=False) if p.numel() and p.data_ptr() not in loaded]
        if type(module).__name__ in unloaded and weights:
            raise EngineError(
                f"vLLM did not replace the weights of {name} of {checkpoint} in the running engine: build the merge with "
                "`materialize: true`."
            )


def _forget_packed_experts(model: nn.Module) -> None:
    """Make the next reload pack the experts of a mixture for the CPU's kernel, as at the start.

    vLLM packs them when it builds the kernel, and afterwards leaves reloaded weights in their plain order: on GPUs the kernel reads
    those, on CPUs it does not.
    """
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        weight = getattr(module, "w13_weight", None)
        if method is None or not hasattr(method, "moe_kernel"):
            continue
        if isinstance(weight, torch.Tensor) and weight.device.type == "cpu":
            method.moe_kernel = None


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
