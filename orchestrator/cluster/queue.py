"""The jobs that may start now, in one queue of batches per engine. Independent of Ray."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter

from orchestrator.plan.job import BuildJob, EvalJob

BATCH_JOBS = 32
"""Most jobs of one batch, and therefore the most that are lost if an engine dies."""

Batch = tuple[BuildJob | EvalJob, ...]
"""Jobs that start together: one, or several that differ only in their layer path."""

JobGroup = tuple[str, str | None] | None
"""An evaluation's `engine_key` and `batch_key`; all builds are one group."""


def group_of(job: BuildJob | EvalJob) -> JobGroup:
    """Group of a job in the queue."""
    return (job.engine_key, job.batch_key) if isinstance(job, EvalJob) else None


class BatchQueue:
    """The batches that wait for one engine, in order of preference; created lazily, counted up front."""

    __slots__ = ("_ahead", "_batches", "_begin", "_count")

    def __init__(self, begin: Callable[[], Iterator[Batch]], count: int) -> None:
        """`begin` creates the iterator over the `count` batches when the first one is needed."""
        self._begin = begin
        self._count = count
        self._batches: Iterator[Batch] | None = None
        self._ahead: deque[Batch] = deque()

    def __len__(self) -> int:
        return self._count

    def ahead(self, count: int) -> list[Batch]:
        """The next batches, at most `count`; they stay in the queue."""
        if self._batches is None:
            self._batches = self._begin()
        self._ahead.extend(itertools.islice(self._batches, max(0, count - len(self._ahead))))
        return list(itertools.islice(self._ahead, count))

    def take(self) -> Batch:
        """Remove and return the next batch."""
        if not self._ahead:
            self.ahead(1)
        self._count -= 1
        return self._ahead.popleft()


class Queues(Mapping[str, BatchQueue]):
    """The queues of all engines by `engine_key`, in order of preference; each is created when accessed."""

    def __init__(self, ready: ReadyJobs, engines: Callable[[EvalJob], int]) -> None:
        self._ready = ready
        self._engines = engines
        self._queues: dict[str, BatchQueue] = {}

    def __getitem__(self, engine_key: str) -> BatchQueue:
        if engine_key not in self._queues:
            self._queues[engine_key] = self._ready.queue(engine_key, self._engines)
        return self._queues[engine_key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ready.first_of_each())

    def __len__(self) -> int:
        return len(self._ready.first_of_each())

    @property
    def is_empty(self) -> bool:
        """Whether no batch waits; a queue that was never accessed is not empty."""
        return len(self._queues) == len(self) and not any(self._queues.values())


class ReadyJobs:
    """The jobs that may start now.

    Evaluated lazily: every step of a run offers the same jobs, up to tens of thousands. `groups` are their digests
    in order of preference, `position` is a job's index in that order. This object and its queues are views, invalid
    after a job's state has changed.
    """

    def __init__(
        self,
        groups: Mapping[JobGroup, Collection[str]],
        job_of: Callable[[str], BuildJob | EvalJob],
        position: Callable[[str], int],
    ) -> None:
        self._job_of = job_of
        self._position = position
        self._firsts: dict[str, EvalJob] | None = None
        self._builds: Collection[str] = ()
        self._engines: dict[str, list[tuple[str | None, Collection[str]]]] = {}
        for group, digests in groups.items():
            if group is None:
                self._builds = digests
            else:
                self._engines.setdefault(group[0], []).append((group[1], digests))

    @classmethod
    def of(cls, jobs: Sequence[BuildJob | EvalJob]) -> ReadyJobs:
        """The given jobs, in the given order."""
        groups: dict[JobGroup, list[str]] = {}
        for job in jobs:
            groups.setdefault(group_of(job), []).append(job.digest)
        positions = {job.digest: place for place, job in enumerate(jobs)}
        return cls(groups, {job.digest: job for job in jobs}.__getitem__, positions.__getitem__)

    def builds(self) -> Iterator[BuildJob]:
        """The ready builds."""
        for digest in self._builds:
            job = self._job_of(digest)
            assert isinstance(job, BuildJob)
            yield job

    def first_of_each(self) -> dict[str, EvalJob]:
        """The first evaluation for each engine, by `engine_key`, in order of preference."""
        if self._firsts is None:
            self._firsts = {k: self._eval(next(iter(groups[0][1]))) for k, groups in self._engines.items()}
        return self._firsts

    def all_for(self, engine_key: str) -> Iterator[EvalJob]:
        """All evaluations for one engine, group by group."""
        return (self._eval(digest) for _, digests in self._engines[engine_key] for digest in digests)

    def queues(self, engines: Callable[[EvalJob], int]) -> Queues:
        """One queue per engine key; `engines` gives how many engines may serve a job's key."""
        return Queues(self, engines)

    def queue(self, engine_key: str, engines: Callable[[EvalJob], int] = lambda job: 1) -> BatchQueue:
        """The queue of one engine key. Jobs that differ only in their layer path share batches.

        Batches are small enough to occupy all possible `engines`. A job that ran out of memory is retried with
        a smaller batch size, which then limits its batches.
        """
        groups = self._engines[engine_key]
        sizes = [1 if key is None else self._most(digests, engines) for key, digests in groups]
        count = sum(-(-len(digests) // most) for (_, digests), most in zip(groups, sizes, strict=True))
        return BatchQueue(lambda: self._batches(groups, sizes), count)

    def _most(self, digests: Collection[str], engines: Callable[[EvalJob], int]) -> int:
        """Maximum number of jobs per batch of one group."""
        first = self._eval(next(iter(digests)))
        share = -(-len(digests) // engines(first))
        return max(1, min(BATCH_JOBS, first.tuning.batch_size or BATCH_JOBS, share))

    def _batches(
        self, groups: Sequence[tuple[str | None, Collection[str]]], sizes: Sequence[int]
    ) -> Iterator[Batch]:
        parts = [
            self._singles(digests) if key is None else self._chunks(digests, most)
            for (key, digests), most in zip(groups, sizes, strict=True)
        ]
        return (batch for _, batch in heapq.merge(*parts, key=itemgetter(0)))

    def _singles(self, digests: Collection[str]) -> Iterator[tuple[int, Batch]]:
        return ((self._position(digest), (self._job_of(digest),)) for digest in digests)

    def _chunks(self, digests: Collection[str], most: int) -> Iterator[tuple[int, Batch]]:
        """Batches of a group, all at the position of its first job."""
        rest = iter(digests)
        position = self._position(next(iter(digests)))
        while chunk := tuple(self._job_of(digest) for digest in itertools.islice(rest, most)):
            yield position, chunk

    def _eval(self, digest: str) -> EvalJob:
        job = self._job_of(digest)
        assert isinstance(job, EvalJob)
        return job
