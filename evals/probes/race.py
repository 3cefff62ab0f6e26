"""A race of layer paths over the questions of their probes: who cannot be among the best any more is not asked further questions.

Every path is asked the same part of each probe's questions, a random sample without replacement (`document_order`). The question
is which paths are among the `keep` best *on all questions of the search set*, as the whole scan would rank them. After each part
`evals.stats.race` tells who can still be; the others leave. The error rate bounds the probability that any path of the `keep` best
leaves, over all paths and all looks together. Whoever is left is asked all questions.

The combined value of a path is the sum over the probes of its difference to the base over the probe's spread (`balanced_z`), or the
mean difference (`mean_delta`). The spreads are those of all paths after the first part, and stay.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field, field_validator

from evals.engine import Frozen, GenerateResult, ScoreResult
from evals.layer_visits import VisitPath
from evals.probes.probe import AnyProbe, Result
from evals.probes.ranking import RankMethod
from evals.probes.results import Form, ProbeError, Scoring
from evals.race_rule import ascending
from evals.scores import Sample
from evals.stats.document_order import document_order
from evals.stats.race import RaceDecision, RaceProbe, race_look
from evals.stats.resample import Floats
from evals.stats.sequence import PartAnswers

_MIN_SPREAD = 1e-12


class RacePlan(Frozen):
    """When paths are looked at, and who leaves."""

    keep: int = Field(ge=1, description="Number of best paths that the race looks for.")
    error_rate: float = Field(
        default=0.05,
        ge=1e-3,
        le=0.25,
        description="Probability that any of the best leaves, over all paths and looks together.",
    )
    rank: RankMethod = Field(
        default=RankMethod.BALANCED_Z, description="How a path's probe values are combined."
    )
    shares: tuple[float, ...] = Field(
        default=(0.25, 0.5),
        min_length=1,
        description="Shares of each probe's questions after which paths may leave, ascending.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random order of the questions.")

    @field_validator("shares")
    @classmethod
    def _ascend(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        return ascending(shares)

    def items(self, probe: AnyProbe, look: int) -> tuple[int, ...]:
        """The items of a probe that are asked until a look, ascending."""
        count = max(2, math.ceil(self.shares[look] * len(probe.items) - 1e-9))
        order = document_order([(probe.name, item) for item in range(len(probe.items))], self.seed)
        return tuple(sorted(order[:count]))


class RacingPath(Frozen):
    """A path at one look of a race."""

    layers: VisitPath = Field(description="Visits of source layers in the order in which they run.")
    value: float = Field(description="Combined value on the questions asked so far, minus the base's.")
    low: float = Field(
        description="Lower end of the interval of its value on all questions, valid for all paths and looks together."
    )
    high: float = Field(description="Upper end of that interval.")
    stderr: float = Field(ge=0, description="Standard error of its value over samples of as many questions.")
    leaves: bool = Field(description="Whether it leaves at this look.")


class RaceLook(Frozen):
    """One look at a race."""

    n: int = Field(ge=1, description="Questions that each path had been asked, over all probes.")
    n_whole: int = Field(ge=1, description="Questions of the whole search set.")
    paths: tuple[RacingPath, ...] = Field(description="The paths that were asked, the best first.")
    failed: tuple[VisitPath, ...] = Field(default=(), description="Paths that could not be asked.")

    @property
    def left(self) -> tuple[VisitPath, ...]:
        """The paths that left at this look."""
        return tuple(path.layers for path in self.paths if path.leaves)

    @property
    def kept(self) -> tuple[VisitPath, ...]:
        """The paths that went on."""
        return tuple(path.layers for path in self.paths if not path.leaves)


class Race(Frozen):
    """A race as far as its answers are known."""

    plan: RacePlan = Field(description="Its rule.")
    probes: tuple[str, ...] = Field(description="Keys of the probes.")
    n_paths: int = Field(ge=0, description="Number of paths at the start.")
    spreads: dict[str, float] = Field(
        description="Each probe's spread over all paths after the first part; what its differences are divided by."
    )
    looks: tuple[RaceLook, ...] = Field(description="The looks, in order.")
    asked: int = Field(
        default=0, ge=0, description="Questions that all paths were asked, the last round included."
    )
    whole: int = Field(
        default=0, ge=0, description="Questions that all paths would have been asked without the race."
    )

    @property
    def contenders(self) -> tuple[VisitPath, ...]:
        """The paths that have not left, the best of the last look first."""
        return self.looks[-1].kept

    @property
    def left(self) -> tuple[VisitPath, ...]:
        """Every path that left."""
        return tuple(layers for look in self.looks for layers in look.left)

    @property
    def early_gains(self) -> tuple[tuple[float, float], ...]:
        """Gain and standard error of every path that left, on the questions that it was asked, in probe units."""
        total = sum(_weights(self.plan.rank, self.spreads).values())
        return tuple(
            (p.value / total, p.stderr / total) for look in self.looks for p in look.paths if p.leaves
        )

    @property
    def sentence(self) -> str:
        """What the race saved, in one sentence."""
        share = 1 - self.asked / self.whole if self.whole else 0.0
        return (
            f"{len(self.contenders):,} of {self.n_paths:,} paths were asked everything: {self.asked:,} of {self.whole:,} questions "
            f"({share:.0%} saved)"
        )


def part_of_samples(probe: AnyProbe, samples: Sequence[Sample], items: Sequence[int]) -> PartAnswers:
    """The credits of some items, from the samples of a whole evaluation: those that asking them alone would have given."""
    if len(samples) != len(probe.items):
        raise ProbeError(f"{probe.name} has {len(probe.items)} items, but {len(samples)} samples are stored.")
    results: list[Result] = []
    for item in items:
        results += _results(probe, samples[item], item)
    credits = probe.with_items(items).score(results).credits(Scoring.CORRECTED)
    return PartAnswers(items=tuple(items), credits=credits)


def _results(probe: AnyProbe, sample: Sample, item: int) -> list[Result]:
    asks = probe.asks(probe.items[item])
    if probe.form is not Form.SCORED:
        return [GenerateResult(text=sample.response, n_tokens=sample.n_tokens, finish_reason="stop")]
    results: list[Result] = []
    begin = 0
    for ask in asks:
        values = sample.logprobs[begin : begin + len(ask.options)]
        begin += len(ask.options)
        results.append(ScoreResult(logprobs=values, is_greedy=tuple(v == max(values) for v in values)))
    return results


def run_race(
    plan: RacePlan,
    probes: Sequence[AnyProbe],
    base: Mapping[str, Sequence[Sample]],
    rounds: Sequence[Mapping[VisitPath, Mapping[str, PartAnswers]]],
) -> Race:
    """The race of the rounds whose answers are known: `rounds` holds each path's answers by the name of the probe.

    `base` holds the base's samples by the name of the probe. A path that lacks an answer has failed and is out.
    """
    contenders: Sequence[VisitPath] = list(rounds[0])
    spreads: dict[str, float] = {}
    looks: list[RaceLook] = []
    for number, answers in enumerate(rounds):
        there = [path for path in contenders if _complete(answers.get(path, {}), probes)]
        failed = tuple(path for path in contenders if path not in set(there))
        items = [plan.items(probe, number) for probe in probes]
        paths: tuple[RacingPath, ...] = ()
        if there:
            values = [
                np.array([answers[path][probe.name].credits for path in there])
                - np.array(part_of_samples(probe, base[probe.name], asked).credits)
                for probe, asked in zip(probes, items, strict=True)
            ]
            spreads = spreads or {
                probe.key: statistics.pstdev(v.mean(axis=1).tolist())
                for probe, v in zip(probes, values, strict=True)
            }
            paths = _racing(there, _look(plan, probes, values, spreads))
        n, n_whole = sum(map(len, items)), sum(len(probe.items) for probe in probes)
        looks.append(RaceLook(n=n, n_whole=n_whole, paths=paths, failed=failed))
        contenders = looks[-1].kept
    return Race(
        plan=plan,
        probes=tuple(probe.key for probe in probes),
        n_paths=len(rounds[0]),
        spreads=spreads,
        looks=tuple(looks),
        asked=_asked(looks),
        whole=looks[0].n_whole * len(rounds[0]),
    )


def _look(
    plan: RacePlan, probes: Sequence[AnyProbe], values: Sequence[Floats], spreads: Mapping[str, float]
) -> RaceDecision:
    """Who leaves; each look may lose one of the best with an equal share of the error rate."""
    weights = _weights(plan.rank, spreads)
    sets = [
        RaceProbe(values=v, n_whole=len(probe.items), weight=weights[probe.key])
        for probe, v in zip(probes, values, strict=True)
    ]
    return race_look(sets, keep=plan.keep, error_rate=plan.error_rate / len(plan.shares))


def _racing(paths: Sequence[VisitPath], looked: RaceDecision) -> tuple[RacingPath, ...]:
    """The paths at a look, the best first."""
    return tuple(
        RacingPath(
            layers=paths[i],
            value=float(looked.value[i]),
            low=float(looked.low[i]),
            high=float(looked.high[i]),
            stderr=float(looked.stderr[i]),
            leaves=bool(looked.leaves[i]),
        )
        for i in np.argsort(-looked.value, kind="stable")
    )


def _asked(looks: Sequence[RaceLook]) -> int:
    """Questions that all paths were asked, with those that the last round asks."""
    asked, before = 0, 0
    for look in looks:
        asked += (look.n - before) * len(look.paths)
        before = look.n
    return asked + (looks[-1].n_whole - before) * len(looks[-1].kept)


def _complete(answers: Mapping[str, PartAnswers], probes: Sequence[AnyProbe]) -> bool:
    return all(probe.name in answers for probe in probes)


def _weights(method: RankMethod, spreads: Mapping[str, float]) -> dict[str, float]:
    if method is RankMethod.MEAN_DELTA:
        return dict.fromkeys(spreads, 1.0 / len(spreads))
    return {key: 1.0 / spread if spread > _MIN_SPREAD else 1.0 for key, spread in spreads.items()}
