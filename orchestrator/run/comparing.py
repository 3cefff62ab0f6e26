"""Compares a run's candidates with its base as their evaluations come in, and keeps the comparisons in the store.

Pages then show the verdict of thousands of candidates at once. It works on a thread of the run's driver. A comparison
that fails, or is not made in time, is left to the pages and to `mergeboard compare --run`; it never ends the run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from evals.errors import EvaluationError
from orchestrator.compare.family import PairOfRun, pairs_of_run
from orchestrator.compare.kept import PairReader, record_of
from orchestrator.compare.run_comparisons import SideReader
from orchestrator.errors import MergeboardError
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.store import Store
from orchestrator.store.records import FailureClass, Success

_log = logging.getLogger("mergeboard.comparing")
_EVERY_S = 5.0
"""Seconds between looks at what has come in: a look reads the run's jobs."""
_LAST_S = 20.0
"""Longest wait at the end of a run for comparisons that are still missing."""
_MOST_EVALUATIONS = 64


class KeepComparisons:
    """Observer of a run that keeps its comparisons, from `with` to its end."""

    def __init__(self, store: Store, run_id: str, home: Path) -> None:
        self._store = store
        self._run_id = run_id
        self._pairs = PairReader(store, SideReader(home, kept=_MOST_EVALUATIONS))
        self._wake = threading.Condition()
        self._news = False
        self._ends_at: float | None = None
        self._failed: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="keep-comparisons", daemon=True)

    def __enter__(self) -> KeepComparisons:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Make what is missing, for a while unless the run was broken off, and end."""
        with self._wake:
            self._ends_at = time.monotonic() + (_LAST_S if kind is None else 0.0)
            self._wake.notify()
        self._thread.join()

    def finished(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """Note that an outcome has been stored."""
        if isinstance(job, EvalJob) and not job.is_probe:
            with self._wake:
                self._news = True
                self._wake.notify()

    def failed(self, failure_class: FailureClass) -> None:
        """Failures leave nothing to compare."""

    def update(self, jobs_by_state: Mapping[str, int], tokens_by_job: Mapping[str, int]) -> None:
        """Progress leaves nothing to compare."""

    def _work(self) -> None:
        looked_at = float("-inf")
        while True:
            with self._wake:
                while self._ends_at is None and (
                    not self._news or (left := looked_at + _EVERY_S - time.monotonic()) > 0
                ):
                    self._wake.wait(left if self._news else None)
                is_last, self._news = self._ends_at is not None, False
            looked_at = time.monotonic()
            try:
                for pair in self._missing(all_of_them=is_last):
                    if self._over():
                        return
                    self._keep(pair)
            except MergeboardError as error:
                _log.warning("Comparisons of run %s are kept later: %s", self._run_id, error)
            if is_last:
                return

    def _over(self) -> bool:
        return self._ends_at is not None and time.monotonic() > self._ends_at

    def _missing(self, *, all_of_them: bool) -> Iterator[PairOfRun]:
        """Pairs without a kept comparison, of candidates whose evaluations are all there or, at the end, of all."""
        base = next((c.position for c in self._store.candidates(self._run_id) if c.is_base), None)
        if base is None:
            return
        unfinished = frozenset[int]() if all_of_them else self._store.open_candidates(self._run_id)
        if base in unfinished:
            return
        kept = self._store.kept_keys(self._run_id, base)
        for pair in pairs_of_run(self._store.scored_candidates(self._run_id), base):
            is_open = pair.candidate.position in unfinished or pair.key in self._failed
            if not is_open and kept.get(pair.at) != pair.key:
                yield pair

    def _keep(self, pair: PairOfRun) -> None:
        try:
            comparison, unread = self._pairs.compare(self._run_id, pair)
        except (EvaluationError, ValidationError, OSError) as error:
            self._failed.add(pair.key)
            _log.warning("A comparison of run %s failed: %s", self._run_id, error)
            return
        if unread:
            self._failed.add(pair.key)
        else:
            self._store.keep_comparisons([record_of(self._run_id, pair, comparison)])
