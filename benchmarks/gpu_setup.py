"""Sizes, checkpoints with random weights, engines and requests for the steps of `benchmarks/gpu.py`."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evals.engine import (
    EngineKind,
    EngineSpec,
    EngineTuning,
    ScoreRequest,
)
from evals.engines import installed_version, open_engine
from tests.support.tiny_checkpoints import tiny_checkpoint, write_tokenizer

Result = dict[str, Any]
LayerPath = tuple[int, ...]


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    return bool(torch.cuda.is_available())


@dataclass(frozen=True)
class Sizes:
    """How large the steps are."""

    tiny: bool
    batches: tuple[int, ...]
    """Sequences that are decoded at once."""
    prompt: int
    """Tokens of a prompt."""
    new: tuple[int, int]
    """Numbers of new tokens whose difference in time gives the time of a step."""
    questions: int
    context: int
    """Tokens that the questions share."""
    paths: int
    changes: int

    @classmethod
    def of(cls, *, tiny: bool) -> Sizes:
        """Those of a GPU, or tiny ones."""
        if tiny:
            return cls(True, (1, 4), 8, (4, 24), 6, 40, 2, 20)
        return cls(False, (1, 32, 256), 128, (16, 80), 200, 900, 8, 300)


def llama_dimensions(
    hidden: int, intermediate: int, heads: int, kv_heads: int, layers: int, vocabulary: int
) -> Result:
    """Settings of a Llama config.json."""
    return {
        "hidden_size": hidden, "intermediate_size": intermediate, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "num_hidden_layers": layers, "vocab_size": vocabulary,
    }  # fmt: skip


SMALL = llama_dimensions(576, 1536, 9, 3, 30, 49152)
"""A Llama of 135M parameters, as SmolLM2."""
LARGE = llama_dimensions(4096, 14336, 32, 8, 32, 128256)
"""A Llama of 8.0B parameters, as Llama 3."""
TINY = llama_dimensions(64, 128, 2, 1, 4, 1024)
"""With more tokens than its tokenizer knows, as the others have."""


def random_checkpoint(folder: Path, dimensions: Result, *, weights: bool) -> Path:
    """A Llama of these dimensions; without weights it is for vLLM's dummy load format, which fills them in on the device."""
    values = {**dimensions, "tie_word_embeddings": False, "max_position_embeddings": 4096}
    if weights:
        return tiny_checkpoint(
            folder,
            layers=values["num_hidden_layers"],
            hidden=values["hidden_size"],
            vocabulary=values["vocab_size"],
            config=values,
        )
    tiny_checkpoint(folder, layers=1, config={**values, "num_hidden_layers": 1, **TINY})
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    write_tokenizer(folder)
    return folder


@contextmanager
def opened_engine(
    checkpoint: Path, sizes: Sizes, *, slots: int = 0, dtype: str = "bfloat16", dummy: bool = False
) -> Iterator[Any]:
    """An engine of ours."""
    import evals.vllm.engine
    from evals.vllm.loading import plan_engine

    # The engine has no such setting: nobody evaluates weights that are not there.
    module: Any = evals.vllm.engine
    spec = EngineSpec(
        kind=EngineKind.VLLM, version=installed_version(EngineKind.VLLM), dtype=dtype, max_length=4096
    )
    if sizes.tiny:
        tuning = EngineTuning(extra_layer_slots=slots, kv_cache_gib=0.25, live=True)
    else:
        tuning = EngineTuning(extra_layer_slots=slots, gpu_memory_share=0.8, live=True)

    def with_dummy_weights(*args: Any, **kwargs: Any) -> Any:
        plan = plan_engine(*args, **kwargs)
        plan.arguments["load_format"] = "dummy"
        return plan

    if dummy:
        module.plan_engine = with_dummy_weights
    try:
        engine = open_engine(spec, checkpoint, tuning)
    finally:
        module.plan_engine = plan_engine
    try:
        yield engine
    finally:
        engine.close()


def random_tokens(rng: random.Random, count: int) -> tuple[int, ...]:
    """Token ids that every vocabulary here has."""
    return tuple(rng.randrange(3, 300) for _ in range(count))


def random_prompts(count: int, length: int) -> list[tuple[int, ...]]:
    """Prompts of token ids, the same for the same count."""
    rng = random.Random(count)
    return [random_tokens(rng, length) for _ in range(count)]


def random_questions(sizes: Sizes) -> list[ScoreRequest]:
    """Seven choices of three tokens behind a shared few-shot prompt, as BBH has them."""
    rng = random.Random(0)
    shared = random_tokens(rng, sizes.context)
    return [
        ScoreRequest(
            context=shared + random_tokens(rng, rng.randrange(10, 60 if not sizes.tiny else 20)),
            continuations=tuple(random_tokens(rng, 3) for _ in range(7)),
        )
        for _ in range(sizes.questions)
    ]


def wait_for_device() -> None:
    """Wait until the GPU has finished its work; nothing on a CPU."""
    if has_gpu():
        torch.cuda.synchronize()


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, the device's work included, and its result."""
    wait_for_device()
    begun = time.perf_counter()
    value = run()
    wait_for_device()
    return time.perf_counter() - begun, value


def engine_settings(engine: Any) -> Result:
    """What runs."""
    spec, outside = engine.spec, engine._unscheduled
    return {
        "execution": str(spec.execution),
        "attention": spec.attention_backend,
        "limits": None if outside is None else outside.limits.__dict__,
    }
