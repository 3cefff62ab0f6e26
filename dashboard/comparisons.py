"""Background computation of comparisons for the pages: a page shows the finished ones and polls for the rest.

Outcomes never change, so a comparison is computed once and cached. `orchestrator.compare.run_comparisons`
reads results, compares them and corrects p-values, as for `mergeboard compare`; this module has the thread,
the cache and the choice of pairs for a page.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import streamlit as st
from pydantic import ValidationError

from dashboard import data
from evals.errors import EvaluationError
from evals.scores import PROBE_SUITE
from orchestrator.compare import Comparison, Side, correct
from orchestrator.compare.run_comparisons import SideReader, compare_sides, result_of_candidate
from orchestrator.errors import MergeboardError, RunError
from orchestrator.store.leaderboard import CandidateScores, EvaluationRecord
from orchestrator.store.pages import Column, Pages

logger = logging.getLogger(__name__)
WHOLE = 60
"""Runs with at most this many candidates are compared and corrected as a whole, not only the shown page."""
_POLITE_S = 0.8
"""Seconds without computation after a new request or a click, so that the page is drawn first."""
_STALE_S = 60.0
"""Seconds after which a request is dropped unless repeated: an open page repeats it every two seconds."""
_AGAIN_S = 20.0
"""Seconds after which a failed read is retried."""
_MAX_WAITING = 400
_MAX_KEPT = 20_000
_MOST_EVALUATIONS = 64


@dataclass(frozen=True)
class Scored:
    """A candidate of a run with all its evaluations by one engine so far, without probes."""

    run_id: str
    engine_key: str
    scores: CandidateScores

    @property
    def position(self) -> int:
        """The candidate's position in its run."""
        return self.scores.candidate.position

    @property
    def jobs(self) -> tuple[str, ...]:
        """Digests of its evaluations."""
        return tuple(e.job_digest for e in self.scores.evaluations)


@dataclass(frozen=True)
class ComparedPair:
    """A pair to compare: candidate and base, with the evaluations that each has so far."""

    base: Scored
    candidate: Scored

    @property
    def key(self) -> str:
        """Cache key of the comparison; it changes with every further evaluation."""
        sides = (self.base, self.candidate)
        return "|".join(f"{s.run_id} {s.position} {s.engine_key} {','.join(s.jobs)}" for s in sides)


@dataclass(frozen=True)
class Broken:
    """A comparison that failed, with the reason."""

    reason: str


PairResult = Comparison | Broken


def by_engine(run_id: str, scores: CandidateScores, columns: Sequence[Column]) -> dict[str, Scored]:
    """A candidate's evaluations by engine; `columns` are the run's columns."""
    keys = {column.engine_digest: column.engine_key for column in columns}
    grouped: dict[str, list[EvaluationRecord]] = {}
    for evaluation in scores.evaluations:
        if evaluation.suite != PROBE_SUITE:
            grouped.setdefault(keys[evaluation.engine_digest], []).append(evaluation)
    return {
        key: Scored(run_id, key, scores.model_copy(update={"evaluations": tuple(evaluations)}))
        for key, evaluations in grouped.items()
    }


def pairs_of(
    run_id: str, rows: Iterable[CandidateScores], base: int, columns: Sequence[Column]
) -> tuple[ComparedPair, ...]:
    """Pairs of every candidate with the base at a position, per engine, as for `compare --run`."""
    engines = {row.candidate.position: by_engine(run_id, row, columns) for row in rows}
    return tuple(
        ComparedPair(reference, scored)
        for key, reference in engines.get(base, {}).items()
        for position, candidate in engines.items()
        if position != base and (scored := candidate.get(key)) is not None
    )


def corrected(
    results: Mapping[str, PairResult], pairs: Sequence[ComparedPair], n_candidates: int
) -> dict[str, PairResult]:
    """Correct the p-values of a base's comparisons, by key of the pair, for all candidates of the run.

    In runs of at most `WHOLE` candidates, all comparisons are one family, as for `compare --run`; unfinished
    ones are assumed to show no effect. In larger runs, each is corrected as if all others showed no effect, as
    for `compare CANDIDATE`.
    """
    finished = {key: result for key, result in results.items() if isinstance(result, Comparison)}
    if n_candidates <= WHOLE:
        family = correct(list(finished.values()), other_candidates=len(pairs) - len(results))
        return {**results, **dict(zip(finished, family, strict=True))}
    n_others = max(0, n_candidates - 2)
    return {**results, **{key: correct([c], other_candidates=n_others)[0] for key, c in finished.items()}}


def in_suite(result: PairResult, suite: str) -> PairResult:
    """The comparison with the rows of one suite only; p-values are unchanged."""
    if isinstance(result, Broken):
        return result
    rows, averages = (tuple(r for r in group if r.suite == suite) for group in (result.rows, result.averages))
    return result.model_copy(update={"rows": rows, "averages": averages})


class Comparer:
    """Computes comparisons one by one on a background thread, the latest request first."""

    _page_at: ClassVar[float] = 0.0

    @classmethod
    def page_begins(cls) -> None:
        """Pause all comparers until a page is drawn."""
        cls._page_at = time.monotonic()

    def __init__(self, pages: Pages, home: Path) -> None:
        self._pages = pages
        self._reader = SideReader(home, kept=_MOST_EVALUATIONS)
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, tuple[ComparedPair, float]] = OrderedDict()
        self._found: OrderedDict[str, PairResult] = OrderedDict()
        self._unread_at: dict[str, float] = {}
        self._working: str | None = None
        self._asked_at = 0.0
        threading.Thread(target=self._work, name="comparisons", daemon=True).start()

    def ask(self, pairs: Iterable[ComparedPair]) -> dict[str, PairResult]:
        """Finished comparisons by key; the others are queued first."""
        finished: dict[str, PairResult] = {}
        with self._lock:
            for pair in reversed(list(pairs)):
                result = self._kept(pair.key)
                if result is not None:
                    finished[pair.key] = result
                elif pair.key != self._working:
                    now = time.monotonic()
                    if pair.key not in self._waiting:
                        self._asked_at = now
                    self._waiting[pair.key] = pair, now
                    self._waiting.move_to_end(pair.key)
            while len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)
            self._lock.notify()
        return finished

    def now(self, pair: ComparedPair) -> PairResult:
        """One comparison, computed now if it is not cached."""
        with self._lock:
            result = self._kept(pair.key)
        return result if result is not None else self._make(pair)

    def sides(self, scored: Scored) -> list[Side]:
        """The sides of a candidate, with samples."""
        result = result_of_candidate(
            self._pages, scored.run_id, scored.scores.candidate, scored.engine_key, scored.jobs
        )
        return [] if result is None else self._reader.sides(result)

    def _work(self) -> None:
        while True:
            pair = self._next()
            if pair is not None:
                try:
                    self._make(pair)
                except Exception as error:
                    # An unexpected error must not end the only thread: log it, report this pair as broken.
                    logger.exception("the comparison %s failed", pair.key)
                    self._keep(pair, Broken(_unexpected(error)), unread=True)
            with self._lock:
                self._working = None

    def _next(self) -> ComparedPair | None:
        """Wait for the latest request and until pages are drawn; None if the request is stale."""
        with self._lock:
            while not self._waiting:
                self._lock.wait()
            while (left := max(self._asked_at, self._page_at) + _POLITE_S - time.monotonic()) > 0:
                self._lock.wait(left)
            key, (pair, asked_at) = self._waiting.popitem(last=True)
            if time.monotonic() - asked_at > _STALE_S:
                return None
            self._working = key
            return pair

    def _kept(self, key: str) -> PairResult | None:
        """The cached result; None if there is none, or if a failed read is due for a retry."""
        at = self._unread_at.get(key)
        return None if at is not None and time.monotonic() - at > _AGAIN_S else self._found.get(key)

    def _make(self, pair: ComparedPair) -> PairResult:
        unread = False
        try:
            result: PairResult
            result, unread = self._compare(pair)
        except (EvaluationError, MergeboardError, ValidationError, OSError) as error:
            result, unread = Broken(str(error)), True
        self._keep(pair, result, unread=unread)
        return result

    def _keep(self, pair: ComparedPair, result: PairResult, *, unread: bool) -> None:
        """Cache a result; with `unread`, only until the next retry."""
        with self._lock:
            self._found[pair.key] = result
            self._unread_at.pop(pair.key, None)
            if unread:
                self._unread_at[pair.key] = time.monotonic()
            while len(self._found) > _MAX_KEPT:
                self._unread_at.pop(self._found.popitem(last=False)[0], None)

    def _compare(self, pair: ComparedPair) -> tuple[Comparison, bool]:
        """The comparison, and whether samples could not be read."""
        base, candidate = self.sides(pair.base), self.sides(pair.candidate)
        (comparison,) = compare_sides(base, {pair.candidate.scores.candidate.name: candidate})
        return comparison, any(side.unfit for side in (*base, *candidate))


def _unexpected(error: Exception) -> str:
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"This comparison failed unexpectedly ({type(error).__name__}: {reason}); the dashboard's log has the traceback, and "
        "`mergeboard db check` tells whether the store and its samples are whole."
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def comparer(_pages: Pages, name: str, home: Path) -> Comparer:
    """The comparer of a store; `name` is the cache key of the store."""
    return Comparer(_pages, home)


def comparisons_of_run(
    pages: Pages, comparing: Comparer, run_id: str, base: int, shown: Column, positions: Collection[int]
) -> tuple[dict[int, PairResult], int]:
    """Finished comparisons by candidate position, and the number of unfinished pairs.

    They have the rows of the shown column's suite, by its engine.
    """
    pairs, n_candidates = _pairs_to_make(pages, run_id, base, shown, positions)
    finished = comparing.ask(pairs)
    results = corrected(finished, pairs, n_candidates)
    keys = {p.candidate.position: p.key for p in pairs if p.candidate.engine_key == shown.engine_key}
    shown_at = {p: in_suite(results[key], shown.suite) for p, key in keys.items() if key in results}
    return shown_at, len(pairs) - len(finished)


def comparison_of(
    pages: Pages, comparing: Comparer, run_id: str, base: int, position: int, shown: Column
) -> tuple[ComparedPair, PairResult]:
    """Compare one candidate with a base, now if it is not cached; corrected as on the leaderboard."""
    pairs, n_candidates = _pairs_to_make(pages, run_id, base, shown, (position,))
    key = (position, shown.engine_key)
    pair = next((p for p in pairs if (p.candidate.position, p.candidate.engine_key) == key), None)
    if pair is None:
        raise RunError("These two cannot be compared: choose a base and a candidate that both have scores.")
    results = {pair.key: comparing.now(pair), **comparing.ask(pairs)}
    return pair, in_suite(corrected(results, pairs, n_candidates)[pair.key], shown.suite)


def _pairs_to_make(
    pages: Pages, run_id: str, base: int, shown: Column, positions: Collection[int]
) -> tuple[tuple[ComparedPair, ...], int]:
    """The pairs to compare (all if the run has at most `WHOLE` candidates) and the number of candidates."""
    n_candidates = data.fixed(pages.count_candidates, run_id)
    whole = n_candidates <= WHOLE
    rows = data.live(
        pages.scores_of_candidates, run_id, tuple(range(n_candidates)) if whole else (base, *positions)
    )
    pairs = pairs_of(run_id, rows, base, data.fixed(pages.columns, run_id))
    return tuple(p for p in pairs if whole or p.candidate.engine_key == shown.engine_key), n_candidates
