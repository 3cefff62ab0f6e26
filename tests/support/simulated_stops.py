"""A simulated executor whose merges answer the documents of a benchmark, in slices where they may stop early: real looks, no engine.

A merge knows a document if its skill is above the document's difficulty, so that merges differ document by document as paired answers do.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from evals.early import EarlyEvaluation
from evals.samples import write_samples
from evals.scores import Sample
from evals.stats.document_order import document_order
from evals.stats.paired import Documents
from evals.stats.resample import SubsetDocuments
from evals.stats.sequence import LookSequence
from evals.stats.stopping import Decision, look, prefix, score_look
from orchestrator.plan.job import Decide, EvalJob
from orchestrator.settings import Settings
from orchestrator.store.records import EarlyOutcome, EvalOutcome, Failure, FailureClass, Outcome
from tests.support.simulated_merges import SimulatedExecutor, Simulation, weights_of
from tests.support.store_data import HARDWARE, eval_outcome

NOISE = 0.1
"""Share of the documents that a merge answers by chance, its own in each merge."""


@dataclass
class StoppingSimulation(Simulation):
    """What all executors of one history share, with the answers of every evaluation."""

    answers: dict[str, list[float]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def executor(self, settings: Settings) -> SimulatedExecutor:
        return StoppingExecutor(settings, self)


class StoppingExecutor(SimulatedExecutor):
    """Engines that stop asking when the comparison is decided."""

    def __init__(self, settings: Settings, simulation: StoppingSimulation) -> None:
        super().__init__(settings, simulation)
        self._folder, self._history = settings.home, simulation

    def _evaluate(self, job: EvalJob) -> Outcome:
        weights = weights_of(job, self._history.recipes)
        skill = self._history.skill(weights)
        if skill is None:
            return Failure(failure_class=FailureClass.BAD_INPUT, message="Its weights do not add up.")
        answers = [
            _answer(skill, f"{job.weights_digest}", number) for number in range(job.settings.limit or 1)
        ]
        self._history.answers[job.digest] = answers
        sequence = self._sequence(job.decide, answers) if job.decide is not None else None
        self._history.asked[job.digest] = sequence.n if sequence is not None else len(answers)
        if sequence is not None and sequence.early:
            return _early(job, sequence)
        return self._whole(job, answers).model_copy(update={"sequence": sequence})

    def _sequence(self, decide: Decide, answers: list[float]) -> LookSequence:
        both = np.stack([self._history.answers[decide.against], answers], axis=1)[:, :, None]
        docs = Documents((SubsetDocuments("s", 0.0, both, np.ones((len(answers), 1))),), pooled=True)
        order = document_order([("s", n) for n in range(docs.n)], decide.plan.order_seed)
        looks = []
        for n in decide.plan.looks(docs.n):
            asked = prefix(docs, order[:n])
            looks.append(look(asked, docs.n, decide.plan.rule, n_draws=500))
            if looks[-1].decision is not Decision.OPEN:
                break
        documents = SubsetDocuments("s", 0.0, asked.subsets[0].values[:, 1:], np.ones((asked.n, 1)))
        score = score_look(Documents((documents,), pooled=True), docs.n)
        return LookSequence(plan=decide.plan, n_whole=docs.n, looks=tuple(looks), score=score)

    def _whole(self, job: EvalJob, answers: list[float]) -> EvalOutcome:
        path = self._folder / "samples" / f"{job.digest}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        common = {
            "benchmark": job.benchmark,
            "subset": "s",
            "prompt_hash": "p",
            "target": "1",
            "response": "",
            "extracted": None,
        }
        samples = [
            Sample(**common, doc_id=n, doc_hash=f"{n:016x}", metrics={"acc": value}, correct=value)
            for n, value in enumerate(answers)
        ]  # fmt: skip
        write_samples(path, samples)
        outcome = eval_outcome(job, value=sum(answers) / len(answers))
        checked = {"samples_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        return outcome.model_copy(update=checked)


def _answer(skill: float, owner: str, number: int) -> float:
    if random.Random(f"{owner} {number}").random() < NOISE:
        return float(random.Random(f"{number} {owner}").random() < 0.5)
    return float(random.Random(f"document {number}").random() < skill)


def _early(job: EvalJob, sequence: LookSequence) -> EarlyOutcome:
    now = datetime.now(UTC)
    early = EarlyEvaluation(
        suite=job.suite, benchmark=job.benchmark, title=job.benchmark, benchmark_digest=job.benchmark_digest, engine=job.engine,
        settings=job.settings, sequence=sequence, n_requests=sequence.n, n_replayed=0, duration_s=1.0,
    )  # fmt: skip
    return EarlyOutcome(early=early, hardware=HARDWARE, started_at=now, ended_at=now)
