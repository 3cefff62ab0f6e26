"""What an evaluation that may stop early needs from the store: the base's answers, or the whole evaluation if it is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evals.early import EarlyEvaluation
from evals.errors import EvaluationError, SamplesError, SuiteError
from evals.probes import get_probe
from evals.probes.race import part_of_samples
from evals.samples import StoredSamples
from evals.scores import Sample
from evals.stats.candidate_race import part_answers
from evals.stats.sequence import LookSequence
from evals.stats.stopping import Decision
from evals.suite import Benchmark, suite_with
from orchestrator.plan.durations import documents_of
from orchestrator.plan.job import BaseSamples, BuildJob, Decide, EvalJob
from orchestrator.provenance import hardware
from orchestrator.store import Store
from orchestrator.store.records import EarlyOutcome, EvalOutcome, Success


class BaseAnswers:
    """Looks up the base's samples once per base evaluation."""

    def __init__(self, store: Store, home: Path) -> None:
        self._store = store
        self._home = home
        self._bases: dict[str, BaseSamples] = {}

    def of(self, job: BuildJob | EvalJob) -> tuple[BaseSamples | None, EvalOutcome | EarlyOutcome | None]:
        """The base's samples for a job that may stop early, and its outcome if nothing has to be asked; else None.

        Nothing has to be asked if the whole evaluation is in the store, or if the candidate has left.
        """
        if not isinstance(job, EvalJob) or job.decide is None:
            return None, None
        against, after, whole = job.decide.against, job.decide.after, job.whole.digest
        asked = [whole, *([] if against in self._bases else [against]), *([after] if after else [])]
        stored = self._store.outcomes(asked)
        if isinstance(base := stored.get(against), EvalOutcome):
            self._bases[against] = BaseSamples(path=base.samples_path, sha256=base.samples_sha256)
        outcome = stored.get(whole)
        if job.decide.items is not None:
            return None, self._part(job, job.decide, outcome) if isinstance(outcome, EvalOutcome) else None
        if job.decide.part is not None:
            samples = self._bases.get(against)
            if not isinstance(outcome, EvalOutcome):
                return samples, None
            return samples, self._part_of_benchmark(job, samples, outcome)
        if isinstance(outcome, EvalOutcome):
            return self._bases.get(against), outcome
        reason = _left(stored.get(after)) if after else None
        return self._bases.get(against), _not_asked(job, job.decide, reason) if reason else None

    def _part(self, job: EvalJob, decide: Decide, whole: EvalOutcome) -> EarlyOutcome | None:
        """The answers to a part of a probe whose whole evaluation is in the store; None if its samples cannot be read."""
        assert decide.items is not None
        samples = self._read(job.whole.digest, whole.samples_path, whole.samples_sha256)
        if samples is None:
            return None
        part = part_of_samples(get_probe(job.benchmark), samples, decide.items)
        sequence = LookSequence(plan=decide.plan, n_whole=len(samples), looks=(), part=part)
        return _without_work(job, sequence)

    def _part_of_benchmark(
        self, job: EvalJob, base: BaseSamples | None, whole: EvalOutcome
    ) -> EarlyOutcome | None:
        """The answers to a part of a benchmark whose whole evaluation is in the store.

        None if they cannot be read, or make no part: the worker then asks for it and refuses the benchmark by name.
        """
        assert job.decide is not None
        benchmark = _benchmark(job)
        if benchmark is None or base is None or job.decide.part is None:
            return None
        before = self._read(job.decide.against, base.path, base.sha256)
        samples = self._read(job.whole.digest, whole.samples_path, whole.samples_sha256)
        if before is None or samples is None or not _comparable(before, samples):
            return None
        plan = job.decide.plan
        try:
            part = part_answers(benchmark, before, samples, job.decide.part, plan.order_seed)
        except EvaluationError:
            return None
        return _without_work(job, LookSequence(plan=plan, n_whole=len(samples), looks=(), part=part))

    def _read(self, digest: str, path: str, sha256: str) -> tuple[Sample, ...] | None:
        """Stored samples; None if they are missing or altered."""
        try:
            return StoredSamples(self._home, path, sha256, f"job {digest}").read()
        except SamplesError:
            return None


def _comparable(base: Sequence[Sample], candidate: Sequence[Sample]) -> bool:
    """Whether both answered the same documents, all by scores of given texts or all by generated text."""
    documents = [{(s.subset, s.doc_id, s.doc_hash) for s in samples} for samples in (base, candidate)]
    kinds = {(bool(s.choices), bool(s.logprobs)) for s in (*base, *candidate)}
    return documents[0] == documents[1] and len(kinds) == 1


def _left(outcome: Success | None) -> str | None:
    """Why a candidate has left after this outcome; None if it has not."""
    if isinstance(outcome, EarlyOutcome):
        sequence, title = outcome.early.sequence, outcome.early.title
    elif isinstance(outcome, EvalOutcome) and outcome.sequence is not None:
        sequence, title = outcome.sequence, outcome.evaluation.result.title
    else:
        return None
    if sequence.left is not None:
        return sequence.left
    return f"{title} {sequence.text}" if sequence.decision is Decision.WORSE else None


def _not_asked(job: EvalJob, decide: Decide, reason: str) -> EarlyOutcome:
    """The outcome of an evaluation of a candidate that has left."""
    n_whole = documents_of(job.suite, job.benchmark, job.settings.limit) or 0
    return _without_work(job, LookSequence(plan=decide.plan, n_whole=n_whole, looks=(), left=reason))


def _without_work(job: EvalJob, sequence: LookSequence) -> EarlyOutcome:
    early = EarlyEvaluation(
        suite=job.suite,
        benchmark=job.benchmark,
        title=_title(job),
        benchmark_digest=job.benchmark_digest,
        engine=job.engine,
        settings=job.settings,
        sequence=sequence,
        n_requests=0,
        n_replayed=0,
        duration_s=0.0,
    )
    now = datetime.now(UTC)
    return EarlyOutcome(early=early, hardware=hardware(), started_at=now, ended_at=now)


def _title(job: EvalJob) -> str:
    benchmark = _benchmark(job)
    return benchmark.title if benchmark is not None else job.benchmark


def _benchmark(job: EvalJob) -> Benchmark | None:
    try:
        return suite_with(job.suite, job.benchmark, job.benchmark_digest).benchmark(job.benchmark)
    except SuiteError:
        return None
