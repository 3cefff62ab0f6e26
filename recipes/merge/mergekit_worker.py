"""The mergekit process: reads stages as JSON lines on standard input, answers with JSON lines on standard output.

A process of its own because mergekit keeps loaders and random state in globals, logs as it pleases and needs
gigabytes that are given back only when a process ends.
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

from recipes.tensor_file import Frozen

Emit = Callable[[dict[str, Any]], None]

_OUT_CONFIG = "_model_out_config"
"""The function of mergekit that makes the output's config."""

_PROGRESS_STEP_BYTES = 16_000_000


class MergeRequest(Frozen):
    """One stage for mergekit; every model in it is a directory."""

    document: dict[str, Any] = Field(description="The mergekit document.")
    layer_settings: dict[str, Any] = Field(description="Settings of the config that belong to single layers.")
    out: str = Field(description="Directory to write into.")
    scratch: str = Field(description="Directory for merged adapters.")
    seed: int = Field(description="Seed of the random methods.")
    shard_bytes: int = Field(description="Largest shard.")
    trust_remote_code: bool = Field(description="Whether code from a checkpoint may run.")


def merge_methods() -> tuple[Any, ...]:
    """The specifications of the merge methods that the installed mergekit registers."""
    from mergekit.merge_methods import registered_methods

    return tuple(method.spec for method in registered_methods())


def main() -> None:
    """Serve requests until told to stop; end at once when the parent is gone."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the log

    def emit(event: dict[str, Any]) -> None:
        answers.write(json.dumps(event) + "\n")
        answers.flush()

    for request in _requests(sys.stdin):
        _merge(request, emit)  # an exception ends the process; the parent reads it off the log
        emit({"done": True})


def _requests(stream: TextIO) -> Iterator[MergeRequest]:
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        os._exit(1)  # the parent is gone: nobody wants the result

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
    _count_bytes(emit)
    make_config = getattr(merge, _OUT_CONFIG)
    setattr(merge, _OUT_CONFIG, _with_layer_settings(make_config, request.layer_settings))
    LoaderCache.loaders.clear()
    try:
        merge.run_merge(_configuration(request.document), request.out, options)
    finally:
        LoaderCache.loaders.clear()
        setattr(merge, _OUT_CONFIG, make_config)


def _configuration(document: dict[str, Any]) -> Any:
    """mergekit's configuration, but with the models in the order in which the recipe names them.

    mergekit lists them in the order of a set of strings, which differs from process to process, and takes config,
    tokenizer and the order of a union vocabulary from it.
    """
    from mergekit.common import ModelReference
    from mergekit.config import MergeConfiguration

    class Ordered(MergeConfiguration):
        def referenced_models(self) -> list[ModelReference]:
            parts = [self, *(self.modules or {}).values()]
            found = [one.model for part in parts for one in part.models or []]
            found += [one.model for part in parts for piece in part.slices or [] for one in piece.sources]
            return list(dict.fromkeys([*found, *([self.base_model] if self.base_model else [])]))

    return Ordered.model_validate(document)


def _with_layer_settings(make_config: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """mergekit's maker of the output's config, with one entry per layer in the settings that have one.

    mergekit sets the number of layers alone, and transformers then refuses to save the config, weights written.
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


def _count_bytes(emit: Emit) -> None:
    """Tell the parent about every few tensors that are ready to be written."""
    from mergekit.io import tasks
    from mergekit.io.tensor_writer import TensorWriter

    class Counting(TensorWriter):
        counted, told = 0, 0

        def save_tensor(self, name: str, tensor: Any, clone: bool = False) -> None:
            super().save_tensor(name, tensor, clone)
            self.counted += tensor.numel() * tensor.element_size()
            if self.counted - self.told >= _PROGRESS_STEP_BYTES:
                self.told = self.counted
                emit({"bytes": self.counted})

    tasks.TensorWriter = Counting
