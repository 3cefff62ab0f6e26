"""The mergekit process: reads stages as JSON lines from standard input, answers with JSON lines on standard output.

mergekit runs in a separate process because it keeps loaders and random state in globals, writes to both streams, and
uses gigabytes of memory that are only released when the process ends.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from pydantic import Field

from recipes.merge.reproducible import reproducible_sums
from recipes.tensor_file import Frozen

Emit = Callable[[dict[str, Any]], None]

OUT_CONFIG = "_model_out_config"
"""mergekit's function that creates the output config; patched below."""

_PROGRESS_STEP_BYTES = 16_000_000


class MergeRequest(Frozen):
    """Request to merge one stage; every model in it is a directory."""

    document: dict[str, Any] = Field(description="The mergekit document.")
    layer_settings: dict[str, Any] = Field(description="Per-layer settings of the output config.")
    out: str = Field(description="Output directory.")
    scratch: str = Field(description="Working directory for merged adapters.")
    seed: int = Field(description="Seed of random merge methods.")
    shard_bytes: int = Field(description="Maximum size of a weight file in bytes.")
    trust_remote_code: bool = Field(description="Whether code from a checkpoint may run.")


def merge_methods() -> tuple[Any, ...]:
    """Specifications of the merge methods of the installed mergekit."""
    from mergekit.merge_methods import registered_methods

    return tuple(method.spec for method in registered_methods())


def main() -> None:
    """Serve requests until `stop`; exit immediately if the parent process ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of libraries goes to the log

    def emit(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")
        answers.flush()

    for request in _requests(sys.stdin):
        _merge(request, emit)  # an exception ends the process; the parent reads the log
        emit({"done": True})


def _requests(stream: TextIO) -> Iterator[MergeRequest]:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        os._exit(1)  # the parent process ended

    threading.Thread(target=read, daemon=True).start()
    while (line := lines.get().strip()) != "stop":
        yield MergeRequest.model_validate_json(line)


def _merge(request: MergeRequest, emit: Emit) -> None:
    from mergekit import merge
    from mergekit.io.tasks import LoaderCache
    from mergekit.options import MergeOptions

    options = MergeOptions(
        random_seed=request.seed,
        out_shard_size=request.shard_bytes,
        trust_remote_code=request.trust_remote_code,
        lora_merge_cache=request.scratch,
        write_model_card=False,
        quiet=True,
    )
    _patch_writer(emit)
    make_config = getattr(merge, OUT_CONFIG)
    setattr(merge, OUT_CONFIG, with_layer_settings(make_config, request.layer_settings))
    LoaderCache.loaders.clear()
    try:
        with reproducible_sums():
            merge.run_merge(ordered_configuration(request.document), request.out, options)
    finally:
        LoaderCache.loaders.clear()
        setattr(merge, OUT_CONFIG, make_config)


def ordered_configuration(document: dict[str, Any]) -> Any:
    """mergekit's configuration with the models in the order of the recipe.

    mergekit iterates over a set of strings, whose order differs between processes, and takes config, tokenizer and the
    order of a union vocabulary from that order.
    """
    from mergekit.common import ModelReference
    from mergekit.config import MergeConfiguration

    class Ordered(MergeConfiguration):
        def referenced_models(self) -> list[ModelReference]:
            modules = [self, *(self.modules or {}).values()]
            models = [input_.model for module in modules for input_ in module.models or []]
            models += [
                input_.model
                for module in modules
                for slice_ in module.slices or []
                for input_ in slice_.sources
            ]
            return list(dict.fromkeys([*models, *([self.base_model] if self.base_model else [])]))

    return Ordered.model_validate(document)


def with_layer_settings(make_config: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """Wrap mergekit's function that creates the output config to also set the per-layer settings.

    mergekit only sets the number of layers; transformers then refuses to save the config after the weights are written.
    """

    def make(*arguments: Any, **options: Any) -> Any:
        config = make_config(*arguments, **options)
        text = config.get_text_config()
        for key, value in settings.items():
            setattr(text, key, value)
        for key, value in text.to_dict().items():
            if key.endswith("layer_types") and isinstance(value, list) and len(set(value)) == 1:
                setattr(text, key, value[:1] * text.num_hidden_layers)
        return config

    return make


def _patch_writer(emit: Emit) -> None:
    """Patch mergekit's writer to report the number of written bytes."""
    from mergekit.io import tasks
    from mergekit.io.tensor_writer import TensorWriter

    class Counting(TensorWriter):
        counted_bytes, reported_bytes = 0, 0

        def save_tensor(self, name: str, tensor: Any, clone: bool = False) -> None:
            super().save_tensor(name, tensor, clone)
            self.counted_bytes += tensor.numel() * tensor.element_size()
            if self.counted_bytes - self.reported_bytes >= _PROGRESS_STEP_BYTES:
                self.reported_bytes = self.counted_bytes
                emit({"bytes": self.counted_bytes})

    tasks.TensorWriter = Counting
