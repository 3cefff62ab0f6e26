"""When a run will end, as its driver sees it: what has ended teaches, what runs tells how far it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.plan.durations import Durations
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.outlook import ActiveBatch, active_batch, left_s
from orchestrator.plan.remaining import SteadyEstimate
from orchestrator.run.progress import JobProgress
from orchestrator.store.records import EvalOutcome, Success

# An engine that has just ended one job counts as working until it has its next.
_BETWEEN_JOBS_S = 5.0


class _Batch:
    """Jobs that run together, and what has been seen of them."""

    def __init__(self, jobs: Sequence[BuildJob | EvalJob], now_s: float, *, fresh: bool) -> None:
        self.jobs = jobs
        self.begun_s = now_s
        self.fresh = fresh
        self.counted: tuple[float | None, float] = (None, 0.0)
        self.seen_s = now_s

    def see(self, progress: JobProgress, now_s: float) -> None:
        """Take in what its worker has written down."""
        counted = (progress.share_done, progress.work_s)
        if counted != self.counted:
            self.counted, self.seen_s = counted, now_s
        self.fresh = progress.engine_starts or (self.fresh and progress.share_done is None)


class RunOutlook:
    """The remaining time of one run, kept up to date by its scheduler."""

    def __init__(
        self,
        durations: Durations,
        jobs: Mapping[str, BuildJob | EvalJob],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._durations = durations
        self._jobs = jobs
        self._clock = clock
        self._workloads = {digest: durations.workload(job) for digest, job in jobs.items()}
        self._batches: dict[str, _Batch] = {}
        self._opened: set[str] = set()
        self._parallel: list[tuple[float, int]] = []
        self._steady = SteadyEstimate()

    def began(self, jobs: Sequence[BuildJob | EvalJob]) -> None:
        """One batch has been given to an engine, or a build to a node."""
        fresh = isinstance(jobs[0], EvalJob) and jobs[0].engine_key not in self._opened
        self._batches[jobs[0].digest] = _Batch(jobs, self._clock(), fresh=fresh)

    def ended(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """A job has ended well; what it took is learned."""
        batch = next((b for b in self._batches.values() if any(job.digest == j.digest for j in b.jobs)), None)
        took = (self._clock() - batch.begun_s) / len(batch.jobs) if batch is not None else None
        if isinstance(job, EvalJob) and isinstance(outcome, EvalOutcome):
            self._opened.add(job.engine_key)
            if outcome.evaluation.n_replayed:
                return
            if outcome.engine_start_s is not None:
                self._durations.learn_start(job, outcome.engine_start_s)
            # What comes before and after its requests counts too, but not the start of its engine.
            if took is None or outcome.engine_start_s is not None or len(batch.jobs if batch else ()) > 1:
                took = outcome.evaluation.duration_s
        if took is not None:
            self._durations.learn(self._durations.workload(job), took)

    def left_s(self, pending: Iterable[str], running: Sequence[JobProgress], n_ended: int) -> float | None:
        """Seconds until the run ends, null where nothing is known; `n_ended` counts jobs and attempts that have ended."""
        now = self._clock()
        self._batches = {p.digest: self._batches[p.digest] for p in running if p.digest in self._batches}
        for progress in running:
            if progress.digest in self._batches:
                self._batches[progress.digest].see(progress, now)
        waiting = list(pending)
        active = [self._active(batch, now) for batch in self._batches.values()]
        left = left_s(
            self._durations,
            Counter(map(self._workloads.__getitem__, waiting)),
            active,
            parallel=self._engines(now),
            starts_s=self._starts_s(waiting),
        )
        quarters = tuple(int(4 * (p.share_done or 0.0)) for p in running)
        return self._steady.update(now, left, (n_ended, sum(quarters)))

    def _active(self, batch: _Batch, now: float) -> ActiveBatch:
        first = batch.jobs[0]
        share, counted_s = batch.counted
        starting = batch.fresh and isinstance(first, EvalJob)
        return active_batch(
            self._workloads[first.digest],
            len(batch.jobs),
            since_start_s=now - batch.begun_s,
            share_done=share,
            counted_s=counted_s,
            since_count_s=now - batch.seen_s,
            starting=starting,
            engine_start_s=self._durations.start_s(first) if isinstance(first, EvalJob) else 0.0,
        )

    def _engines(self, now: float) -> int:
        """Engines and builds that work, those between two jobs included."""
        self._parallel = [(at, n) for at, n in self._parallel if now - at <= _BETWEEN_JOBS_S]
        self._parallel.append((now, len(self._batches)))
        return max(n for _, n in self._parallel)

    def _starts_s(self, waiting: Iterable[str]) -> float:
        """Seconds of engine starts to come: one for each engine that no job has had yet."""
        known = self._opened | {
            b.jobs[0].engine_key for b in self._batches.values() if isinstance(b.jobs[0], EvalJob)
        }
        coming: dict[str, EvalJob] = {}
        for digest in waiting:
            job = self._jobs[digest]
            if isinstance(job, EvalJob) and job.engine_key not in known:
                coming.setdefault(job.engine_key, job)
        return sum(map(self._durations.start_s, coming.values()))
