"""Background computation of comparisons that the store does not keep yet; pages poll for them.

The store keeps a run's comparisons with its own base (`orchestrator.compare.family`). What is missing - another
base, a run of an earlier version, a run that another process drives - is computed here and kept in memory: the
dashboard writes nothing. `orchestrator.compare` compares and corrects, as for `mergeboard compare`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from dashboard.comparing_process import EXPECTED, Compared, ComparingProcess
from orchestrator.compare import Side
from orchestrator.compare.candidate_races import n_left_out
from orchestrator.compare.family import At, PairOfRun, RunFamily, pairs_of_run
from orchestrator.compare.kept import PairReader, fill_kept
from orchestrator.compare.run_comparisons import SideReader, result_of_candidate
from orchestrator.store.leaderboard import CandidateScores
from orchestrator.store.pages import Pages

logger = logging.getLogger(__name__)
T = TypeVar("T")
_POLITE_S = 0.8
"""Seconds without computation after a new request or a click, so that the page is drawn first."""
_STALE_S = 60.0
"""Seconds after which nothing more is computed for a page unless it asks again: an open one does every two seconds."""
_AGAIN_S = 20.0
"""Seconds after which a failed read is retried, and a complete family looks for new evaluations."""
_FRESH_S = 2.0
_MOST_FAMILIES = 6
_MOST_EVALUATIONS = 64
_MEASURED = 50


@dataclass(frozen=True)
class Scored:
    """A candidate of a run with all its evaluations by one engine so far, without probes."""

    run_id: str
    engine_key: str
    scores: CandidateScores


class _OpenFamily:
    """A family with what was asked of it."""

    def __init__(self, run_id: str, base: int) -> None:
        self.run_id = run_id
        self.base = base
        self.family = RunFamily(())
        self.read_at = float("-inf")
        self.n_evaluations = -1
        self.asked_at = 0.0
        self.first: tuple[At, ...] = ()
        self.unread_at: dict[At, float] = {}
        self.cached: dict[object, tuple[object, float]] = {}
        self.changed_at = float("-inf")
        """When a comparison was added last."""

    def refresh(self, pages: Pages) -> None:
        """Take what is new in the store: evaluations, and comparisons that it keeps."""
        n_evaluations = pages.count_evaluations(self.run_id)
        if n_evaluations != self.n_evaluations:
            pairs = pairs_of_run(pages.scored_candidates(self.run_id), self.base)
            engines = len({pair.candidate.engine_key for pair in pairs})
            scored = {pair.candidate.position for pair in pairs} | {self.base}
            self._take(pairs, engines * n_left_out(pages, self.run_id, scored))
            self.n_evaluations = n_evaluations
        if fill_kept(pages, self.run_id, self.base, self.family):
            self.cached.clear()
        self.read_at = time.monotonic()

    def _take(self, pairs: Collection[PairOfRun], n_left: int) -> None:
        """Replace the pairs: comparisons of unchanged ones stay. `n_left` counts pairs that a race left out."""
        old, family = self.family, RunFamily(tuple(pairs), n_left)
        if family.pairs.keys() == old.pairs.keys() and all(
            pair.key == old.pairs[at].key for at, pair in family.pairs.items()
        ):
            family = old
        else:
            family.carry_over(old)
            self.cached.clear()
        self.family = family

    def due(self) -> set[At]:
        """Pairs whose samples could not be read, to be retried now."""
        now = time.monotonic()
        return {at for at, when in self.unread_at.items() if now - when > _AGAIN_S}

    def next(self) -> PairOfRun | None:
        """The next pair to compute: those of the shown page first, then the rest; failed reads when due."""
        due = self.due()
        for at in self.first:
            if at in self.family.pairs and (at in due or not self.family.has(at)):
                return self.family.pairs[at]
        return next(iter(self.family.missing), None) or next(
            (self.family.pairs[at] for at in due if at in self.family.pairs), None
        )


class Comparer:
    """Holds the families that pages look at, and computes what is missing of them, one pair after another.

    With a `process` it computes there what pages do not wait for.
    """

    _page_at: ClassVar[float] = 0.0

    @classmethod
    def page_begins(cls) -> None:
        """Pause all comparers until a page is drawn."""
        cls._page_at = time.monotonic()

    def __init__(self, pages: Pages, home: Path, process: ComparingProcess | None = None) -> None:
        self._pages = pages
        self._process = process
        self._reader = SideReader(home, kept=_MOST_EVALUATIONS)
        self._pairs = PairReader(pages, self._reader)
        self._lock = threading.Condition(threading.RLock())
        self._open: OrderedDict[tuple[str, int], _OpenFamily] = OrderedDict()
        self._seconds: deque[float] = deque(maxlen=_MEASURED)
        self._asked_at = 0.0
        threading.Thread(target=self._work, name="comparisons", daemon=True).start()

    def ask(self, run_id: str, base: int, work: Callable[[RunFamily], T], first: Collection[At] = ()) -> T:
        """What `work` says of a run's family; what is missing is computed meanwhile, those of `first` first."""
        with self._lock:
            opened = self._opened(run_id, base)
            if tuple(first) != opened.first and first:
                opened.first = tuple(first)
                self._asked_at = time.monotonic()
            opened.asked_at = time.monotonic()
            self._lock.notify()
            return work(opened.family)

    def cached(self, run_id: str, base: int, name: object, work: Callable[[RunFamily], T]) -> T:
        """As `ask`, remembered under a name until a comparison is added; while many are missing, for two seconds at least."""

        def answer(family: RunFamily) -> T:
            opened, now = self._opened(run_id, base), time.monotonic()
            value, made_at = opened.cached.get(name, (None, float("-inf")))
            is_news = made_at < opened.changed_at
            if name not in opened.cached or (is_news and (now - made_at > _FRESH_S or not family.missing)):
                value = work(family)
                opened.cached[name] = value, now
            return cast("T", value)  # one name, one type

        return self.ask(run_id, base, answer)

    def now(self, run_id: str, base: int, at: At) -> None:
        """Compute one comparison now, if it is missing or its failed read is due for a retry."""
        with self._lock:
            opened = self._opened(run_id, base)
            pair = opened.family.pairs.get(at)
            if pair is None or (opened.family.has(at) and at not in opened.due()):
                return
        self._make(opened, pair, self._compare)

    @property
    def pair_s(self) -> float | None:
        """Mean seconds of the latest comparisons; None before the first."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else None

    def sides(self, scored: Scored) -> list[Side]:
        """The sides of a candidate's evaluations, with samples."""
        jobs = tuple(e.job_digest for e in scored.scores.evaluations)
        candidate = scored.scores.candidate
        result = result_of_candidate(self._pages, scored.run_id, candidate, scored.engine_key, jobs)
        return [] if result is None else self._reader.sides(result)

    def _opened(self, run_id: str, base: int) -> _OpenFamily:
        """The family, with the evaluations of now or of a moment ago."""
        opened = self._open.setdefault((run_id, base), _OpenFamily(run_id, base))
        self._open.move_to_end((run_id, base))
        while len(self._open) > _MOST_FAMILIES:
            self._open.popitem(last=False)
        fresh_s = _FRESH_S if opened.family.missing or not opened.family.pairs else _AGAIN_S
        if time.monotonic() - opened.read_at > fresh_s:
            opened.refresh(self._pages)
        return opened

    def _compare(self, run_id: str, pair: PairOfRun) -> Compared:
        comparison, unread = self._pairs.compare(run_id, pair)
        return comparison.model_dump_json(), unread

    def _work(self) -> None:
        compare = self._compare if self._process is None else self._process.compare
        while True:
            opened, pair = self._next()
            try:
                self._make(opened, pair, compare)
            except Exception as error:
                # An unexpected error must not end the only thread: log it, report this pair as broken.
                logger.exception("the comparison %s failed", pair.key)
                self._failed(opened, pair, _unexpected(error))

    def _next(self) -> tuple[_OpenFamily, PairOfRun]:
        """Wait until pages are drawn and a pair of a family that was asked for lately is missing."""
        with self._lock:
            while True:
                left = max(self._asked_at, Comparer._page_at) + _POLITE_S - time.monotonic()
                if left <= 0:
                    for opened in sorted(self._open.values(), key=lambda o: -o.asked_at):
                        asked_lately = time.monotonic() - opened.asked_at < _STALE_S
                        pair = opened.next() if asked_lately else None
                        if pair is not None:
                            return opened, pair
                self._lock.wait(left if left > 0 else None)

    def _make(
        self, opened: _OpenFamily, pair: PairOfRun, compare: Callable[[str, PairOfRun], Compared]
    ) -> None:
        start = time.monotonic()
        try:
            spec, unread = compare(opened.run_id, pair)
        except EXPECTED as error:
            self._failed(opened, pair, str(error))
            return
        with self._lock:
            self._seconds.append(time.monotonic() - start)
            if opened.family.pairs.get(pair.at) == pair:
                opened.family.add(pair.at, spec)
                opened.unread_at.pop(pair.at, None)
                if unread:
                    opened.unread_at[pair.at] = time.monotonic()
                opened.changed_at = time.monotonic()

    def _failed(self, opened: _OpenFamily, pair: PairOfRun, reason: str) -> None:
        with self._lock:
            opened.family.fail(pair.at, reason)
            opened.unread_at[pair.at] = opened.changed_at = time.monotonic()


def _unexpected(error: Exception) -> str:
    """What a page says of a comparison that failed for no known reason."""
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"This comparison failed unexpectedly ({type(error).__name__}: {reason}); the dashboard's log has the traceback, and "
        "`mergeboard db check` tells whether the store and its samples are whole."
    )
