"""The jobs that may start now, as an executor looks at them: by engine, batch by batch. Knows no Ray."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter

from orchestrator.plan.job import BuildJob, EvalJob

BATCH_JOBS = 32
"""Most jobs that one engine is given at once; what is lost when it dies."""

Batch = tuple[BuildJob | EvalJob, ...]
"""Jobs that start together: one, or several that differ in their layer path alone."""

JobGroup = tuple[str, str | None] | None
"""An evaluation's `engine_key` and `batch_key`; all builds are one group."""


def group_of(job: BuildJob | EvalJob) -> JobGroup:
    """The group in which a ready job waits."""
    return (job.engine_key, job.batch_key) if isinstance(job, EvalJob) else None


class BatchQueue:
    """The batches that wait for one engine, in order of preference: the first are looked at, the others only counted."""

    __slots__ = ("_ahead", "_batches", "_begin", "_count")

    def __init__(self, begin: Callable[[], Iterator[Batch]], count: int) -> None:
        """`begin` gives the batches, `count` of them, to the first who asks for one."""
        self._begin = begin
        self._count = count
        self._batches: Iterator[Batch] | None = None
        self._ahead: deque[Batch] = deque()

    def __len__(self) -> int:
        return self._count

    def ahead(self, count: int) -> list[Batch]:
        """The next batches, at most so many."""
        if self._batches is None:
            self._batches = self._begin()
        self._ahead.extend(itertools.islice(self._batches, max(0, count - len(self._ahead))))
        return list(itertools.islice(self._ahead, count))

    def take(self) -> Batch:
        """The next batch, which does not wait any more."""
        if not self._ahead:
            self.ahead(1)
        self._count -= 1
        return self._ahead.popleft()


class Queues(Mapping[str, BatchQueue]):
    """The queues of all engines by `engine_key`, in order of preference; each is made when it is looked at."""

    def __init__(self, ready: ReadyJobs, engines: Callable[[EvalJob], int]) -> None:
        self._ready = ready
        self._engines = engines
        self._made: dict[str, BatchQueue] = {}

    def __getitem__(self, engine_key: str) -> BatchQueue:
        if engine_key not in self._made:
            self._made[engine_key] = self._ready.queue(engine_key, self._engines)
        return self._made[engine_key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ready.first_of_each())

    def __len__(self) -> int:
        return len(self._ready.first_of_each())

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits any more; a queue that nobody has looked at has something in it."""
        return len(self._made) == len(self) and not any(self._made.values())


class ReadyJobs:
    """The jobs that may start now.

    Nothing is looked at that nobody asks for: the same jobs are offered at every step of a run, and there may be tens of
    thousands of them. `groups` are their digests in order of preference, `position` is a job's place in that order. It is a
    view, as its queues are: when a job's state changes it is void.
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
        """These jobs, in their order."""
        groups: dict[JobGroup, list[str]] = {}
        for job in jobs:
            groups.setdefault(group_of(job), []).append(job.digest)
        positions = {job.digest: place for place, job in enumerate(jobs)}
        return cls(groups, {job.digest: job for job in jobs}.__getitem__, positions.__getitem__)

    def builds(self) -> Iterator[BuildJob]:
        """The builds."""
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
        """What waits for each engine, of which there may be so many."""
        return Queues(self, engines)

    def queue(self, engine_key: str, engines: Callable[[EvalJob], int] = lambda job: 1) -> BatchQueue:
        """What waits for one engine. Jobs that differ in their layer path alone stand together, where the first of them does.

        They make enough batches for as many `engines` as there may be. A job that ran out of memory comes back with a smaller
        batch size, which bounds its batch from then on.
        """
        groups = self._engines[engine_key]
        sizes = [1 if key is None else self._most(digests, engines) for key, digests in groups]
        count = sum(-(-len(digests) // most) for (_, digests), most in zip(groups, sizes, strict=True))
        return BatchQueue(lambda: self._batches(groups, sizes), count)

    def _most(self, digests: Collection[str], engines: Callable[[EvalJob], int]) -> int:
        """Jobs of one group in a batch, at most."""
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
        """All batches of a group stand where its first job does."""
        rest = iter(digests)
        position = self._position(next(iter(digests)))
        while chunk := tuple(self._job_of(digest) for digest in itertools.islice(rest, most)):
            yield position, chunk

    def _eval(self, digest: str) -> EvalJob:
        job = self._job_of(digest)
        assert isinstance(job, EvalJob)
        return job
