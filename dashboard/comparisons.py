"""Comparisons for the pages, made in the background: a page shows what is there and asks again.

Outcomes never change, so a comparison is made once and kept. How two sides differ, by how much and whether that is
real is decided by `orchestrator.compare` alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import streamlit as st
from pydantic import ValidationError

from evals.errors import EvaluationError, SamplesError
from evals.scores import Sample
from evals.suite import load_suite
from orchestrator.compare import Comparison, Side, compare, measurement_of
from orchestrator.compare.run_comparisons import stored_samples
from orchestrator.errors import MergeboardError
from orchestrator.store.pages import Pages
from orchestrator.store.records import CandidateScores, EvalOutcome, EvaluationRecord

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
_MAX_SIDES = 64


@dataclass(frozen=True)
class Wanted:
    """A candidate against a base, with the evaluations that each has by now."""

    base: CandidateScores
    candidate: CandidateScores

    @property
    def key(self) -> str:
        """Names the comparison; another evaluation makes it another one."""
        return "|".join(
            ",".join(e.job_digest for e in side.evaluations) for side in (self.base, self.candidate)
        )


@dataclass(frozen=True)
class Broken:
    """Why a comparison could not be made."""

    reason: str


Found = Comparison | Broken


class Comparer:
    """Makes comparisons one after another on a thread of its own, those asked for last first."""

    _page_at: ClassVar[float] = 0.0

    @classmethod
    def page_begins(cls) -> None:
        """Somebody waits for a page, of whichever store: make nothing until it is drawn."""
        cls._page_at = time.monotonic()

    def __init__(self, pages: Pages, home: Path) -> None:
        self._pages = pages
        self._home = home
        self._lock = threading.Condition()
        self._waiting: OrderedDict[str, tuple[Wanted, float]] = OrderedDict()
        self._found: OrderedDict[str, Found] = OrderedDict()
        self._unread_at: dict[str, float] = {}
        self._sides: OrderedDict[str, Side] = OrderedDict()
        self._working: str | None = None
        self._asked_at = 0.0
        threading.Thread(target=self._work, name="comparisons", daemon=True).start()

    def ask(self, wanted: Iterable[Wanted]) -> dict[int, Found]:
        """Comparisons that are there, by the candidate's position; the others are made next."""
        there: dict[int, Found] = {}
        with self._lock:
            for one in reversed(list(wanted)):
                found = self._kept(one.key)
                if found is not None:
                    there[one.candidate.candidate.position] = found
                elif one.key != self._working:
                    now = time.monotonic()
                    if one.key not in self._waiting:
                        self._asked_at = now
                    self._waiting[one.key] = one, now
                    self._waiting.move_to_end(one.key)
            while len(self._waiting) > _MAX_WAITING:
                self._waiting.popitem(last=False)
            self._lock.notify()
        return there

    def now(self, wanted: Wanted) -> Found:
        """One comparison, made at once if it is not there."""
        with self._lock:
            found = self._kept(wanted.key)
        return found if found is not None else self._make(wanted)

    def sides(self, scores: CandidateScores) -> tuple[Side, ...]:
        """A candidate's benchmarks with their samples."""
        return tuple(self._side(e, scores.candidate.name) for e in scores.evaluations)

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
        names = dict.fromkeys(e.suite for s in (wanted.base, wanted.candidate) for e in s.evaluations)
        suites = [load_suite(name) for name in names]
        name = wanted.candidate.candidate.name
        base, candidate = self.sides(wanted.base), self.sides(wanted.candidate)
        made = compare(base, {name: candidate}, suites)
        return made[0], any(side.unfit for side in (*base, *candidate))

    def _side(self, record: EvaluationRecord, name: str) -> Side:
        with self._lock:
            known = self._sides.get(record.job_digest)
            if known is not None:
                self._sides.move_to_end(record.job_digest)
                return known
        side = _read_side(self._pages, self._home, record, name)
        if side.unfit is not None:
            # A file that is restored is read again.
            return side
        with self._lock:
            self._sides[record.job_digest] = side
            while len(self._sides) > _MAX_SIDES:
                self._sides.popitem(last=False)
        return side


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


def _read_side(pages: Pages, home: Path, record: EvaluationRecord, name: str) -> Side:
    outcome = pages.outcomes([record.job_digest])[record.job_digest]
    assert isinstance(outcome, EvalOutcome)
    protocol = pages.protocols([record.protocol_digest]).get(record.protocol_digest)
    benchmark = load_suite(record.suite).benchmark(record.result.benchmark)
    samples: tuple[Sample, ...] = ()
    unfit = None
    try:
        samples = stored_samples(record.job_digest, record, home).read()
    except SamplesError as error:
        unfit = str(error)
    quantization = outcome.evaluation.engine.quantization
    measured = measurement_of(
        outcome.evaluation, benchmark, name, samples, protocol=protocol, quantization=quantization
    )
    return Side(measured, samples, unfit=unfit)
