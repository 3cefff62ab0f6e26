"""Comparisons for the pages, made in the background: a page shows what is there and asks again.

Outcomes never change, so a comparison is made once and kept. Reading results, comparing them and correcting p-values is
`orchestrator.compare.run_comparisons`, as for `mergeboard compare`; here are only the thread, what it keeps, and which pairs a
page is about.
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
from orchestrator.store.pages import Column, Pages
from orchestrator.store.records import CandidateScores, EvaluationRecord

logger = logging.getLogger(__name__)
WHOLE = 60
"""Runs with at most so many candidates are compared and corrected as a whole, page or no page."""
_POLITE_S = 0.8
"""Seconds after a new question or a click in which nothing is made, so that the page is drawn first."""
_STALE_S = 60.0
"""Seconds after which what nobody asks for any more is not made: an open page asks every two."""
_AGAIN_S = 20.0
"""Seconds after which what could not be read is tried again: a file or the store may be back."""
_MAX_WAITING = 400
_MAX_KEPT = 20_000
_MOST_EVALUATIONS = 64


@dataclass(frozen=True)
class Scored:
    """A candidate of a run with all its evaluations by one engine so far; probes are no scores."""

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
class Wanted:
    """A candidate against a base, with the evaluations that each has by now."""

    base: Scored
    candidate: Scored

    @property
    def key(self) -> str:
        """Names the comparison; another evaluation makes it another one."""
        sides = (self.base, self.candidate)
        return "|".join(f"{s.run_id} {s.position} {s.engine_key} {','.join(s.jobs)}" for s in sides)


@dataclass(frozen=True)
class Broken:
    """Why a comparison could not be made."""

    reason: str


Found = Comparison | Broken


def by_engine(run_id: str, scores: CandidateScores, columns: Sequence[Column]) -> dict[str, Scored]:
    """A candidate's evaluations, engine by engine; `columns` are the run's."""
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
) -> tuple[Wanted, ...]:
    """Every candidate against the base at a position, engine by engine, as `compare --run` pairs them."""
    engines = {row.candidate.position: by_engine(run_id, row, columns) for row in rows}
    return tuple(
        Wanted(reference, scored)
        for key, reference in engines.get(base, {}).items()
        for position, candidate in engines.items()
        if position != base and (scored := candidate.get(key)) is not None
    )


def corrected(found: Mapping[str, Found], pairs: Sequence[Wanted], n_candidates: int) -> dict[str, Found]:
    """What was found of a base's pairs, by their keys, with p-values corrected for all that the run has tried.

    With all pairs of a run (at most `WHOLE` candidates) they are one family, as for `compare --run`; what is still being made
    counts as if it showed nothing. Of larger runs each is corrected as if all others showed nothing, as for `compare CANDIDATE`.
    """
    good = {key: each for key, each in found.items() if isinstance(each, Comparison)}
    if n_candidates <= WHOLE:
        family = correct(list(good.values()), other_candidates=len(pairs) - len(found))
        return {**found, **dict(zip(good, family, strict=True))}
    others = max(0, n_candidates - 2)
    return {**found, **{key: correct([each], other_candidates=others)[0] for key, each in good.items()}}


def in_suite(found: Found, suite: str) -> Found:
    """The rows of one suite, corrected as they were."""
    if isinstance(found, Broken):
        return found
    rows, averages = (tuple(r for r in some if r.suite == suite) for some in (found.rows, found.averages))
    return found.model_copy(update={"rows": rows, "averages": averages})


class Comparer:
    """Makes comparisons one after another on a thread of its own, those asked for last first."""

    _page_at: ClassVar[float] = 0.0

    @classmethod
    def page_begins(cls) -> None:
        """Somebody waits for a page, of whichever store: make nothing until it is drawn."""
        cls._page_at = time.monotonic()

    def __init__(self, pages: Pages, home: Path) -> None:
        self._pages = pages
        self._reader = SideReader(home, kept=_MOST_EVALUATIONS)
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, tuple[Wanted, float]] = OrderedDict()
        self._found: OrderedDict[str, Found] = OrderedDict()
        self._unread_at: dict[str, float] = {}
        self._working: str | None = None
        self._asked_at = 0.0
        threading.Thread(target=self._work, name="comparisons", daemon=True).start()

    def ask(self, wanted: Iterable[Wanted]) -> dict[str, Found]:
        """Comparisons that are there, by their keys; the others are made next."""
        there: dict[str, Found] = {}
        with self._lock:
            for pair in reversed(list(wanted)):
                found = self._kept(pair.key)
                if found is not None:
                    there[pair.key] = found
                elif pair.key != self._working:
                    now = time.monotonic()
                    if pair.key not in self._waiting:
                        self._asked_at = now
                    self._waiting[pair.key] = pair, now
                    self._waiting.move_to_end(pair.key)
            while len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)
            self._lock.notify()
        return there

    def now(self, wanted: Wanted) -> Found:
        """One comparison, made at once if it is not there."""
        with self._lock:
            found = self._kept(wanted.key)
        return found if found is not None else self._make(wanted)

    def sides(self, scored: Scored) -> list[Side]:
        """A candidate's benchmarks with their samples."""
        result = result_of_candidate(
            self._pages, scored.run_id, scored.scores.candidate, scored.engine_key, scored.jobs
        )
        return [] if result is None else self._reader.sides(result)

    def _work(self) -> None:
        while True:
            wanted = self._next()
            if wanted is not None:
                try:
                    self._make(wanted)
                except Exception as error:
                    # The one thread of all comparisons: what nobody foresaw ends this one alone, and its traceback is logged.
                    logger.exception("the comparison %s failed", wanted.key)
                    self._keep(wanted, Broken(_unexpected(error)), unread=True)
            with self._lock:
                self._working = None

    def _next(self) -> Wanted | None:
        """What was asked for last, once the page that asked has had its time; None where nobody asks for it any more."""
        with self._lock:
            while not self._waiting:
                self._lock.wait()
            while (left := max(self._asked_at, self._page_at) + _POLITE_S - time.monotonic()) > 0:
                self._lock.wait(left)
            key, (wanted, asked_at) = self._waiting.popitem(last=True)
            if time.monotonic() - asked_at > _STALE_S:
                return None
            self._working = key
            return wanted

    def _kept(self, key: str) -> Found | None:
        """What was made, unless something could not be read then and it is time to try again."""
        at = self._unread_at.get(key)
        return None if at is not None and time.monotonic() - at > _AGAIN_S else self._found.get(key)

    def _make(self, wanted: Wanted) -> Found:
        unread = False
        try:
            found: Found
            found, unread = self._compare(wanted)
        except (EvaluationError, MergeboardError, ValidationError, OSError) as error:
            found, unread = Broken(str(error)), True
        self._keep(wanted, found, unread=unread)
        return found

    def _keep(self, wanted: Wanted, found: Found, *, unread: bool) -> None:
        """Remember a result; one that was not read for good is made again after a while."""
        with self._lock:
            self._found[wanted.key] = found
            self._unread_at.pop(wanted.key, None)
            if unread:
                self._unread_at[wanted.key] = time.monotonic()
            while len(self._found) > _MAX_KEPT:
                self._unread_at.pop(self._found.popitem(last=False)[0], None)

    def _compare(self, wanted: Wanted) -> tuple[Comparison, bool]:
        """The comparison, and whether samples of it could not be read."""
        base, candidate = self.sides(wanted.base), self.sides(wanted.candidate)
        (found,) = compare_sides(base, {wanted.candidate.scores.candidate.name: candidate})
        return found, any(side.unfit for side in (*base, *candidate))


def _unexpected(error: Exception) -> str:
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"This comparison failed unexpectedly ({type(error).__name__}: {reason}); the dashboard's log has the traceback, and "
        "`mergeboard db check` tells whether the store and its samples are whole."
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def comparer(_pages: Pages, name: str, home: Path) -> Comparer:
    """The one comparer of a store; `name` tells stores apart."""
    return Comparer(_pages, home)


def comparisons_of_run(
    pages: Pages, comparing: Comparer, run_id: str, base: int, shown: Column, positions: Collection[int]
) -> tuple[dict[int, Found], int]:
    """The candidates at some positions against a base, as far as they are there, and how many pairs are being made.

    Each has its rows of the shown column's suite, by its engine.
    """
    pairs, n_candidates = _pairs_to_make(pages, run_id, base, shown, positions)
    there = comparing.ask(pairs)
    found = corrected(there, pairs, n_candidates)
    keys = {p.candidate.position: p.key for p in pairs if p.candidate.engine_key == shown.engine_key}
    shown_at = {p: in_suite(found[key], shown.suite) for p, key in keys.items() if key in found}
    return shown_at, len(pairs) - len(there)


def comparison_of(
    pages: Pages, comparing: Comparer, run_id: str, base: int, position: int, shown: Column
) -> tuple[Wanted, Found]:
    """One candidate against a base, made at once if it is not there, corrected as on the leaderboard."""
    pairs, n_candidates = _pairs_to_make(pages, run_id, base, shown, (position,))
    key = (position, shown.engine_key)
    pair = next((p for p in pairs if (p.candidate.position, p.candidate.engine_key) == key), None)
    if pair is None:
        raise RunError("These two cannot be compared: choose a base and a candidate that both have scores.")
    found = {pair.key: comparing.now(pair), **comparing.ask(pairs)}
    return pair, in_suite(corrected(found, pairs, n_candidates)[pair.key], shown.suite)


def _pairs_to_make(
    pages: Pages, run_id: str, base: int, shown: Column, positions: Collection[int]
) -> tuple[tuple[Wanted, ...], int]:
    """All pairs of a run with at most `WHOLE` candidates, of a larger one those that are shown; and how many candidates it has."""
    n_candidates = data.fixed(pages.count_candidates, run_id)
    whole = n_candidates <= WHOLE
    rows = data.live(
        pages.scores_of_candidates, run_id, tuple(range(n_candidates)) if whole else (base, *positions)
    )
    pairs = pairs_of(run_id, rows, base, data.fixed(pages.columns, run_id))
    return tuple(p for p in pairs if whole or p.candidate.engine_key == shown.engine_key), n_candidates
