"""Remaining time of a run, for its driver (RunOutlook) and for readers of the store (StoredOutlook)."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.plan.durations import ENGINE_START_S, Durations, Workload
from orchestrator.plan.engine_starts import EngineStarts
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.outlook import ActiveBatch, active_batch, left_s
from orchestrator.plan.remaining import SteadyEstimate
from orchestrator.run.progress import JobProgress, progress_age_s, read_progress
from orchestrator.store import Store
from orchestrator.store.records import BuildOutcome, EarlyOutcome, EvalOutcome, JobCounts, Success
from orchestrator.store.work import RunningWork

# An engine counts as working for this long after a job, until it gets the next.
_BETWEEN_JOBS_S = 5.0
# Pause between counts of the waiting jobs, per job of the run; one count takes about 1 µs per job.
_LOOK_AGAIN_S = 1e-4
# Least share of requests answered by the engine, not the journal, to extrapolate an evaluation's duration.
_LEAST_ASKED = 0.05


class _Batch:
    """Jobs that run as one batch, and their last progress."""

    def __init__(self, jobs: Sequence[BuildJob | EvalJob], now_s: float, *, fresh: bool) -> None:
        self.jobs = jobs
        self.begun_s = now_s
        self.fresh = fresh
        self.counted: tuple[float | None, float] = (None, 0.0)
        self.seen_s = now_s

    def see(self, progress: JobProgress, now_s: float) -> None:
        """Update from the progress that its worker wrote."""
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
        self._jobs: dict[str, BuildJob | EvalJob] = {}
        self._clock = clock
        self._workloads: dict[str, Workload] = {}
        self.later: Mapping[str, int] = {}
        """Expected number of evaluations that are still to be added, by engine key; they are taken to be like those that there are."""
        self.add(jobs)
        self._batches: dict[str, _Batch] = {}
        self._opened: set[str] = set()
        self._parallel: list[tuple[float, int]] = []
        self._steady = SteadyEstimate()
        self._waiting: Counter[Workload] = Counter()
        self._coming_s = 0.0
        self._look_again_s = clock()

    def add(self, jobs: Mapping[str, BuildJob | EvalJob], later: Mapping[str, int] | None = None) -> None:
        """Take further jobs of the run; `later` says how many evaluations are still to be added, by engine key."""
        self.later = later or {}
        self._jobs |= jobs
        self._workloads |= {digest: self._durations.workload(job) for digest, job in jobs.items()}

    def began(self, jobs: Sequence[BuildJob | EvalJob]) -> None:
        """Record that a batch or a build was started."""
        fresh = isinstance(jobs[0], EvalJob) and jobs[0].engine_key not in self._opened
        self._batches[jobs[0].digest] = _Batch(jobs, self._clock(), fresh=fresh)

    def ended(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """Learn the duration of a job that succeeded."""
        workload = self._durations.workload(job)
        batch = next((b for b in self._batches.values() if any(job.digest == j.digest for j in b.jobs)), None)
        duration_s = (self._clock() - batch.begun_s) / len(batch.jobs) if batch is not None else 0.0
        if isinstance(job, EvalJob) and not isinstance(outcome, BuildOutcome):
            self._opened.add(job.engine_key)
            evaluation = outcome.evaluation if isinstance(outcome, EvalOutcome) else outcome.early
            start_s = outcome.engine_start_s
            if start_s is not None:
                self._durations.learn_start(job, start_s)
            share_computed = 1 - evaluation.n_replayed / max(1, evaluation.n_requests)
            if share_computed < _LEAST_ASKED or evaluation.n_requests == 0:
                return
            if isinstance(outcome, EarlyOutcome) and outcome.early.sequence.part is None:
                return  # it stopped anywhere
            # Wall time covers work before and after the requests, but is no use with an engine start.
            if batch is None or len(batch.jobs) > 1 or start_s is not None or evaluation.n_replayed:
                duration_s = evaluation.duration_s / share_computed
        self._durations.learn(workload, duration_s)

    def left_s(self, pending: Iterable[str], running: Sequence[JobProgress], n_ended: int) -> float | None:
        """Seconds until the run ends, None if unknown; `n_ended` counts ended jobs and attempts."""
        now = self._clock()
        self._batches = {p.digest: self._batches[p.digest] for p in running if p.digest in self._batches}
        for progress in running:
            if progress.digest in self._batches:
                self._batches[progress.digest].see(progress, now)
        if now >= self._look_again_s:
            waiting = list(pending)
            self._waiting = Counter(map(self._workloads.__getitem__, waiting))
            self._waiting.update(self._expected())
            self._coming_s = self._starts_s(waiting)
            self._look_again_s = now + len(self._jobs) * _LOOK_AGAIN_S
        active = [self._active(batch, now) for batch in self._batches.values()]
        estimate_s = left_s(
            self._durations,
            self._waiting,
            active,
            parallel=self._engines(now),
            starts_s=self._coming_s,
        )
        quarters = tuple(int(4 * (p.share_done or 0.0)) for p in running)
        return self._steady.update(now, estimate_s, (n_ended, sum(quarters)))

    def _expected(self) -> Iterator[Workload]:
        """Workloads of the evaluations that will be added."""
        for key, count in self.later.items():
            evals = {digest: job for digest, job in self._jobs.items() if isinstance(job, EvalJob)}
            # After a refusal no job has the engine that paths were to run live in.
            like = [digest for digest, job in evals.items() if job.engine_key == key] or list(evals)
            yield from itertools.islice(itertools.cycle(map(self._workloads.__getitem__, like)), count)

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
        """Number of engines and builds at work, including engines between two jobs."""
        self._parallel = [(at, n) for at, n in self._parallel if now - at <= _BETWEEN_JOBS_S]
        self._parallel.append((now, len(self._batches)))
        return max(n for _, n in self._parallel)

    def _starts_s(self, waiting: Iterable[str]) -> float:
        """Seconds of the engine starts to come: one for each engine key without a started job."""
        opened = self._opened | {
            b.jobs[0].engine_key for b in self._batches.values() if isinstance(b.jobs[0], EvalJob)
        }
        coming: dict[str, EvalJob] = {}
        for digest in waiting:
            job = self._jobs[digest]
            if isinstance(job, EvalJob) and job.engine_key not in opened:
                coming.setdefault(job.engine_key, job)
        return sum(map(self._durations.start_s, coming.values()))


class StoredOutlook:
    """Remaining time of a run that another process drives, from the store and the workers' progress files."""

    def __init__(self, run_id: str, home: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_id = run_id
        self._journals = home / "journals"
        self._home = home
        self._clock = clock
        self._steady = SteadyEstimate()

    def left_s(self, store: Store, progress: JobCounts) -> float | None:
        """Seconds until the run ends, None if unknown. The value falls until another job ends."""
        start_s = EngineStarts(self._home).typical_s() or ENGINE_START_S
        durations = Durations({}, on_gpu=False)
        measured = store.measured_work(self._run_id) or store.measured_work()
        for work in measured:
            durations.learn(work.workload, work.duration_s)
        waiting: Counter[Workload] = Counter()
        engines = set()
        for open_work in store.open_work(self._run_id):
            waiting[open_work.workload] += open_work.count
            engines.add(open_work.engine)
        batches: dict[str, list[RunningWork]] = {}
        for job in store.running_jobs(self._run_id):
            batches.setdefault(job.worker, []).append(job)
            engines.discard(job.engine)
        active = [self._active(batch, start_s) for batch in batches.values()]
        estimate_s = left_s(
            durations,
            waiting,
            active,
            parallel=len(batches),
            starts_s=start_s * len(engines - {None}),
        )
        quarters = sum(int(4 * (batch.share_done or 0.0)) for batch in active)
        return self._steady.update(self._clock(), estimate_s, (progress.done + progress.failed, quarters))

    def _active(self, batch: Sequence[RunningWork], start_s: float) -> ActiveBatch:
        """A running batch, with the progress of the job whose worker wrote the most."""
        written = [read_progress(self._journals, job.job_digest, "") for job in batch]
        number, progress = max(enumerate(written), key=lambda item: item[1].share_done or 0.0)
        return active_batch(
            batch[0].workload,
            len(batch),
            since_start_s=batch[0].elapsed_s,
            share_done=progress.share_done,
            counted_s=progress.work_s,
            since_count_s=progress_age_s(self._journals, batch[number].job_digest),
            starting=any(progress.engine_starts for progress in written),
            engine_start_s=start_s,
        )
