"""Keeps a run's artifacts from being evicted, from their build to the last evaluation that opens them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.plan.job import BuildJob, EvalJob
from recipes.artifact import ArtifactLeases, ArtifactStore
from recipes.errors import ArtifactError


class ArtifactUse:
    """The leases of one run's driver."""

    def __init__(self, store: ArtifactStore) -> None:
        self._leases = ArtifactLeases(store)
        self._waiting: dict[str, set[str]] = {}

    def begin(self, jobs: Mapping[str, BuildJob | EvalJob], done: Collection[str]) -> set[str]:
        """Lease what jobs that are not done need and what is built; the digests of builds that were evicted."""
        for digest, job in jobs.items():
            if digest not in done:
                for artifact in job.needs:
                    self._waiting.setdefault(artifact, set()).add(digest)
        return {artifact for artifact in self._waiting if artifact in done and not self.built(artifact)}

    def built(self, artifact: str) -> bool:
        """Lease an artifact that jobs wait for; False where it is not there."""
        if self._waiting.get(artifact):
            try:
                self._leases.acquire(artifact)
            except ArtifactError:
                return False
        return True

    def ended(self, digest: str, job: BuildJob | EvalJob) -> None:
        """A job needs nothing any more."""
        for artifact in job.needs:
            waiting = self._waiting.get(artifact, set())
            waiting.discard(digest)
            if not waiting:
                self._leases.release(artifact)

    def close(self) -> None:
        """Give up all leases."""
        self._leases.close()
