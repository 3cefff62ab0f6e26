"""Base class of probes: questions, prompts, scoring and reference levels.

    probe = get_probe("arithmetic-easy-scored-search")
    requests = probe.requests(tokenizer, ChatTemplate.OFF)      # once for thousands of layer paths
    results = {i: r for i, r in engine.score(requests)}          # engine.generate for a generated form
    probe.score([results[i] for i in range(len(requests))]).value(Scoring.CORRECTED)

A probe is a small screening set; its values are not benchmark scores.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from pydantic import Field

from evals.engine import Frozen, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult, digest_of
from evals.probes.prompts import Ask, Style, Tokenizer, prompt_ids, prompt_text, score_request
from evals.probes.results import (
    Difficulty,
    Family,
    Form,
    ItemResult,
    Level,
    LevelKind,
    ProbeError,
    ProbeResult,
    Scoring,
    Split,
)
from evals.scores import ChatTemplate, Sample

Item = TypeVar("Item", bound=Frozen)
Request = ScoreRequest | GenerateRequest
Result = ScoreResult | GenerateResult

SCORING_VERSION = 1
"""Incremented when a scoring changes; part of every probe's digest."""

_MEANINGS = {
    LevelKind.RANDOM: "Answers at random.",
    LevelKind.CONSTANT: "Gives one and the same answer to every item, the one that pays best.",
    LevelKind.ECHO: "Repeats what the question says.",
    LevelKind.RIGHT: "Gives the right answer as the question asks for it.",
    LevelKind.CEILING: "Gives the answer that this scoring rewards most.",
}


def _is_unset(value: object) -> bool:
    """Leaves a field out of the digests of whole sets."""
    return value is None


class Probe(Frozen, ABC, Generic[Item]):
    """A set of questions in one form, with its scoring. Subclasses define the questions."""

    family: Family = Field(description="Topic of the probe.")
    difficulty: Difficulty = Field(description="Difficulty of the questions.")
    form: Form = Field(description="Whether answers are generated or scored by their probabilities.")
    split: Split = Field(description="Search set or confirmation set.")
    style: Style = Field(description="System message, examples and labels of the prompts.")
    items: tuple[Item, ...] = Field(description="The questions with their correct answers.")
    n_part: int | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="Number of items, if it is a part of a set; null for the whole set.",
    )
    max_new_tokens: int = Field(default=64, ge=1, description="Maximum tokens of a generated answer.")

    @property
    def key(self) -> str:
        """`family-difficulty-form`, the same for both splits."""
        return f"{self.family}-{self.difficulty}-{self.form}"

    @property
    def name(self) -> str:
        """`family-difficulty-form-split`, with `-partN` for a part of N items."""
        part = "" if self.n_part is None else f"-part{self.n_part}"
        return f"{self.key}-{self.split}{part}"

    @property
    def digest(self) -> str:
        """Digest of definition, prompts, data and scoring."""
        return _digest(self)

    def with_items(self, items: Sequence[int]) -> Self:
        """The probe with these of its items only."""
        return self.model_copy(update={"items": tuple(self.items[item] for item in items)})

    def requests_of(self, items: Sequence[int]) -> tuple[int, ...]:
        """Positions of the requests of these items among all requests."""
        begins = list(itertools.accumulate((len(self.asks(item)) for item in self.items), initial=0))
        return tuple(place for item in items for place in range(begins[item], begins[item + 1]))

    @property
    def scorings(self) -> tuple[Scoring, ...]:
        """The scorings that the probe has."""
        return (Scoring.PUBLISHED, Scoring.CORRECTED)

    @abstractmethod
    def asks(self, item: Item) -> tuple[Ask, ...]:
        """The questions of one item: one in the generated form, one or more in the scored form."""

    @abstractmethod
    def score_item(self, index: int, item: Item, answers: Sequence[Result]) -> ItemResult:
        """Credit of one item from the answers to its questions."""

    @abstractmethod
    def level_answers(self, kind: LevelKind) -> Iterator[tuple[Result, ...]]:
        """Complete sets of answers by one kind of reference answerer; none if the kind does not apply."""

    def part(self, n: int) -> Probe[Item]:
        """A smaller set of `n` items, evenly spread over this one; this set if it has no more."""
        count = len(self.items)
        if n >= count:
            return self
        items = tuple(self.items[place * count // n] for place in range(n))
        return self.model_copy(update={"items": items, "n_part": n})

    def calibrated(self, results: Sequence[Result]) -> Sequence[Result]:
        """The results to be scored; a subclass may calibrate them over all items."""
        return results

    def requests(self, tokenizer: Tokenizer, chat_template: ChatTemplate) -> tuple[Request, ...]:
        """The engine's requests, in the order in which `score` expects their results; the same for every layer path."""
        requests: list[Request] = []
        for ask, text in zip(self._all_asks(), self.prompts(tokenizer, chat_template), strict=True):
            if self.form is Form.SCORED:
                requests.append(score_request(tokenizer, chat_template, text, ask.options))
            else:
                stop = (
                    (f"\n{self.style.question_label.strip()}",) if self.style.question_label.strip() else ()
                )
                prompt = prompt_ids(tokenizer, chat_template, text)
                requests.append(GenerateRequest(prompt=prompt, max_new_tokens=self.max_new_tokens, stop=stop))
        return tuple(requests)

    def prompts(self, tokenizer: Tokenizer, chat_template: ChatTemplate) -> tuple[str, ...]:
        """The prompts as text, one per request."""
        return tuple(prompt_text(tokenizer, chat_template, self.style, ask) for ask in self._all_asks())

    def score(self, results: Sequence[Result]) -> ProbeResult:
        """Credits from the results of all requests, in their order."""
        result_type = ScoreResult if self.form is Form.SCORED else GenerateResult
        counts = [len(self.asks(item)) for item in self.items]
        if len(results) != sum(counts) or not all(isinstance(r, result_type) for r in results):
            raise ProbeError(
                f"{self.name} needs {sum(counts)} results of type {result_type.__name__} and got {len(results)}: "
                "give the results of all its requests, in their order."
            )
        results, scored, start = self.calibrated(results), [], 0
        for index, (item, count) in enumerate(zip(self.items, counts, strict=True)):
            scored.append(self.score_item(index, item, results[start : start + count]))
            start += count
        return ProbeResult(
            probe=self.name, key=self.key, split=self.split, digest=self.digest, items=tuple(scored)
        )

    def levels(self) -> tuple[Level, ...]:
        """Values of the reference answerers: the null levels, the correct answer and the ceiling."""
        return _levels(self)

    def null(self, scoring: Scoring) -> float:
        """The highest null level."""
        return max(level.value for level in self.levels() if level.kind.is_null and level.scoring is scoring)

    def ceiling(self, scoring: Scoring) -> float:
        """The highest reference value of the scoring on these items."""
        return max(level.value for level in self.levels() if level.scoring is scoring)

    def samples(self, results: Sequence[Result], prompts: Sequence[str]) -> tuple[Sample, ...]:
        """The answers as rows of a samples file; `prompts` is the result of `self.prompts`."""
        result = self.score(results)
        rows, start = [], 0
        for scored, item in zip(result.items, self.items, strict=True):
            count = len(self.asks(item))
            rows.append(
                self._sample(scored, item, results[start : start + count], prompts[start : start + count])
            )
            start += count
        return tuple(rows)

    def _sample(
        self, item_result: ItemResult, item: Item, answers: Sequence[Result], prompts: Sequence[str]
    ) -> Sample:
        scored = [answer for answer in answers if isinstance(answer, ScoreResult)]
        written = [answer for answer in answers if isinstance(answer, GenerateResult)]
        metrics = {str(scoring): item_result.credit(scoring) for scoring in self.scorings}
        return Sample(
            benchmark=self.name,
            subset=self.name,
            doc_id=item_result.item,
            doc_hash=digest_of(item),
            prompt_hash=hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:16],
            target=item_result.target,
            choices=tuple(option for ask in self.asks(item) for option in ask.options) if scored else (),
            logprobs=tuple(value for answer in scored for value in answer.logprobs),
            response=item_result.response,
            extracted=item_result.extracted,
            n_tokens=sum(answer.n_tokens for answer in written),
            truncated=any(answer.finish_reason == "length" for answer in written),
            metrics=metrics,
            correct=item_result.corrected,
        )

    def _all_asks(self) -> list[Ask]:
        return [ask for item in self.items for ask in self.asks(item)]


def written(texts: Sequence[str]) -> tuple[Result, ...]:
    """The results of an engine that generates these texts."""
    return tuple(GenerateResult(text=text, n_tokens=0, finish_reason="stop") for text in texts)


def certain(options: int, chosen: int) -> ScoreResult:
    """The result of an engine that gives one option the probability 1."""
    return spread([float(n == chosen) for n in range(options)])


def spread(probabilities: Sequence[float]) -> ScoreResult:
    """The result of an engine with these probabilities."""
    logprobs = tuple(math.log(p) if p > 0 else -math.inf for p in probabilities)
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return ScoreResult(logprobs=logprobs, is_greedy=tuple(n == best for n in range(len(probabilities))))


AnyProbe = Probe[Any]
"""A probe of any item type."""


@functools.lru_cache(maxsize=128)
def _digest(probe: AnyProbe) -> str:
    return digest_of({"probe": probe.model_dump(mode="json"), "scoring_version": SCORING_VERSION})


@functools.lru_cache(maxsize=128)
def _levels(probe: AnyProbe) -> tuple[Level, ...]:
    levels = []
    for kind in LevelKind:
        runs = [probe.score(answers) for answers in probe.level_answers(kind)]
        for scoring in probe.scorings if runs else ():
            values = [run.value(scoring) for run in runs]
            value = statistics.fmean(values) if kind is LevelKind.RANDOM else max(values)
            levels.append(Level(kind=kind, scoring=scoring, value=value, meaning=_MEANINGS[kind]))
    return tuple(levels)
