"""What an evaluation that may stop early needs from the store: the base's answers, or the whole evaluation if it is there."""

from __future__ import annotations

from orchestrator.plan.job import BaseSamples, BuildJob, EvalJob
from orchestrator.store import Store
from orchestrator.store.records import EvalOutcome


class BaseAnswers:
    """Looks up the base's samples once per base evaluation."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bases: dict[str, BaseSamples] = {}

    def of(self, job: BuildJob | EvalJob) -> tuple[BaseSamples | None, EvalOutcome | None]:
        """The base's samples for a job that may stop early, and its outcome if it was asked whole before; else None."""
        if not isinstance(job, EvalJob) or job.decide is None:
            return None, None
        against, whole = job.decide.against, job.whole.digest
        stored = self._store.outcomes([whole] if against in self._bases else [whole, against])
        if isinstance(base := stored.get(against), EvalOutcome):
            self._bases[against] = BaseSamples(path=base.samples_path, sha256=base.samples_sha256)
        outcome = stored.get(whole)
        return self._bases.get(against), outcome if isinstance(outcome, EvalOutcome) else None
