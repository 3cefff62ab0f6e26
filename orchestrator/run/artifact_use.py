"""Leases that protect a run's artifacts from eviction until the last evaluation that needs them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.plan.job import BuildJob, EvalJob
from recipes.artifact import ArtifactLeases, ArtifactStore
from recipes.errors import ArtifactError


class ArtifactUse:
    """Artifact leases held by one run's driver."""

    def __init__(self, store: ArtifactStore) -> None:
        self._leases = ArtifactLeases(store)
        self._waiting: dict[str, set[str]] = {}

    def begin(self, jobs: Mapping[str, BuildJob | EvalJob], done: Collection[str]) -> set[str]:
        """Lease the built artifacts that open jobs need; returns the digests of those that were evicted."""
        for digest, job in jobs.items():
            if digest not in done:
                for artifact in job.artifacts:
                    self._waiting.setdefault(artifact, set()).add(digest)
        return {artifact for artifact in self._waiting if artifact in done and not self.built(artifact)}

    def built(self, artifact: str) -> bool:
        """Lease an artifact if jobs wait for it; False if it does not exist."""
        if self._waiting.get(artifact):
            try:
                self._leases.acquire(artifact)
            except ArtifactError:
                return False
        return True

    def ended(self, digest: str, job: BuildJob | EvalJob) -> None:
        """Release the artifacts that only this job still needed."""
        for artifact in job.artifacts:
            waiting = self._waiting.get(artifact, set())
            waiting.discard(digest)
            if not waiting:
                self._leases.release(artifact)

    def close(self) -> None:
        """Release all leases."""
        self._leases.close()
