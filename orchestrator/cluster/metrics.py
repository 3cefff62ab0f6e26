"""Metrics for the operators of a cluster, on Ray's Prometheus endpoint (`ray start --metrics-export-port`).

| metric                       | labels               | what it counts                                              |
| ---------------------------- | -------------------- | ----------------------------------------------------------- |
| mergeboard_jobs_finished     | run, kind            | jobs whose outcome was stored                               |
| mergeboard_requests          | run                  | requests that engines answered, the journal's left out      |
| mergeboard_tokens            | run                  | tokens that engines read and wrote                          |
| mergeboard_failures          | run, failure_class   | attempts that failed, by class; and times a store was lost  |
| mergeboard_jobs              | run, state           | jobs by state now                                           |
"""

from __future__ import annotations

from collections.abc import Mapping

import ray
from ray.util.metrics import Counter, Gauge

from orchestrator.plan.job import BuildJob, EvalJob
from orchestrator.store.records import EvalOutcome, FailureClass, Success, job_kind


class RunMetrics:
    """Counts one run's jobs, requests, tokens and failures; implements run.progress.Observer."""

    def __init__(self, run_id: str) -> None:
        self._run = {"run": run_id}
        self._tokens_of: dict[str, int] = {}
        self._registered: tuple[Counter, Counter, Counter, Counter, Gauge] | None = None

    def finished(self, job: BuildJob | EvalJob, outcome: Success) -> None:
        """Count a job whose outcome has been stored."""
        jobs, requests, *_ = self._metrics()
        jobs.inc(1, {**self._run, "kind": job_kind(job).value})
        if isinstance(outcome, EvalOutcome):
            answered = outcome.evaluation.n_requests - outcome.evaluation.n_replayed
            if answered > 0:
                requests.inc(answered, self._run)

    def failed(self, failure_class: FailureClass) -> None:
        """Count a failed attempt, or a lost store."""
        self._metrics()[3].inc(1, {**self._run, "failure_class": failure_class.value})

    def update(self, jobs_by_state: Mapping[str, int], tokens_by_job: Mapping[str, int]) -> None:
        """Set the jobs by state, and count the tokens of each running job."""
        if not ray.is_initialized():
            return
        _, _, tokens, _, by_state = self._metrics()
        for digest, count in tokens_by_job.items():
            new = count - self._tokens_of.get(digest, 0)
            if new > 0:
                tokens.inc(new, self._run)
            self._tokens_of[digest] = count
        for state, number in jobs_by_state.items():
            by_state.set(number, {**self._run, "state": state})

    def _metrics(self) -> tuple[Counter, Counter, Counter, Counter, Gauge]:
        """The metrics, created on first use, when Ray is connected."""
        if self._registered is None:
            self._registered = (
                Counter("mergeboard_jobs_finished", "Jobs whose outcome was stored.", ("run", "kind")),
                Counter("mergeboard_requests", "Requests that engines answered.", ("run",)),
                Counter("mergeboard_tokens", "Tokens that engines read and wrote.", ("run",)),
                Counter("mergeboard_failures", "Attempts that failed.", ("run", "failure_class")),
                Gauge("mergeboard_jobs", "Jobs by state now.", ("run", "state")),
            )
        return self._registered
