"""Records of a measurement: settings, scores, samples and alarms."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evals.engine import EngineSpec, Frozen

PROBE_SUITE = "probes"
"""Suite name of stored probe values. Probes screen layer paths; their values are not benchmark scores of any leaderboard."""


class ChatTemplate(StrEnum):
    """Whether prompts use the tokenizer's chat template. `auto` is resolved at planning and never stored."""

    ON = "on"
    OFF = "off"


class Seeds(Frozen):
    """The four seeds of lm-eval; the defaults are those of lm-eval and the leaderboards."""

    random: int = Field(default=0, description="Seed of Python's random.")
    numpy: int = Field(default=1234, description="Seed of numpy.")
    torch: int = Field(default=1234, description="Seed of torch.")
    fewshot: int = Field(default=1234, description="Seed of the few-shot sampler.")


class EvalSettings(Frozen):
    """Everything besides weights, suite and engine that affects a score."""

    chat_template: ChatTemplate = Field(description="Whether the chat template was applied.")
    fewshot_as_multiturn: bool = Field(description="Whether few-shot examples were given as turns of a chat.")
    add_bos_token: bool | None = Field(
        default=None,
        description="Whether a BOS token was put before each prompt; null is the tokenizer's default.",
    )
    limit: int | None = Field(
        default=None, ge=1, description="Number of first documents of each subset; null for all."
    )
    seeds: Seeds = Field(default_factory=Seeds, description="The harness's seeds.")


class AlarmKind(StrEnum):
    """Kind of an abnormality in a subset's responses."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNPARSED = "unparsed"
    REPETITIVE = "repetitive"
    IDENTICAL = "identical"


class Alarm(Frozen):
    """A share of abnormal responses that makes a score doubtful; stored and shown with the score."""

    kind: AlarmKind = Field(description="Kind of abnormality.")
    share: float = Field(ge=0, le=1, description="Share of abnormal responses in the subset.")
    threshold: float = Field(ge=0, le=1, description="Share above which the alarm is raised.")


class Score(Frozen):
    """One metric of one subset."""

    benchmark: str = Field(description="Benchmark of the suite, for example 'bbh'.")
    subset: str = Field(description="lm-eval task, for example 'leaderboard_bbh_snarks'.")
    metric: str = Field(description="Metric as lm-eval names it, for example 'acc_norm'.")
    value: float = Field(description="The metric as a fraction, 0 to 1.")
    stderr: float | None = Field(description="Standard error of value from lm-eval; null if it reports none.")
    n: int = Field(ge=1, description="Number of samples behind the value.")
    n_full: int = Field(
        ge=1, description="Number of samples of the whole subset; more than n if a limit was set."
    )
    lower_bound: float = Field(ge=0, lt=1, description="Value of random guessing.")
    task_version: str = Field(description="Task version from lm-eval.")
    alarms: tuple[Alarm, ...] = Field(default=(), description="Why the score is doubtful, if it is.")

    @property
    def partial(self) -> bool:
        """Whether only a part of the subset was scored."""
        return self.n < self.n_full


class BenchmarkScore(Frozen):
    """A benchmark's result as its leaderboard shows it, computed from the scores of its subsets."""

    benchmark: str = Field(description="Benchmark of the suite.")
    title: str = Field(description="Display name, for example 'MATH Lvl 5'.")
    metric: str = Field(description="Metric as lm-eval names it.")
    raw: float = Field(description="Raw value as in the board's raw column, 0 to 1.")
    normalized: float = Field(description="Value on the leaderboard's scale, 0 to 100.")
    n: int = Field(description="Number of samples.")
    partial: bool = Field(description="Whether any subset is partial or missing.")
    comparable_to_board: bool = Field(description="Whether the procedure is the board's.")
    remark: str | None = Field(
        default=None, description="Why the procedure is not the board's; null if it is."
    )
    alarms: tuple[Alarm, ...] = Field(default=(), description="Alarms of any of its subsets.")


class SampleItem(Frozen):
    """One item of a document that is scored in several items, for example one instruction of IFEval."""

    name: str = Field(description="Name of the item in the data set, or its number.")
    metric: str = Field(description="Metric as lm-eval names it.")
    value: float = Field(description="The item's value of this metric, 0 to 1.")


class Sample(Frozen):
    """One document's answer, stored as a row of a Parquet file; one file per evaluation job."""

    benchmark: str = Field(description="Benchmark of the suite.")
    subset: str = Field(description="lm-eval task.")
    doc_id: int = Field(ge=0, description="Row of the document in the task's split, before any limit.")
    doc_hash: str = Field(
        description="First 16 hex digits of the sha256 of the document as lm-eval renders it."
    )
    prompt_hash: str = Field(
        description="First 16 hex digits of the sha256 of the prompt text with its chat template."
    )
    target: str = Field(description="The correct answer according to the task.")
    choices: tuple[str, ...] = Field(
        default=(), description="Scored continuations; empty for generated answers."
    )
    logprobs: tuple[float, ...] = Field(
        default=(), description="Log-probability of each choice, natural log."
    )
    response: str = Field(description="The generated text, or the chosen continuation.")
    extracted: str | None = Field(
        default=None, description="The answer extracted from the response; null if none."
    )
    n_tokens: int = Field(default=0, description="Number of generated tokens.")
    truncated: bool = Field(default=False, description="Whether the response reached its length limit.")
    metrics: dict[str, float] = Field(description="Every metric of this document from lm-eval, 0 to 1.")
    correct: float = Field(
        ge=0,
        description="The benchmark's own metric for this document: 0 to 1, or of any size for perplexity (bits per byte).",
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="For metrics over several items of a document (IFEval's instructions), the number of items.",
    )
    items: tuple[SampleItem, ...] = Field(
        default=(),
        description="For such metrics, every item's value; empty in samples of earlier versions and of imports.",
    )
    sums: tuple[float, ...] = Field(
        default=(),
        description="For a metric over all documents (F1, BLEU), the numbers whose sums over the documents give it; else empty.",
    )
    cluster: str | None = Field(
        default=None,
        description="Hash of the passage, story or source that the question shares with others; null if unknown or none.",
    )


class Evaluation(Frozen):
    """Result of one evaluation: one benchmark of one suite on one checkpoint or layer path."""

    suite: str = Field(description="Name of the suite.")
    benchmark_digest: str = Field(description="Digest of the benchmark's definition in the suite.")
    engine: EngineSpec = Field(description="The engine that served it.")
    settings: EvalSettings = Field(description="The settings of the evaluation.")
    scores: tuple[Score, ...] = Field(description="Every metric of every subset.")
    result: BenchmarkScore = Field(description="The benchmark's result as the leaderboard shows it.")
    n_requests: int = Field(description="Number of requests.")
    n_replayed: int = Field(description="Number of requests answered from the journal.")
    duration_s: float = Field(description="Wall-clock seconds without the engine's start.")


class SuiteScore(Frozen):
    """A suite's result: its benchmarks and, if none is missing or partial, the board's average."""

    suite: str = Field(description="Name of the suite.")
    benchmarks: tuple[BenchmarkScore, ...] = Field(
        description="The evaluated benchmarks, in the suite's order."
    )
    missing: tuple[str, ...] = Field(description="Names of the benchmarks that were not evaluated.")
    average: float | None = Field(
        description="The board's average, 0 to 100; null if a benchmark is missing or partial."
    )
    partial_average: float | None = Field(
        description="Mean of the evaluated benchmarks; not the board's average."
    )
