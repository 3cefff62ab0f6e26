"""The engine specification, its digest, and the interface that every engine has.

An engine turns token ids into log-probabilities and tokens. Text, tasks, templates and scoring stay
outside (`evals/harness`), and engines are opened in `evals/engines.py`, so that every engine is measured with the same requests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from evals.layer_visits import VisitPath
from evals.weights import LoadedWeights, StreamedWeights


class Frozen(BaseModel):
    """Base of the records of evals and of the packages above it: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def digest_of(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """First 16 hex digits of the sha256 of the value's canonical JSON (keys sorted, no spaces)."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class EngineKind(StrEnum):
    """The inference backends."""

    VLLM = "vllm"
    TRANSFORMERS = "transformers"


class DeviceKind(StrEnum):
    """The kinds of device that engines run on: each has kernels of its own, so the kind affects a score."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"


class ExecutionMode(StrEnum):
    """How an engine runs its forward passes; each mode has kernels or fusions of its own."""

    EAGER = "eager"
    """One operation after another."""
    GRAPHS = "graphs"
    """vLLM: decode steps replay full CUDA graphs; no torch.compile, so the kernels are those of eager."""
    COMPILED = "compiled"
    """vLLM: torch.compile fuses operations. No live layer path can be set."""


AUTO_ATTENTION = "auto"
"""The backend that the engine chooses for device, dtype and checkpoint, where planning does not know which that is."""


class EngineSpec(Frozen):
    """All settings of an engine that affect a score; part of the score's identity through `digest`.

    Plans set every field. `device`, `execution`, `attention_backend` and `batch_invariant` may be null: in a stored result
    they were not recorded (results of earlier versions), and `engines.open_engine` fills them with what the engine runs.
    """

    kind: EngineKind = Field(description="Inference backend.")
    version: str = Field(description="Version of the backend's package, for example '0.32.0+cpu'.")
    dtype: str = Field(
        default="bfloat16", description="Dtype of weights and activations: bfloat16, float16 or float32."
    )
    quantization: str | None = Field(
        default=None, description="How the checkpoint's weights are quantised, or null."
    )
    kv_cache_dtype: str = Field(
        default="auto", description="Dtype of the KV cache; 'auto' is the model's dtype."
    )
    tensor_parallel: int = Field(default=1, ge=1, description="Number of GPUs that share each layer.")
    max_length: int | None = Field(
        default=None, description="Longest sequence in tokens; null is the checkpoint's own limit."
    )
    trust_remote_code: bool = Field(default=False, description="Whether code from the checkpoint may run.")
    device: DeviceKind | None = Field(
        default=None, description="Kind of device: cpu, cuda or rocm; null where it was not recorded."
    )
    execution: ExecutionMode | None = Field(
        default=None, description="eager, graphs or compiled; null where it was not recorded."
    )
    attention_backend: str | None = Field(
        default=None,
        description="Attention backend by the engine's name for it, for example FLASH_ATTN; 'auto' is the engine's choice, "
        "null was not recorded.",
    )
    batch_invariant: bool | None = Field(
        default=None,
        description="Whether kernels are used whose results do not depend on the batch; null where it was not recorded.",
    )

    @model_serializer(mode="wrap")
    def _without_unrecorded(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not recorded, so that a result of an earlier version keeps the digest it was stored under."""
        data: dict[str, Any] = serialize(self)
        return {name: value for name, value in data.items() if value is not None or name not in LATER_FIELDS}

    @property
    def digest(self) -> str:
        """Identity of these settings."""
        return digest_of(self)

    @property
    def digest_without_length(self) -> str:
        """Identity but for the longest sequence, in which the suites of one run differ: one engine of a run."""
        return self.model_copy(update={"max_length": None}).digest


LATER_FIELDS = frozenset({"device", "execution", "attention_backend", "batch_invariant"})
"""Fields of EngineSpec that results of earlier versions do not have."""


class EngineTuning(Frozen):
    """Settings that change speed and memory but never a score; not part of any identity."""

    batch_size: int | None = Field(
        default=None, description="Sequences per batch; null lets the engine choose."
    )
    kv_cache_gib: float | None = Field(
        default=None, description="KV-cache size in GiB on a CPU; null chooses from memory."
    )
    gpu_memory_share: float = Field(default=0.9, description="Share of GPU memory that vLLM may use.")
    block_size: int | None = Field(
        default=None, description="KV-cache block in tokens; null is the machine's default."
    )
    threads: int | None = Field(
        default=None, description="CPU threads; null uses all cores that the process may use."
    )
    live: bool = Field(
        default=False,
        description="Whether live layer paths will be set; also with paths that add no layer, such as one that skips some.",
    )
    extra_layer_slots: int = Field(
        default=0,
        ge=0,
        description="KV-cache slots for layers beyond the checkpoint's own, for live layer paths; more than 0 implies `live`.",
    )

    @property
    def sets_paths(self) -> bool:
        """Whether the engine must be able to change its layer path."""
        return self.live or self.extra_layer_slots > 0


class EngineMemory(Frozen):
    """What an engine holds, over all its devices."""

    weight_bytes: int | None = Field(description="Size of the weights; null where the engine cannot tell.")
    layer_slots: int | None = Field(
        description="Layers with a KV cache of their own; null is as many as a path needs."
    )
    block_size: int | None = Field(
        description="Tokens of one KV-cache block; null where there are no blocks."
    )
    kv_cache_tokens: int | None = Field(
        description="Tokens that the KV cache holds; null where it grows as needed."
    )
    kv_cache_bytes: int | None = Field(description="Size of the KV cache; null where it grows as needed.")


class ScoreRequest(Frozen):
    """Log-probabilities of several continuations of one context (a multiple-choice question, or one string)."""

    context: tuple[int, ...] = Field(description="Token ids of the context, at least one.")
    continuations: tuple[tuple[int, ...], ...] = Field(
        description="Token ids of each continuation, each at least one."
    )


class ScoreResult(Frozen):
    """Answer to a ScoreRequest: one entry per continuation, in order."""

    logprobs: tuple[float, ...] = Field(
        description="Sum of the continuation's token log-probabilities, natural log."
    )
    is_greedy: tuple[bool, ...] = Field(
        description="Whether greedy decoding would have written the continuation."
    )


class Sampling(Frozen):
    """How tokens are drawn; the same seed draws the same tokens on the same engine, whatever else is in the batch."""

    temperature: float = Field(gt=0, description="Divides the logits.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Share of probability that tokens are drawn from."
    )
    top_k: int = Field(default=0, ge=0, description="Number of likeliest tokens to draw from; 0 for all.")
    seed: int = Field(ge=0, description="Seed of this continuation.")


class GenerateRequest(Frozen):
    """Continuation of a prompt: greedy (temperature 0), or drawn at random."""

    prompt: tuple[int, ...] = Field(description="Token ids of the prompt, at least one.")
    max_new_tokens: int = Field(ge=1, description="Most tokens to generate.")
    stop: tuple[str, ...] = Field(
        default=(), description="Strings that end the generation; not part of the text."
    )
    sampling: Sampling | None = Field(default=None, description="How tokens are drawn; null for greedy.")


class GenerateResult(Frozen):
    """Answer to a GenerateRequest."""

    text: str = Field(description="The generated text, cut before the first stop string.")
    n_tokens: int = Field(description="Number of tokens that were generated.")
    finish_reason: str = Field(
        description="'stop' (end token or stop string) or 'length' (ran into max_new_tokens)."
    )


RequestFilter = Callable[[int], bool]
"""Called with a request's index right before the engine begins it; a request that it rejects gets no answer."""


def accept_all(index: int) -> bool:
    """Accept every request."""
    return True


class Engine(Protocol):
    """What every engine offers. Results are yielded as (index of the request, result) as soon as they are known,
    in any order, so that the caller can write them down before the batch ends. Scores are begun in the order of
    their contexts, generations with the longest prompts, limit by limit."""

    spec: EngineSpec
    checkpoint: Path

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens that the engine takes."""

    def score(
        self, requests: Sequence[ScoreRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, ScoreResult]]:
        """Log-probabilities of continuations."""

    def generate(
        self, requests: Sequence[GenerateRequest], accepts: RequestFilter = accept_all
    ) -> Iterator[tuple[int, GenerateResult]]:
        """Greedy generations."""

    def set_layer_path(self, layers: VisitPath | None) -> None:
        """From the next request on, run these visits of layers in this order; None is the checkpoint as it is."""

    @property
    def weights(self) -> LoadedWeights:
        """The weights that the engine holds."""

    def load_weights(self, weights: StreamedWeights | None) -> None:
        """Replace all weights, from the next request on; None restores the checkpoint's own. Also ends a live layer path.

        Raises EngineError, before anything is changed, where the engine cannot do so. After any error of the change itself the
        engine answers no request any more.
        """

    def close(self) -> None:
        """Free the engine's memory and processes."""


class PathEngine(Engine, Protocol):
    """An engine that runs many live layer paths; all of ours are. Paths share what work they can, and the engine's own
    layer path is afterwards what it was before."""

    @property
    def memory(self) -> EngineMemory:
        """What the engine holds."""

    def score_paths(
        self, requests: Sequence[ScoreRequest], paths: Sequence[VisitPath]
    ) -> Iterator[tuple[int, int, ScoreResult]]:
        """(index of the path, index of the request, result) for every request on every path, in any order."""

    def generate_paths(
        self, requests: Sequence[GenerateRequest], paths: Sequence[VisitPath]
    ) -> Iterator[tuple[int, int, GenerateResult]]:
        """(index of the path, index of the request, result) for every request on every path, in any order."""


class InstalledEngine(Frozen):
    """An engine as it is installed where jobs will run: what a plan needs to know of that place."""

    kind: EngineKind = Field(description="Inference backend.")
    version: str = Field(description="Version of the backend's package, for example '0.32.0+cpu'.")
    device: DeviceKind = Field(description="Kind of device that it runs on.")
    compute_capability: tuple[int, int] | None = Field(
        default=None,
        description="Of a CUDA device, for example (9, 0); null on others and where none was asked.",
    )
