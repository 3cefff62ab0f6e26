"""The jobs of one run: what each asks, their states, and which of them are in the store already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.cluster import JobGroup, ReadyJobs, group_of
from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.plan.plan import Plan
from orchestrator.run.artifact_use import ArtifactUse
from orchestrator.run.job_state import Frontier, NodeState, RunJob, job_labels
from orchestrator.store import Store

_NO_JOBS: Mapping[str, EvalJob] = {}


class RunJobs(Mapping[str, RunJob]):
    """Jobs by digest; jobs may join while the run goes on."""

    def __init__(self, store: Store, artifacts: ArtifactUse, plan: Plan) -> None:
        self._store = store
        self._artifacts = artifacts
        labels = job_labels(plan)
        self._jobs = {digest: RunJob(job, labels[digest]) for digest, job in plan.jobs.items()}
        self.frontier: Frontier[JobGroup] = Frontier({}, group=self._group, waits=self._waits)
        """States of the jobs; without jobs until `begin`."""
        self.cached = 0
        """Number of jobs that were in the store when they joined."""

    def __getitem__(self, digest: str) -> RunJob:
        return self._jobs[digest]

    def __iter__(self) -> Iterator[str]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def job(self, digest: str) -> BuildJob | EvalJob:
        """What a job asks."""
        return self._jobs[digest].job

    @property
    def ready(self) -> ReadyJobs:
        """The jobs that may start."""
        return ReadyJobs(self.frontier.ready(), self.job, self.frontier.position)

    @property
    def failed(self) -> dict[str, str]:
        """Digest and message of each job that failed finally."""
        return {digest: state.message for digest, state in self._jobs.items() if state.message is not None}

    def begin(self, order: Iterable[str]) -> None:
        """Make the plan's jobs ready in this order; those in the store are done."""
        jobs = {digest: self.job(digest) for digest in self._jobs}
        done = self._done(jobs)
        self.cached = len(done)
        needs = {digest: jobs[digest].needs for digest in order}
        self.frontier.add(needs, [digest for digest in jobs if digest in done])

    def join(
        self,
        jobs: Mapping[str, BuildJob | EvalJob],
        labels: Mapping[str, str],
        changed: Mapping[str, EvalJob] = _NO_JOBS,
    ) -> dict[str, BuildJob | EvalJob]:
        """Take those of these jobs that are new, and return them; those in the store are done at once.

        `changed` are jobs of the run that need further artifacts. Nothing is taken if the store raises an error.
        """
        new = {digest: job for digest, job in jobs.items() if digest not in self._jobs}
        done = self._done_again({**new, **changed}) & new.keys()
        self._jobs |= {digest: RunJob(job, labels[digest]) for digest, job in new.items()}
        self.cached += len(done)
        # What another process evaluated of this run is done, and unknown here.
        needs = {digest: [n for n in job.needs if n in self._jobs] for digest, job in new.items()}
        self.frontier.add(needs, done)
        return new

    def _done(self, jobs: Mapping[str, BuildJob | EvalJob]) -> set[str]:
        """Digests of the jobs that are in the store; builds with an evicted artifact are open if still needed."""
        done = set(self._store.done(jobs))
        evicted = self._artifacts.begin(jobs, done)
        if evicted:
            self._store.forget_builds(evicted)
            done -= evicted
        return done

    def _done_again(self, jobs: Mapping[str, BuildJob | EvalJob]) -> set[str]:
        """Digests of these jobs that are in the store; earlier builds that they need, and whose artifact was evicted, are open again."""
        artifacts = {artifact for job in jobs.values() for artifact in job.artifacts}
        earlier = {artifact: self.job(artifact) for artifact in artifacts if artifact in self._jobs}
        done = self._done({**earlier, **jobs})
        for digest in earlier:
            if digest not in done and self.frontier.state(digest) is NodeState.DONE:
                self.frontier.reopen(digest)
        return done

    def _waits(self, digest: str) -> tuple[str, ...]:
        return self.job(digest).waits

    def _group(self, digest: str) -> JobGroup:
        return group_of(self.job(digest))
