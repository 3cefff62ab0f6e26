"""The records of a measurement: settings, scores, samples and alarms, with a sentence for every field."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from evals.engine import EngineSpec, Frozen

PROBE_SUITE = "probes"
"""Suite under whose name the values of probes are kept. No board has it: they screen layer paths and are no benchmark scores."""


class ChatTemplate(StrEnum):
    """Whether prompts are wrapped in the tokenizer's chat template. `auto` is resolved at planning, never stored."""

    ON = "on"
    OFF = "off"


class Seeds(Frozen):
    """The harness's four seeds; the defaults are lm-eval's own and the leaderboards'."""

    random: int = Field(default=0, description="Seed of Python's random.")
    numpy: int = Field(default=1234, description="Seed of numpy.")
    torch: int = Field(default=1234, description="Seed of torch.")
    fewshot: int = Field(default=1234, description="Seed of the few-shot sampler.")


class EvalSettings(Frozen):
    """Everything besides weights, suite and engine that affects a score."""

    chat_template: ChatTemplate = Field(description="Whether the chat template was applied.")
    fewshot_as_multiturn: bool = Field(description="Whether few-shot examples were turns of a chat.")
    add_bos_token: bool | None = Field(
        default=None,
        description="Whether a BOS token was put before each prompt; null is the tokenizer's default.",
    )
    limit: int | None = Field(
        default=None, ge=1, description="Only the first documents of each subset; null is all."
    )
    seeds: Seeds = Field(default_factory=Seeds, description="The harness's seeds.")


class AlarmKind(StrEnum):
    """What can be unhealthy about a set of responses."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    UNPARSED = "unparsed"
    REPETITIVE = "repetitive"
    IDENTICAL = "identical"


class Alarm(Frozen):
    """A share of unhealthy responses that makes a score doubtful; it goes wherever the score goes."""

    kind: AlarmKind = Field(description="What is unhealthy.")
    share: float = Field(ge=0, le=1, description="Share of the subset's responses that are so.")
    threshold: float = Field(ge=0, le=1, description="Share above which the alarm is raised.")


class Score(Frozen):
    """One metric of one subset."""

    benchmark: str = Field(description="Benchmark of the suite, for example 'bbh'.")
    subset: str = Field(description="lm-eval task, for example 'leaderboard_bbh_snarks'.")
    metric: str = Field(description="Metric as lm-eval names it, for example 'acc_norm'.")
    value: float = Field(description="The metric as a fraction, 0 to 1.")
    stderr: float | None = Field(
        description="Standard error of value as lm-eval gives it; null where it has none."
    )
    n: int = Field(ge=1, description="Number of samples behind the value.")
    n_full: int = Field(
        ge=1, description="Number of samples of the whole subset; more than n where a limit was set."
    )
    lower_bound: float = Field(ge=0, lt=1, description="Value of random guessing.")
    task_version: str = Field(description="Version that lm-eval gives the task.")
    alarms: tuple[Alarm, ...] = Field(default=(), description="Why the score is doubtful, if it is.")

    @property
    def partial(self) -> bool:
        """Whether only a part of the subset was scored."""
        return self.n < self.n_full


class BenchmarkScore(Frozen):
    """A benchmark as its leaderboard shows it, made from the scores of its subsets."""

    benchmark: str = Field(description="Benchmark of the suite.")
    title: str = Field(description="Name for people, for example 'MATH Lvl 5'.")
    metric: str = Field(description="Metric as lm-eval names it.")
    raw: float = Field(description="Raw value as the board's raw column has it, 0 to 1.")
    normalized: float = Field(description="As the leaderboard shows it, 0 to 100.")
    n: int = Field(description="Number of samples.")
    partial: bool = Field(description="Whether any subset is partial or missing.")
    comparable_to_board: bool = Field(description="Whether this is the board's own procedure.")
    remark: str | None = Field(default=None, description="Why it is not the board's, where it is not.")
    alarms: tuple[Alarm, ...] = Field(default=(), description="Alarms of any of its subsets.")


class Sample(Frozen):
    """One document's answer. Stored as a row of a Parquet file, one file per evaluation job."""

    benchmark: str = Field(description="Benchmark of the suite.")
    subset: str = Field(description="lm-eval task.")
    doc_id: int = Field(ge=0, description="Row of the document in the task's split, before any limit.")
    doc_hash: str = Field(
        description="First 16 hex digits of the sha256 of the document as lm-eval renders it."
    )
    prompt_hash: str = Field(
        description="First 16 hex digits of the sha256 of the prompt text with its template."
    )
    target: str = Field(description="The right answer as the task gives it.")
    choices: tuple[str, ...] = Field(
        default=(), description="Continuations that were scored; empty where text was written."
    )
    logprobs: tuple[float, ...] = Field(
        default=(), description="Log-probability of each choice, natural log."
    )
    response: str = Field(description="The written text, or the chosen continuation.")
    extracted: str | None = Field(
        default=None, description="The answer that was found in the response; null if none."
    )
    n_tokens: int = Field(default=0, description="Tokens that were generated.")
    truncated: bool = Field(default=False, description="Whether the response ran into its length limit.")
    metrics: dict[str, float] = Field(
        description="Every metric of this document, 0 to 1, as lm-eval gives it."
    )
    correct: float = Field(ge=0, le=1, description="The benchmark's own metric for this document.")
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="For metrics over several items of a document (IFEval's instructions), the number of items.",
    )


class Evaluation(Frozen):
    """What one evaluation gave: one benchmark of one suite on one checkpoint or layer path."""

    suite: str = Field(description="Name of the suite.")
    benchmark_digest: str = Field(description="Digest of the benchmark's definition in the suite.")
    engine: EngineSpec = Field(description="The engine that served it.")
    settings: EvalSettings = Field(description="The settings that it ran with.")
    scores: tuple[Score, ...] = Field(description="Every metric of every subset.")
    result: BenchmarkScore = Field(description="The benchmark as the leaderboard shows it.")
    n_requests: int = Field(description="Requests that were needed.")
    n_replayed: int = Field(description="Of these, requests whose answers came from the journal.")
    duration_s: float = Field(description="Wall-clock seconds, engine start left out.")


class SuiteScore(Frozen):
    """A whole suite: its benchmarks and, only where all of them are there and whole, the board's average."""

    suite: str = Field(description="Name of the suite.")
    benchmarks: tuple[BenchmarkScore, ...] = Field(
        description="The benchmarks that are there, in the suite's order."
    )
    missing: tuple[str, ...] = Field(description="Names of the benchmarks that are not there.")
    average: float | None = Field(
        description="The board's average, 0 to 100; null where a benchmark is missing or partial."
    )
    partial_average: float | None = Field(
        description="Mean of the benchmarks that are there; never the board's average."
    )
