"""The jobs that may start now, as an executor looks at them: by engine, batch by batch. Knows no Ray."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter

from orchestrator.jobs import BuildJob, EvalJob

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

    def __init__(self, batches: Iterator[Batch], count: int) -> None:
        self._batches = batches
        self._count = count
        self._ahead: deque[Batch] = deque()

    def __len__(self) -> int:
        return self._count

    def ahead(self, count: int) -> list[Batch]:
        """The next batches, at most so many."""
        self._ahead.extend(itertools.islice(self._batches, max(0, count - len(self._ahead))))
        return list(itertools.islice(self._ahead, count))

    def take(self) -> Batch:
        """The next batch, which does not wait any more."""
        self._count -= 1
        return self._ahead.popleft() if self._ahead else next(self._batches)


class ReadyJobs:
    """The jobs that may start now.

    Nothing is looked at that nobody asks for: the same jobs are offered at every step of a run, and there may be tens of
    thousands of them. `groups` are their digests in order of preference, `position` is a job's place in that order.
    """

    def __init__(
        self,
        groups: Mapping[JobGroup, Collection[str]],
        jobs: Mapping[str, BuildJob | EvalJob],
        position: Callable[[str], int],
    ) -> None:
        self._jobs = jobs
        self._position = position
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
        return cls(groups, {job.digest: job for job in jobs}, positions.__getitem__)

    def builds(self) -> Iterator[BuildJob]:
        """The builds."""
        for digest in self._builds:
            job = self._jobs[digest]
            assert isinstance(job, BuildJob)
            yield job

    def first_of_each(self) -> dict[str, EvalJob]:
        """The first evaluation for each engine, by `engine_key`, in order of preference."""
        return {key: self._eval(next(iter(groups[0][1]))) for key, groups in self._engines.items()}

    def all_for(self, engine_key: str) -> Iterator[EvalJob]:
        """All evaluations for one engine, group by group."""
        return (self._eval(digest) for _, digests in self._engines[engine_key] for digest in digests)

    def queue(self, engine_key: str, engines: Callable[[EvalJob], int] = lambda job: 1) -> BatchQueue:
        """What waits for one engine, in the order of each batch's first job.

        Jobs that differ in their layer path alone make enough batches for as many `engines` as there may be. A job that ran
        out of memory comes back with a smaller batch size, which bounds its batch from then on.
        """
        count = 0
        parts: list[Iterator[tuple[int, Batch]]] = []
        for batch_key, digests in self._engines[engine_key]:
            if batch_key is None:
                count += len(digests)
                parts.append(self._singles(digests))
                continue
            first = self._eval(next(iter(digests)))
            most = max(
                1, min(BATCH_JOBS, first.tuning.batch_size or BATCH_JOBS, -(-len(digests) // engines(first)))
            )
            count += -(-len(digests) // most)
            parts.append(self._chunks(digests, most))
        merged = parts[0] if len(parts) == 1 else heapq.merge(*parts, key=itemgetter(0))
        return BatchQueue((batch for _, batch in merged), count)

    def _singles(self, digests: Collection[str]) -> Iterator[tuple[int, Batch]]:
        return ((self._position(digest), (self._jobs[digest],)) for digest in digests)

    def _chunks(self, digests: Collection[str], most: int) -> Iterator[tuple[int, Batch]]:
        """All batches of a group stand where its first job does."""
        rest = iter(digests)
        position = self._position(next(iter(digests)))
        while chunk := tuple(self._jobs[digest] for digest in itertools.islice(rest, most)):
            yield position, chunk

    def _eval(self, digest: str) -> EvalJob:
        job = self._jobs[digest]
        assert isinstance(job, EvalJob)
        return job
