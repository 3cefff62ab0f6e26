"""Comparisons of a run as its pages need them: of the shown candidates, of two, and the verdict of all.

All p-values of a run are one family, as for `mergeboard compare --run`. What is not computed yet is pending; see
`dashboard.comparer`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

import dashboard
from dashboard import data
from dashboard.comparer import Comparer, Scored
from dashboard.comparing_process import ComparingProcess
from dashboard.races import candidate_race_shown
from evals.scores import PROBE_SUITE
from orchestrator.compare import Comparison
from orchestrator.compare.early import with_early, with_race
from orchestrator.compare.family import RunFamily
from orchestrator.compare.verdict import RunVerdict, Standing
from orchestrator.errors import RunError
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import RunRecord, RunState

_LIVE = (RunState.RUNNING, RunState.WAITING)


@dataclass(frozen=True)
class ComparedPair:
    """A compared pair: candidate and base, with the evaluations that each has so far."""

    base: Scored
    candidate: Scored


@dataclass(frozen=True)
class Broken:
    """A comparison that failed, with the reason."""

    reason: str


PairResult = Comparison | Broken

__all__ = [
    "Broken",
    "ComparedPair",
    "Comparer",
    "PairResult",
    "Scored",
    "WholeVerdict",
    "benchmark_columns",
    "comparer",
    "comparer_of",
    "comparison_of",
    "comparisons_of_run",
    "in_suite",
    "verdict_of_run",
]


@dataclass(frozen=True)
class WholeVerdict:
    """What a whole run shows in one suite by one engine, and how far it is computed."""

    verdict: RunVerdict
    standings: dict[int, Standing]
    """The standing of every candidate by its position in the run, without the base."""
    partial: frozenset[int]
    """Positions of the candidates with a partial score."""
    n_compared: int
    """Candidates whose comparison is computed."""
    n_waiting: int
    """Candidates of a live run that are not evaluated in full yet."""
    remaining_s: float | None
    """Estimate until all evaluated candidates are compared; None while nothing was measured."""

    def positions(self, standings: Collection[Standing]) -> tuple[int, ...]:
        """Positions of the candidates with one of these standings."""
        return tuple(position for position, standing in self.standings.items() if standing in standings)


def in_suite(result: PairResult, suite: str) -> PairResult:
    """The comparison with the rows of one suite only; p-values are unchanged."""
    if isinstance(result, Broken):
        return result
    rows, averages = (tuple(r for r in group if r.suite == suite) for group in (result.rows, result.averages))
    return result.model_copy(update={"rows": rows, "averages": averages})


@st.cache_resource(max_entries=4, show_spinner=False)
def comparer(_pages: Pages, name: str, home: Path) -> Comparer:
    """The comparer of a store; `name` is the cache key of the store."""
    process = ComparingProcess() if dashboard.is_server else None
    return Comparer(_pages, home, process)


def comparer_of(pages: Pages) -> Comparer:
    """The comparer of an opened store."""
    return comparer(pages, f"{pages.serial}", data.settings().home)


def comparisons_of_run(
    pages: Pages, comparing: Comparer, run_id: str, base: int, shown: Column, positions: Collection[int]
) -> tuple[dict[int, PairResult], int]:
    """Finished comparisons by candidate position, and the number of unfinished pairs of the run.

    They have the rows of the shown column's suite, by its engine.
    """
    places = {position: (position, shown.engine_key) for position in positions}

    def results(family: RunFamily) -> tuple[dict[int, PairResult], int]:
        shown_at = {p: r for p, at in places.items() if (r := _result(family, at)) is not None}
        return {p: in_suite(result, shown.suite) for p, result in shown_at.items()}, len(family.missing)

    return comparing.ask(run_id, base, results, first=tuple(places.values()))


def comparison_of(
    pages: Pages, comparing: Comparer, run_id: str, base: int, position: int, shown: Column
) -> tuple[ComparedPair, PairResult]:
    """Compare one candidate with a base, now if it is not there yet; corrected as on the leaderboard."""
    at = (position, shown.engine_key)
    comparing.now(run_id, base, at)
    result = comparing.ask(run_id, base, lambda family: _result(family, at), first=(at,))
    if result is None:
        raise RunError("These two cannot be compared: choose a base and a candidate that both have scores.")
    columns = data.fixed(pages.columns, run_id)
    digests = {column.engine_digest for column in columns if column.engine_key == shown.engine_key}
    scored = {
        scores.candidate.position: Scored(run_id, shown.engine_key, _by_engines(scores, digests))
        for scores in data.live(pages.scores_of_candidates, run_id, (base, position))
    }
    return ComparedPair(scored[base], scored[position]), in_suite(result, shown.suite)


def verdict_of_run(
    pages: Pages, run: RunRecord, *, base: int | None = None, column: Column | None = None
) -> WholeVerdict | None:
    """What a run shows about all its candidates; None if it has no benchmark scores.

    `base` is the position of the base, by default the run's own; `column` names suite and engine, by default the
    run's first. What is not computed yet is pending; ask again to let it be computed.
    """
    shown = column or next(iter(benchmark_columns(pages, run.id)), None)
    own = data.fixed(pages.base_of, run.id)
    if shown is None or own is None:
        return None
    position = own.position if base is None else base
    names = data.fixed(pages.candidate_names, run.id)
    others = {at: name for at, name in names.items() if at != position}
    waiting = data.live(pages.open_candidates, run.id) if run.state in _LIVE else frozenset()
    comparing = comparer_of(pages)
    decided = data.live(pages.sequences, run.id)
    race = candidate_race_shown(pages, run.id) if position == own.position else None

    def whole(family: RunFamily) -> WholeVerdict:
        standings = family.standings(shown.suite, shown.engine_key, others, waiting)
        verdict = family.verdict(shown.suite, shown.engine_key, others, base=names[position], waiting=waiting)
        if position == own.position:
            at = (shown.suite, shown.engine_key)
            early = [r for r in decided if (r.suite, r.engine_key) == at and r.position not in waiting]
            verdict = with_race(with_early(verdict, early), race)
            by_name = verdict.standings
            standings = {p: by_name.get(name, standings[p]) for p, name in others.items()}
        n_pending = sum(standing is Standing.PENDING for standing in standings.values())
        n_waiting = sum(p in waiting for p in others)
        pair_s = comparing.pair_s
        return WholeVerdict(
            verdict=verdict,
            standings=standings,
            partial=family.partial(shown.suite, shown.engine_key),
            n_compared=len(others) - n_pending,
            n_waiting=n_waiting,
            remaining_s=None if pair_s is None else pair_s * len(family.missing),
        )

    looks = len(race.looks) if race is not None else 0
    return comparing.cached(
        run.id, position, (shown.suite, shown.engine_key, waiting, len(decided), looks), whole
    )


def benchmark_columns(pages: Pages, run_id: str) -> tuple[Column, ...]:
    """A run's columns without probes: probe values are not benchmark scores."""
    return tuple(c for c in data.fixed(pages.columns, run_id) if c.suite != PROBE_SUITE)


def _result(family: RunFamily, at: tuple[int, str]) -> PairResult | None:
    reason = family.reason(at)
    return Broken(reason) if reason is not None else family.comparison(at)


def _by_engines(scores: CandidateScores, digests: Collection[str]) -> CandidateScores:
    """A candidate's benchmark scores by engines with these digests."""
    kept = tuple(e for e in scores.evaluations if e.engine_digest in digests and e.suite != PROBE_SUITE)
    return scores.model_copy(update={"evaluations": kept})
