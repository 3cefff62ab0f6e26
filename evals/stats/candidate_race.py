"""A race of a sweep's candidates over the documents of its benchmarks: who cannot be among the best any more is not asked further.

Every candidate is asked the same part of each benchmark's documents, a random sample without replacement (`document_order`). The
question is who is among the `keep` best by the average of the benchmarks' scores on *all* documents, as the whole sweep would rank.
After each part `evals.stats.race` tells who can still be; the others leave. The error rate bounds the probability that any of the best
leaves, over all candidates and looks together. Whoever is left is asked everything.

A benchmark's value is the sum over its subsets of points times the mean of the documents' credits. On all documents it is the
normalized score, without the floor at the lower bound: a subset below random guessing counts as below 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from pydantic import Field

from evals.engine import Frozen
from evals.errors import EvaluationError
from evals.race_rule import RaceRule
from evals.scores import Sample
from evals.stats.document_order import Key, document_order
from evals.stats.paired import pooled
from evals.stats.race import RaceDecision, RaceProbe, race_look
from evals.stats.sequence import PartAnswers, SubsetPart, first_full
from evals.suite import Benchmark

EvalKey = tuple[str, str, str]
"""Suite, benchmark, and the digest of the engine: one of the evaluations that every candidate has."""


def part_of_documents(keys: Sequence[Key], share: float, seed: int) -> tuple[int, ...]:
    """Positions of the documents that are asked until a share of them, ascending; `keys` are those of the whole benchmark.

    Not fewer than give every subset three documents, or all that it has.
    """
    order = document_order(keys, seed)
    least = first_full([keys[position][0] for position in order])
    return tuple(sorted(order[: max(least, math.ceil(share * len(keys) - 1e-9))]))


def part_answers(
    benchmark: Benchmark, base: Sequence[Sample], candidate: Sequence[Sample], share: float, seed: int
) -> PartAnswers:
    """The part of a benchmark that a race needs; `base` holds the samples of all documents, `candidate` at least those of the part.

    A document's credit is the mean over the metrics of value times items over the mean number of items, minus the base's: its mean over
    a subset, or over all documents if they are pooled, is the difference of the raw values. EvaluationError if `candidate` lacks a
    document of the part, or a document a metric.
    """
    by_key = {(sample.subset, sample.doc_id): sample for sample in base}
    answered = {(sample.subset, sample.doc_id): sample for sample in candidate}
    keys = sorted(by_key)
    items = part_of_documents(keys, share, seed)
    group_of = {key: "" if pooled(benchmark) else key[0] for key in keys}
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        groups[group_of[key]].append(key)
    typical = {
        name: {m: fmean(by_key[key].weights.get(m, 1.0) for key in members) for m in benchmark.metrics}
        for name, members in groups.items()
    }
    if missing := [keys[item] for item in items if keys[item] not in answered]:
        subset, doc_id = missing[0]
        raise EvaluationError(
            f"Document {doc_id} of {subset} is among the base's answers and not among the candidate's: evaluate the base again with the "
            "same data."
        )
    credits = tuple(
        _credit(answered[keys[item]], benchmark, typical[group_of[keys[item]]])
        - _credit(by_key[keys[item]], benchmark, typical[group_of[keys[item]]])
        for item in items
    )
    asked = {keys[item] for item in items}
    total = sum(benchmark.weight(name) for name in groups)
    subsets = tuple(
        SubsetPart(
            name=name or benchmark.name,
            n=sum(key in asked for key in members),
            n_whole=len(members),
            points=100.0
            / (1.0 - _bound(benchmark, members))
            * (benchmark.weight(name) / total if name else 1.0),
        )
        for name, members in groups.items()
    )
    return PartAnswers(items=items, credits=credits, subsets=subsets)


def _credit(sample: Sample, benchmark: Benchmark, typical: Mapping[str, float]) -> float:
    """A document's part of the raw value; 0 for a metric that counts none of its items. EvaluationError if it lacks a metric."""
    if missing := [metric for metric in benchmark.metrics if metric not in sample.metrics]:
        raise EvaluationError(
            f"{benchmark.title} cannot be asked in parts (document {sample.doc_id} of {sample.subset} has no {missing[0]}): leave it out of "
            "the sweep, or leave out `decide.race`."
        )
    return fmean(
        sample.metrics[m] * sample.weights.get(m, 1.0) / typical[m] if typical[m] else 0.0
        for m in benchmark.metrics
    )


def _bound(benchmark: Benchmark, documents: Sequence[Key]) -> float:
    """The lower bound of pooled documents, or of those of one subset: the mean over them."""
    if not benchmark.aggregation.normalizes:
        return 0.0
    return fmean(benchmark.subset(subset).lower_bound for subset, _ in documents)


class RacingCandidate(Frozen):
    """A candidate at one look of a race."""

    name: str = Field(description="Name of the candidate.")
    value: float = Field(
        description="Average over the benchmarks on the documents asked so far, minus the base's, in points."
    )
    low: float = Field(
        description="Lower end of the interval of its value on all documents, valid for all candidates and looks together."
    )
    high: float = Field(description="Upper end of that interval.")
    leaves: bool = Field(description="Whether it leaves at this look.")


class CandidateLook(Frozen):
    """One look at a race of candidates."""

    share: float = Field(description="Share of each benchmark's documents that was asked.")
    n: int = Field(ge=0, description="Documents that each candidate had been asked, over all benchmarks.")
    n_whole: int = Field(ge=0, description="Documents of all benchmarks.")
    candidates: tuple[RacingCandidate, ...] = Field(
        description="The candidates that were asked, the best first."
    )
    failed: tuple[str, ...] = Field(default=(), description="Candidates that could not be asked.")

    @property
    def left(self) -> tuple[str, ...]:
        """The candidates that left at this look."""
        return tuple(c.name for c in self.candidates if c.leaves)

    @property
    def kept(self) -> tuple[str, ...]:
        """The candidates that went on."""
        return tuple(c.name for c in self.candidates if not c.leaves)


class CandidateRace(Frozen):
    """A race of candidates as far as its answers are known."""

    rule: RaceRule = Field(description="Its rule.")
    n_candidates: int = Field(ge=0, description="Number of candidates at the start.")
    looks: tuple[CandidateLook, ...] = Field(min_length=1, description="The looks, in order.")
    over: bool = Field(
        description="Whether no further look follows: those that are left are asked everything."
    )

    @property
    def contenders(self) -> tuple[str, ...]:
        """The candidates that have not left, the best of the last look first."""
        return self.looks[-1].kept

    @property
    def left(self) -> tuple[tuple[RacingCandidate, CandidateLook], ...]:
        """Every candidate that left, with the look at which it did; the first to leave first."""
        return tuple((c, look) for look in self.looks for c in look.candidates if c.leaves)

    @property
    def whole(self) -> int:
        """Documents that all candidates would be asked without the race."""
        return self.looks[0].n_whole * self.n_candidates

    @property
    def asked(self) -> int:
        """Documents that all candidates are asked: those that left until then, the others all."""
        asked, before = 0, 0
        for look in self.looks:
            asked += (look.n - before) * len(look.candidates)
            before = look.n
        return asked + (self.looks[-1].n_whole - before) * len(self.contenders)

    @property
    def sentence(self) -> str:
        """How far the race is, and what it saves, in one sentence without its full stop."""
        last = self.looks[-1]
        if not last.candidates:
            return f"Race for the best {self.rule.keep}: none of {self.n_candidates:,} candidates could be asked; their jobs or the base's failed"
        if not self.over:
            return (
                f"Race for the best {self.rule.keep}: {len(self.contenders):,} of {self.n_candidates:,} candidates go on after "
                f"{last.n:,} of {last.n_whole:,} documents"
            )
        saved = 1 - self.asked / self.whole if self.whole else 0.0
        return (
            f"Race for the best {self.rule.keep}: {len(self.contenders):,} of {self.n_candidates:,} candidates are asked everything, "
            f"{self.asked:,} of {self.whole:,} documents ({saved:.0%} saved)"
        )


def begun_text(rule: RaceRule) -> str:
    """How far a race is before its first look, in one sentence without its full stop."""
    return f"Race for the best {rule.keep}: every candidate is asked {rule.shares[0]:.0%} of each benchmark's documents"


def left_text(candidate: RacingCandidate, look: CandidateLook, keep: int) -> str:
    """What is known of a candidate that left: an early difference, and no score."""
    return (
        f"left the race for the best {keep} after {look.n:,} of {look.n_whole:,} documents; early difference to the base "
        f"{candidate.value:+z.1f} points, {candidate.low:+z.1f} to {candidate.high:+z.1f}"
    )


def run_race(
    rule: RaceRule,
    evaluations: Sequence[EvalKey],
    rounds: Sequence[Mapping[str, Mapping[EvalKey, PartAnswers]]],
) -> CandidateRace:
    """The race of the rounds whose answers are known: `rounds` holds each candidate's answers by evaluation.

    A candidate that lacks an answer has failed and is out.
    """
    contenders: Sequence[str] = list(rounds[0])
    looks: list[CandidateLook] = []
    for number, answers in enumerate(rounds):
        complete = [name for name in contenders if all(key in answers.get(name, {}) for key in evaluations)]
        failed = tuple(name for name in contenders if name not in set(complete))
        candidates: tuple[RacingCandidate, ...] = ()
        n, total = (looks[-1].n, looks[-1].n_whole) if looks else (0, 0)
        if complete:
            parts = [[answers[name][key] for name in complete] for key in evaluations]
            candidates = _racing(complete, _look(rule, parts))
            n = sum(len(of_candidates[0].items) for of_candidates in parts)
            total = sum(subset.n_whole for of_candidates in parts for subset in of_candidates[0].subsets)
        looks.append(
            CandidateLook(share=rule.shares[number], n=n, n_whole=total, candidates=candidates, failed=failed)
        )
        contenders = looks[-1].kept
    over = len(looks) == len(rule.shares) or len(contenders) <= rule.keep
    return CandidateRace(rule=rule, n_candidates=len(rounds[0]), looks=tuple(looks), over=over)


def _look(rule: RaceRule, parts: Sequence[Sequence[PartAnswers]]) -> RaceDecision:
    """Who leaves; each look may lose one of the best with an equal share of the error rate. `parts` holds all candidates' by evaluation."""
    sets: list[RaceProbe] = []
    for of_candidates in parts:
        credits = np.array([part.credits for part in of_candidates])
        begin = 0
        for subset in of_candidates[0].subsets:
            sets.append(
                RaceProbe(
                    values=credits[:, begin : begin + subset.n],
                    n_whole=subset.n_whole,
                    weight=subset.points / len(parts),
                )
            )
            begin += subset.n
    return race_look(sets, keep=rule.keep, error_rate=rule.error_rate / len(rule.shares))


def _racing(names: Sequence[str], looked: RaceDecision) -> tuple[RacingCandidate, ...]:
    """The candidates at a look, the best first."""
    return tuple(
        RacingCandidate(
            name=names[i],
            value=float(looked.value[i]),
            low=float(looked.low[i]),
            high=float(looked.high[i]),
            leaves=bool(looked.leaves[i]),
        )
        for i in np.argsort(-looked.value, kind="stable")
    )
