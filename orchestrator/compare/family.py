"""The comparisons of a run's candidates with one base, as one family of tests.

Comparisons are held as the store keeps them: uncorrected, as JSON. Correcting thousands of them and saying what
the whole run shows takes the few numbers of each row; a full record is read only for what is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evals.engine import digest_of
from evals.errors import SuiteError
from evals.stats import Interval, corrected
from evals.suite import load_suite
from orchestrator.compare.comparison import SIGNIFICANT, Comparison
from orchestrator.compare.verdict import Effect, Refusal, RunVerdict, Standing, standing_of
from orchestrator.store.comparisons import ScoredCandidate

STATISTICS = 1
"""Version of what a comparison says: raise it with every change of its statistics, rules or texts."""
_PARTIAL = "partial"

At = tuple[int, str]
"""A candidate's position and its engine's key."""


@dataclass(frozen=True)
class PairOfRun:
    """A candidate and a base of one run, by one engine, with the evaluations that each has so far."""

    base: ScoredCandidate
    candidate: ScoredCandidate
    key: str

    @property
    def at(self) -> At:
        """Where it stands in its family."""
        return self.candidate.position, self.candidate.engine_key


class RowTest(NamedTuple):
    """What the family needs of one row of a comparison."""

    suite: str
    benchmark: str | None
    title: str
    delta_points: float | None
    low: float
    high: float
    p: float | None
    refused: tuple[str, ...]
    forced: bool
    partial: bool
    lower_is_better: bool

    @property
    def improved(self) -> bool | None:
        """Whether the difference is in the better direction; None if the row was refused."""
        return None if self.delta_points is None else (self.delta_points > 0) is not self.lower_is_better


def pairs_of_run(scored: Iterable[ScoredCandidate], base: int) -> tuple[PairOfRun, ...]:
    """Every candidate with the base at a position, per engine that has scored both."""
    candidates = tuple(scored)
    bases = {c.engine_key: c for c in candidates if c.position == base}
    definitions: dict[tuple[str, ...], str] = {}
    pairs = []
    for candidate in candidates:
        reference = bases.get(candidate.engine_key)
        if reference is None or candidate.position == base:
            continue
        suites = tuple(dict.fromkeys((*reference.suites, *candidate.suites)))
        if suites not in definitions:
            definitions[suites] = digest_of([_definition(name) for name in suites])
        parts = [STATISTICS, definitions[suites], reference.jobs, candidate.jobs]
        pairs.append(PairOfRun(reference, candidate, digest_of(parts)))
    engines = list(bases)
    return tuple(sorted(pairs, key=lambda pair: engines.index(pair.base.engine_key)))


class RunFamily:
    """Comparisons of a run's candidates with one base; p-values are corrected over all pairs.

    Pairs without a comparison yet are assumed to show no effect, which is conservative: what is shown while they
    are computed still holds afterwards. Not thread-safe.
    """

    def __init__(self, pairs: Sequence[PairOfRun], n_left: int = 0) -> None:
        """`n_left` counts further pairs that a race left out; they were tried, and count in the correction."""
        self._n_left = n_left
        self.pairs = {pair.at: pair for pair in pairs}
        self._specs: dict[At, str] = {}
        self._tests: dict[At, tuple[RowTest, ...]] = {}
        self._broken: dict[At, str] = {}
        self._adjusted: dict[At, tuple[float | None, ...]] = {}
        self._n_tests = 0
        self._stale = True

    def add(self, at: At, spec: str) -> None:
        """Add a comparison, uncorrected, as JSON."""
        self._specs[at] = spec
        self._tests[at] = tuple(_tests(json.loads(spec)))
        self._broken.pop(at, None)
        self._stale = True

    def fail(self, at: At, reason: str) -> None:
        """Note that a comparison failed, and why."""
        self._broken[at] = reason
        self._stale = True

    def carry_over(self, earlier: RunFamily) -> None:
        """Take the comparisons of another family for pairs that are the same."""
        for at, pair in self.pairs.items():
            if earlier.pairs.get(at) == pair and at in earlier._specs:
                self._specs[at], self._tests[at] = earlier._specs[at], earlier._tests[at]
        self._stale = True

    def has(self, at: At) -> bool:
        """Whether a pair has a comparison, or the reason why it failed."""
        return at in self._specs or at in self._broken

    def reason(self, at: At) -> str | None:
        """Why a comparison failed; None if it did not."""
        return self._broken.get(at)

    @property
    def missing(self) -> list[PairOfRun]:
        """Pairs without a comparison."""
        return [p for at, p in self.pairs.items() if at not in self._specs and at not in self._broken]

    @property
    def n_computed(self) -> int:
        """Number of pairs with a comparison, or with the reason why it failed."""
        return len(self._specs) + len(self._broken)

    def comparison(self, at: At) -> Comparison | None:
        """The corrected comparison of a pair; None if there is none."""
        spec = self._specs.get(at)
        if spec is None:
            return None
        self._correct()
        whole = Comparison.model_validate_json(spec)
        p_values = iter(self._adjusted[at])
        rows, averages = (
            tuple(row.model_copy(update={"p_corrected": next(p_values)}) for row in group)
            for group in (whole.rows, whole.averages)
        )
        update = {
            "rows": rows,
            "averages": averages,
            "n_tests": self._n_tests,
            "n_candidates": len(self.pairs) - len(self._broken) + self._n_left,
        }
        return whole.model_copy(update=update)

    def comparisons(self) -> tuple[Comparison, ...]:
        """All corrected comparisons, in the order of the pairs."""
        return tuple(c for at in self.pairs if (c := self.comparison(at)) is not None)

    def standings(
        self, suite: str, engine_key: str, positions: Iterable[int], waiting: Collection[int] = ()
    ) -> dict[int, Standing]:
        """The standing of each candidate in one suite by one engine; `waiting` ones are not evaluated in full."""
        self._correct()
        return {p: self._standing((p, engine_key), suite, p in waiting) for p in positions}

    def verdict(
        self,
        suite: str,
        engine_key: str,
        names: Mapping[int, str],
        *,
        base: str,
        waiting: Collection[int] = (),
    ) -> RunVerdict:
        """What the run shows in one suite by one engine; `names` are those of all candidates but the base."""
        standings = self.standings(suite, engine_key, names, waiting)
        effects: list[Effect] = []
        refused: dict[str, dict[str, None]] = {}
        partial: list[str] = []
        n_averages = 0
        for position, name in names.items():
            at = (position, engine_key)
            if at in self._broken:
                refused.setdefault(self._broken[at], {})[name] = None
            if standings[position] is Standing.PENDING:
                continue
            is_partial = False
            for row, p in zip(self._tests.get(at, ()), self._adjusted.get(at, ()), strict=True):
                if row.suite != suite:
                    continue
                is_partial |= row.partial
                n_averages += row.benchmark is None and row.delta_points is not None
                if row.delta_points is None:
                    for reason in row.refused:
                        refused.setdefault(reason, {})[name] = None
                elif p is not None and p < SIGNIFICANT:
                    effects.append(_effect(name, row, row.delta_points, p))
            if is_partial:
                partial.append(name)
        effects.sort(key=lambda effect: -effect.gain)
        return RunVerdict(
            base=base,
            standings={name: standings[position] for position, name in names.items()},
            average_effects=tuple(e for e in effects if e.benchmark is None),
            benchmark_effects=tuple(e for e in effects if e.benchmark is not None),
            n_averages=n_averages,
            partial=tuple(partial),
            refusals=tuple(Refusal(reason=text, candidates=tuple(who)) for text, who in refused.items()),
            n_tests=self._n_tests,
        )

    def partial(self, suite: str, engine_key: str) -> frozenset[int]:
        """Positions of the candidates with a partial score in one suite."""
        return frozenset(
            position
            for (position, engine), tests in self._tests.items()
            if engine == engine_key and any(row.partial for row in tests if row.suite == suite)
        )

    def _standing(self, at: At, suite: str, waits: bool) -> Standing:
        if waits:
            return Standing.PENDING
        if at in self._broken:
            return Standing.REFUSED
        if at not in self.pairs:
            return Standing.UNSCORED
        if at not in self._tests:
            return Standing.PENDING
        rows = [
            (row.improved, p)
            for row, p in zip(self._tests[at], self._adjusted[at], strict=True)
            if row.suite == suite
        ]
        return standing_of(rows) if rows else Standing.UNSCORED

    def _correct(self) -> None:
        """Correct all p-values, if anything has changed."""
        if not self._stale:
            return
        counts = [sum(row.p is not None for row in tests) for tests in self._tests.values()]
        others = (len(self.missing) + self._n_left) * max(counts, default=0)
        adjusted = iter(corrected([row.p for tests in self._tests.values() for row in tests], others))
        self._adjusted = {at: tuple(next(adjusted) for _ in tests) for at, tests in self._tests.items()}
        self._n_tests = sum(counts) + others
        self._stale = False


def _definition(suite: str) -> dict[str, Any]:
    try:
        return load_suite(suite).model_dump(mode="json")
    except SuiteError:
        return {}


def _tests(spec: Mapping[str, Any]) -> Iterable[RowTest]:
    for row in (*spec["rows"], *spec["averages"]):
        delta = row["delta"] or {}
        interval = delta.get("interval") or {"low": 0.0, "high": 0.0}
        yield RowTest(
            suite=row["suite"],
            benchmark=row["benchmark"],
            title=row["title"],
            delta_points=delta.get("delta_points"),
            low=interval["low"],
            high=interval["high"],
            p=delta.get("p"),
            refused=tuple(row["refused"]),
            forced=row["forced"],
            partial=any(note.startswith(_PARTIAL) for note in row["notes"]),
            lower_is_better=row.get("lower_is_better", False),
        )


def _effect(candidate: str, row: RowTest, delta_points: float, p: float) -> Effect:
    return Effect(
        candidate=candidate,
        suite=row.suite,
        benchmark=row.benchmark,
        title=row.title,
        delta_points=delta_points,
        interval=Interval(low=row.low, high=row.high),
        p_corrected=p,
        forced=row.forced,
        lower_is_better=row.lower_is_better,
    )
