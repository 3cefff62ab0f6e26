"""Opens the inputs of a worker's jobs, and verifies each against the digests of the plan."""

from __future__ import annotations

from pathlib import Path

from evals.datasets import find_dataset, require_content
from evals.probes import get_probe
from evals.suite import suite_with
from evals.task_files import task_digest
from orchestrator.errors import PlanOutdated
from orchestrator.plan.job import CheckpointPlace, EvalJob, LiveMerge
from orchestrator.provenance import libraries_identity, scorer_identity
from orchestrator.settings import WorkerContext
from recipes.artifact import ArtifactLeases, ArtifactStore
from recipes.errors import ArtifactError
from recipes.merge import MergedWeights, StoredWeights
from recipes.verification import verified_source


class Inputs:
    """Checkpoints, data and definitions of one worker's jobs; artifacts are leased until `release`."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._artifacts = ArtifactStore(context.home_path / "artifacts")
        self._leases = ArtifactLeases(self._artifacts)

    def checkpoint(self, place: CheckpointPlace, weights_digest: str) -> Path:
        """Directory of a job's checkpoint on this node.

        Raises CheckpointChanged or ArtifactChanged if its files are not the planned or built ones.
        """
        if place.name is not None:
            return verified_source(place.name, weights_digest, home=self._context.home_path)
        digest = place.artifact or ""
        if self._artifacts.lookup(digest) is None:
            raise ArtifactError(
                f"The built checkpoint {digest} is not under {self._context.home} on this node; "
                "every node must mount the same MERGEBOARD_HOME (`mergeboard doctor --address` checks it)."
            )
        self._leases.acquire(digest)
        return self._artifacts.verify(digest).path

    def weights(self, live: LiveMerge) -> MergedWeights | StoredWeights:
        """The weights that an engine takes over, their files verified.

        Raises CheckpointChanged or ArtifactChanged if the files are not the planned or built ones.
        """
        if not live.from_files:
            return self.merged(live, live.weights_digest)
        directory = self.checkpoint(CheckpointPlace(artifact=live.build.digest), "")
        return StoredWeights(directory=directory, digest=live.weights_digest)

    def merged(self, live: LiveMerge, digest: str) -> MergedWeights:
        """The weights of a recipe's result, its sources verified. Raises CheckpointChanged if a source is not the planned one."""
        job, home = live.build, self._context.home_path
        return MergedWeights(
            recipe=job.recipe,
            digest=digest,
            sources=tuple(
                (
                    s.name,
                    verified_source(s.place, s.weights_digest, home=home, allow_pickles=job.allow_pickles),
                )
                for s in job.sources
            ),
            seed=job.seed,
            trust_remote_code=job.trust_remote_code,
            keep_bytes=self._context.merge_memory_bytes,
        )

    def require_planned(self, job: EvalJob, mirror: Path | None) -> None:
        """Raise PlanOutdated or DatasetChanged if this node's definitions or data differ from the plan."""
        if job.is_probe:
            self._require(job, get_probe(job.benchmark).digest, f"{job.suite} {libraries_identity()}")
            return
        benchmark = suite_with(job.suite, job.benchmark, job.benchmark_digest).benchmark(job.benchmark)
        self._require(job, benchmark.digest, scorer_identity(task_digest(benchmark)))
        require_content(find_dataset(benchmark, mirror), benchmark, job.dataset_digest)

    def release(self) -> None:
        """Release the leases of artifacts."""
        self._leases.close()
        self._leases = ArtifactLeases(self._artifacts)

    @staticmethod
    def _require(job: EvalJob, definition: str, scorer: str) -> None:
        if job.benchmark_digest != definition:
            raise PlanOutdated(
                f"This node defines {job.suite}/{job.benchmark} otherwise than the plan does: install the same mergeboard on "
                "every node, or run the plan again."
            )
        if job.scorer != scorer:
            raise PlanOutdated(
                f"This node would score {job.suite}/{job.benchmark} with other versions than were planned "
                f"({_difference(job.scorer, scorer)}): install the same packages on every node, or run the plan again."
            )


def _difference(planned: str, local: str) -> str:
    """The parts of two scorer lines that differ."""
    before, after = set(planned.split()), set(local.split())
    return f"planned {' '.join(sorted(before - after)) or 'less'}, here {' '.join(sorted(after - before)) or 'less'}"
