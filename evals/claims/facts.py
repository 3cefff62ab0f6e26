"""Known circumstances of a score, and the differences between two scores besides their weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from evals.engine import EngineSpec, Frozen
from evals.scores import ChatTemplate, EvalSettings, Evaluation
from evals.suite import Benchmark

NOT_QUANTIZED = "none"
ALL_DOCUMENTS = "all documents"
NOT_RECORDED = "not recorded"
"""Execution mode of results of earlier versions, which stored neither it nor the device. It differs from every mode, so that such
results are not compared with those whose mode is known."""
_OWN = "the checkpoint's own"
TOKENIZERS_DEFAULT = "the tokenizer's default"


class Fact(StrEnum):
    """A circumstance that affects a score besides the weights; the value is its display name."""

    SUITE = "suite"
    BENCHMARK = "benchmark"
    STAGE = "scoring stage"
    LIMIT = "number of documents"
    SHOTS = "few-shot examples"
    PROTOCOL = "protocol"
    TEMPLATE = "chat template"
    TEMPLATE_TEXT = "text of the chat template"
    SYSTEM_PROMPT = "system prompt"
    MULTITURN = "few-shot examples as turns"
    DTYPE = "precision"
    QUANTIZATION = "quantisation"
    DEFINITION = "definition of the benchmark"
    TASK_VERSION = "task version"
    DATA = "data set"
    PROMPTS = "prompts"
    BOS = "BOS token"
    MAX_LENGTH = "longest sequence"
    GENERATION = "generation settings"
    KV_CACHE = "KV-cache type"
    ENGINE = "engine"
    ENGINE_VERSION = "engine version"
    TENSOR_PARALLEL = "tensor parallelism"
    DEVICE = "device"
    EXECUTION = "execution mode"
    ATTENTION = "attention backend"
    BATCH_INVARIANCE = "batch-invariant kernels"
    HARNESS = "harness"
    HARNESS_VERSION = "harness version"
    SCORER = "scorer version"
    SEEDS = "seeds"


# Published numbers state few circumstances, and the board's engine and harness version always differ from ours. A difference
# in one of these makes a claim not comparable.
OF_CLAIMS = (
    Fact.SUITE,
    Fact.BENCHMARK,
    Fact.STAGE,
    Fact.LIMIT,
    Fact.SHOTS,
    Fact.TEMPLATE,
    Fact.SYSTEM_PROMPT,
    Fact.DTYPE,
    Fact.QUANTIZATION,
    Fact.HARNESS,
)


class Difference(Frozen):
    """One known circumstance in which two scores differ."""

    fact: Fact = Field(description="The circumstance.")
    left: str = Field(description="Its value on the first side.")
    right: str = Field(description="Its value on the second side.")

    def sentence(self, left_name: str = "base", right_name: str = "candidate") -> str:
        """The difference in words, for example 'chat template: on (base), off (candidate)'."""
        return f"{self.fact}: {self.left} ({left_name}), {self.right} ({right_name})"


class Facts(Frozen):
    """Known circumstances of one score; those missing from `known` are unknown."""

    known: dict[Fact, str] = Field(
        default_factory=dict, description="Value of each known circumstance, as text."
    )

    def get(self, fact: Fact) -> str | None:
        """The value of a circumstance; None if it is unknown."""
        return self.known.get(fact)

    def plus(self, more: Mapping[Fact, str | None]) -> Facts:
        """These facts, updated with those of `more` that are not None."""
        return Facts(known={**self.known, **{k: v for k, v in more.items() if v is not None}})

    def differences(self, other: Facts, of: Iterable[Fact] = tuple(Fact)) -> tuple[Difference, ...]:
        """The circumstances that are known on both sides and differ."""
        shared = [f for f in of if f in self.known and f in other.known]
        return tuple(
            Difference(fact=f, left=self.known[f], right=other.known[f])
            for f in shared
            if self.known[f] != other.known[f]
        )


def facts_of(evaluation: Evaluation) -> Facts:
    """The circumstances of an evaluation by mergeboard; all are known."""
    versions = {s.subset: s.task_version for s in evaluation.scores}
    return measured_facts(
        evaluation.suite, evaluation.result.benchmark, evaluation.engine, evaluation.settings
    ).plus(
        {
            Fact.DEFINITION: evaluation.benchmark_digest,
            Fact.TASK_VERSION: versions_text(versions),
        }
    )


def measured_facts(suite: str, benchmark: str, engine: EngineSpec, settings: EvalSettings) -> Facts:
    """The circumstances that follow from an engine and its settings."""
    seeds = settings.seeds
    recorded: dict[Fact, str | None] = {
        Fact.DEVICE: engine.device,
        Fact.EXECUTION: engine.execution or NOT_RECORDED,
        Fact.ATTENTION: engine.attention_backend,
        Fact.BATCH_INVARIANCE: None if engine.batch_invariant is None else on_off(engine.batch_invariant),
    }
    return Facts(
        known={
            Fact.SUITE: suite,
            Fact.BENCHMARK: benchmark,
            Fact.HARNESS: "lm-eval",
            Fact.LIMIT: limit_text(settings.limit),
            Fact.TEMPLATE: settings.chat_template.value,
            Fact.MULTITURN: on_off(settings.fewshot_as_multiturn),
            Fact.DTYPE: engine.dtype,
            Fact.QUANTIZATION: engine.quantization or NOT_QUANTIZED,
            Fact.BOS: TOKENIZERS_DEFAULT
            if settings.add_bos_token is None
            else on_off(settings.add_bos_token),
            Fact.MAX_LENGTH: _OWN if engine.max_length is None else str(engine.max_length),
            Fact.KV_CACHE: engine.kv_cache_dtype,
            Fact.ENGINE: engine.kind.value,
            Fact.ENGINE_VERSION: engine.version,
            Fact.TENSOR_PARALLEL: str(engine.tensor_parallel),
            Fact.SEEDS: f"{seeds.random}, {seeds.numpy}, {seeds.torch}, {seeds.fewshot}",
        }
    ).plus(recorded)


def stage_of(benchmark: Benchmark, metric: str) -> str | None:
    """The scoring stage that a metric belongs to; None if the benchmark has no stages."""
    return next((s.name for s in benchmark.stages if s.metric == metric), None)


def on_off(value: bool) -> str:
    """'on' or 'off'."""
    return ChatTemplate.ON.value if value else ChatTemplate.OFF.value


def limit_text(limit: float | None) -> str:
    """A document limit in words; as in lm-eval, a limit below 1 is a share."""
    if limit is None:
        return ALL_DOCUMENTS
    return f"{limit:.0%} of the documents" if 0 < limit < 1 else f"the first {limit:g} of each subset"


def versions_text(versions: Mapping[str, Any]) -> str | None:
    """Task versions of all subsets as one text; a single version if all are equal."""
    if not versions:
        return None
    distinct = sorted({str(v) for v in versions.values()})
    return distinct[0] if len(distinct) == 1 else ", ".join(f"{k} {versions[k]}" for k in sorted(versions))
