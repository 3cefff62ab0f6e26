"""What every probe has: its questions, its prompts, its scoring and the levels that tell what a value means.

    probe = get_probe("arithmetic-easy-scored-search")
    requests = probe.requests(tokenizer, ChatTemplate.OFF)      # once for thousands of layer paths
    results = {i: r for i, r in engine.score(requests)}          # engine.generate for a generated form
    probe.score([results[i] for i in range(len(requests))]).value(Scoring.CORRECTED)

A probe is a small screening set. Its values are never reported as benchmark scores.
"""

from __future__ import annotations

import functools
import hashlib
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

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
"""Raised when a scoring changes; part of every probe's digest."""

_MEANINGS = {
    LevelKind.RANDOM: "Answers at random.",
    LevelKind.CONSTANT: "Gives one and the same answer to every item, the one that pays best.",
    LevelKind.ECHO: "Repeats what the question says.",
    LevelKind.RIGHT: "Gives the right answer as the question asks for it.",
    LevelKind.CEILING: "Gives the answer that this scoring rewards most.",
}


class Probe(Frozen, ABC, Generic[Item]):
    """A set of questions in one form, with its scoring. Subclasses say what a question is."""

    family: Family = Field(description="What the probe is about.")
    difficulty: Difficulty = Field(description="How hard its questions are.")
    form: Form = Field(description="Whether answers are written or scored by their probabilities.")
    split: Split = Field(description="Search set or confirmation set.")
    style: Style = Field(description="What stands around the questions.")
    items: tuple[Item, ...] = Field(description="The questions with their right answers.")
    max_new_tokens: int = Field(default=64, ge=1, description="Most tokens that a written answer may have.")

    @property
    def key(self) -> str:
        """`family-difficulty-form`, the same for both splits."""
        return f"{self.family}-{self.difficulty}-{self.form}"

    @property
    def name(self) -> str:
        """`family-difficulty-form-split`."""
        return f"{self.key}-{self.split}"

    @property
    def digest(self) -> str:
        """Identity of definition, prompts, data and scoring."""
        return _digest(self)

    @property
    def scorings(self) -> tuple[Scoring, ...]:
        """The scorings that the probe has."""
        return (Scoring.PUBLISHED, Scoring.CORRECTED)

    # --- what a subclass says ---

    @abstractmethod
    def asks(self, item: Item) -> tuple[Ask, ...]:
        """The questions that one item becomes: one for a written answer, one or more for a scored one."""

    @abstractmethod
    def score_item(self, index: int, item: Item, answers: Sequence[Result]) -> ItemResult:
        """Credit of one item from the answers to its questions."""

    @abstractmethod
    def level_answers(self, kind: LevelKind) -> Iterator[tuple[Result, ...]]:
        """Complete sets of answers of one kind of answerer; none where the kind makes no sense."""

    def calibrated(self, results: Sequence[Result]) -> Sequence[Result]:
        """The results as they are scored; a subclass may take out what all items have in common."""
        return results

    # --- what follows from it ---

    def requests(self, tokenizer: Tokenizer, chat_template: ChatTemplate) -> tuple[Request, ...]:
        """The engine's requests, in the order in which `score` wants their results; the same for every layer path."""
        made: list[Request] = []
        for ask, text in zip(self._all_asks(), self.prompts(tokenizer, chat_template), strict=True):
            if self.form is Form.SCORED:
                made.append(score_request(tokenizer, chat_template, text, ask.options))
            else:
                stop = (
                    (f"\n{self.style.question_label.strip()}",) if self.style.question_label.strip() else ()
                )
                prompt = prompt_ids(tokenizer, chat_template, text)
                made.append(GenerateRequest(prompt=prompt, max_new_tokens=self.max_new_tokens, stop=stop))
        return tuple(made)

    def prompts(self, tokenizer: Tokenizer, chat_template: ChatTemplate) -> tuple[str, ...]:
        """The prompts as text, one per request."""
        return tuple(prompt_text(tokenizer, chat_template, self.style, ask) for ask in self._all_asks())

    def score(self, results: Sequence[Result]) -> ProbeResult:
        """Credits from the results of all requests, in their order."""
        wanted = ScoreResult if self.form is Form.SCORED else GenerateResult
        counts = [len(self.asks(item)) for item in self.items]
        if len(results) != sum(counts) or not all(isinstance(r, wanted) for r in results):
            raise ProbeError(
                f"{self.name} needs {sum(counts)} results of kind {wanted.__name__} and got {len(results)}: "
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
        """What answerers without a model get: the null levels, the right answer and the ceiling."""
        return _levels(self)

    def null(self, scoring: Scoring) -> float:
        """The best value that knowing nothing gets."""
        return max(level.value for level in self.levels() if level.kind.is_null and level.scoring is scoring)

    def ceiling(self, scoring: Scoring) -> float:
        """The highest value that the scoring can give on these items."""
        return max(level.value for level in self.levels() if level.scoring is scoring)

    def samples(self, results: Sequence[Result], prompts: Sequence[str]) -> tuple[Sample, ...]:
        """The answers as rows of a samples file; `prompts` as `self.prompts` gives them."""
        found = self.score(results)
        rows, start = [], 0
        for item, data in zip(found.items, self.items, strict=True):
            count = len(self.asks(data))
            rows.append(
                self._sample(item, data, results[start : start + count], prompts[start : start + count])
            )
            start += count
        return tuple(rows)

    def _sample(
        self, found: ItemResult, data: Item, answers: Sequence[Result], prompts: Sequence[str]
    ) -> Sample:
        scored = [answer for answer in answers if isinstance(answer, ScoreResult)]
        written = [answer for answer in answers if isinstance(answer, GenerateResult)]
        metrics = {str(scoring): found.credit(scoring) for scoring in self.scorings}
        return Sample(
            benchmark=self.name,
            subset=self.name,
            doc_id=found.item,
            doc_hash=digest_of(data),
            prompt_hash=hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:16],
            target=found.target,
            choices=tuple(option for ask in self.asks(data) for option in ask.options) if scored else (),
            logprobs=tuple(value for answer in scored for value in answer.logprobs),
            response=found.response,
            extracted=found.extracted,
            n_tokens=sum(answer.n_tokens for answer in written),
            truncated=any(answer.finish_reason == "length" for answer in written),
            metrics=metrics,
            correct=found.corrected,
        )

    def _all_asks(self) -> list[Ask]:
        return [ask for item in self.items for ask in self.asks(item)]


def written(texts: Sequence[str]) -> tuple[Result, ...]:
    """Texts as if an engine had written them."""
    return tuple(GenerateResult(text=text, n_tokens=0, finish_reason="stop") for text in texts)


def certain(options: int, chosen: int) -> ScoreResult:
    """The result of an engine that is sure of one option."""
    return spread([float(n == chosen) for n in range(options)])


def spread(probabilities: Sequence[float]) -> ScoreResult:
    """The result of an engine with these probabilities."""
    logprobs = tuple(math.log(p) if p > 0 else -math.inf for p in probabilities)
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return ScoreResult(logprobs=logprobs, is_greedy=tuple(n == best for n in range(len(probabilities))))


AnyProbe = Probe[Any]
"""A probe of whatever items."""


@functools.lru_cache(maxsize=128)
def _digest(probe: AnyProbe) -> str:
    return digest_of({"probe": probe.model_dump(mode="json"), "scoring_version": SCORING_VERSION})


@functools.lru_cache(maxsize=128)
def _levels(probe: AnyProbe) -> tuple[Level, ...]:
    found = []
    for kind in LevelKind:
        runs = [probe.score(answers) for answers in probe.level_answers(kind)]
        for scoring in probe.scorings if runs else ():
            values = [run.value(scoring) for run in runs]
            value = statistics.fmean(values) if kind is LevelKind.RANDOM else max(values)
            found.append(Level(kind=kind, scoring=scoring, value=value, meaning=_MEANINGS[kind]))
    return tuple(found)
